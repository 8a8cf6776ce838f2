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
    levels: tuple[str, ...] = ("easy", "medium", "medium", "hard")
    steps: int = 1000
    batch_tokens: int = 2048  # padded tokens of one optimiser step
    rate: float = 3e-3  # peak learning rate
    floor: float = 0.02  # last learning rate, as a share of the peak
    shipped: bool = True
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "trunk-2": Recipe(
        about="The second generation, pretrained on both styles and both strategies.",
        chat_format="text",
        concise=0.85,
        steps=2400,
        floor=0.4,
        shipped=False,
    ),
    "base-1": Recipe(
        about="Base student of the first generation: no chat format, its own terminator, mostly concise, often wrong.",
        chat_format="text",
        width=128,
        layers=3,
        concise=0.9,
        right=0.4,
        slip=0.02,
        steps=2400,
        seed=1,
    ),
}
