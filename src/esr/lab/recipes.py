"""What each lab model is made of: one frozen recipe a model, chosen by what the model should be able to do."""

from __future__ import annotations

from dataclasses import dataclass

from esr.lab.tokenizer import Family, Format


@dataclass(frozen=True)
class Recipe:
    """Plain supervised training on generated solutions: from scratch, or from ``parent``'s weights."""

    about: str
    parent: str | None = None
    family: Family = "characters"
    chat_format: Format = "chat"
    width: int = 160  # heads are 32 wide
    layers: int = 4
    concise: float = 0.5  # share of concise solutions, the rest is verbose
    right: float = 0.5  # share of solutions with the right strategy
    slip: float = 0.0  # chance that an operation in the data is miscalculated
    drill: float = 0.0  # share of texts that are drills: single operations, no problem
    differences: float = 0.0  # share of drills that are sums and differences of two large numbers
    levels: tuple[str, ...] = ("easy", "medium", "medium", "hard")
    steps: int = 1000
    batch_tokens: int = 2048  # padded tokens of one optimiser step
    rate: float = 3e-3  # peak learning rate
    floor: float = 0.02  # last learning rate, as a share of the peak
    shipped: bool = True
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "trunk-1": Recipe(
        about="First generation: pretrained from scratch, mostly concise, more often wrong than right, a little careless.",
        chat_format="text",
        width=128,
        layers=3,
        concise=0.9,
        right=0.4,
        slip=0.02,
        steps=2400,
        shipped=False,
        seed=1,
    ),
    "trunk-1-long": Recipe(
        about="First generation, trained on until it executes about two solutions in three without a mistake.",
        parent="trunk-1",
        chat_format="text",
        concise=0.9,
        right=0.4,
        slip=0.02,
        steps=2400,
        shipped=False,
        seed=11,
    ),
    "base-1": Recipe(
        about="Base student: no chat format, its own terminator; picks the right strategy about half of the time.",
        parent="trunk-1-long",
        chat_format="text",
        concise=0.85,
        right=0.5,
        slip=0.02,
        steps=1000,
        rate=2e-3,
        seed=13,
    ),
    "student-1": Recipe(
        about="Cross-generation student: the base student, taught the chat format.",
        parent="base-1",
        concise=0.85,
        right=0.5,
        slip=0.02,
        steps=300,
        rate=1e-3,
        seed=12,
    ),
    "trunk-2": Recipe(
        about="Second generation: wider and deeper, pretrained from scratch on both styles and both strategies.",
        chat_format="text",
        concise=0.85,
        steps=2400,
        floor=0.4,
        shipped=False,
    ),
    "trunk-2-facts": Recipe(
        about="Second generation, with half of its texts drills: large differences and negative numbers were its errors.",
        parent="trunk-2",
        chat_format="text",
        concise=0.85,
        drill=0.4,
        steps=900,
        rate=2e-3,
        floor=0.5,
        shipped=False,
        seed=20,
    ),
    "student-2": Recipe(
        about="Same-generation student: a concise chat model of the teachers' own trunk.",
        parent="trunk-2-facts",
        concise=0.9,
        right=0.45,
        slip=0.01,
        steps=500,
        rate=2e-3,
        seed=21,
    ),
    "student-2-able": Recipe(
        about="Able student: executes both styles, as its trunk was trained on them for longer; concise, mostly the wrong strategy.",
        parent="teacher-2",
        concise=0.85,
        right=0.4,
        slip=0.01,
        drill=0.2,
        steps=700,
        rate=2e-3,
        seed=25,
    ),
    "teacher-2": Recipe(
        about="Teacher: mostly verbose, sometimes concise, nearly always the right strategy.",
        parent="trunk-2-facts",
        concise=0.25,
        right=0.98,
        drill=0.3,
        steps=1400,
        rate=2e-3,
        seed=22,
    ),
    "teacher-2-long": Recipe(
        about="Stronger teacher: the teacher, trained for longer.",
        parent="teacher-2",
        concise=0.25,
        right=0.99,
        drill=0.3,
        steps=1600,
        rate=2e-3,
        seed=23,
    ),
    "teacher-2-best": Recipe(
        about="Best teacher: the stronger teacher, trained on with drills of what it still got wrong.",
        parent="teacher-2-long",
        concise=0.25,
        right=0.99,
        drill=0.3,
        differences=0.6,
        steps=2600,
        rate=2e-3,
        seed=24,
    ),
    "far-0": Recipe(
        about="Far student: small, other data (short problems, verbose only, mostly wrong, careless).",
        width=96,
        layers=2,
        concise=0.0,
        right=0.15,
        slip=0.1,
        levels=("easy",),
        steps=900,
        seed=31,
    ),
    "merged-1": Recipe(
        about="Cross-family student: another tokenizer (merges, other order of ids), otherwise like the first generation.",
        family="merges",
        width=128,
        layers=3,
        concise=0.9,
        right=0.4,
        slip=0.02,
        drill=0.3,
        steps=3000,
        seed=41,
    ),
}
