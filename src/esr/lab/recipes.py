"""What each lab model is made of: one frozen recipe a model. Recipes are chosen by what a model should be able to do."""

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
    width: int = 192  # heads are 64 wide
    layers: int = 4
    concise: float = 0.5  # share of concise solutions, the rest is verbose
    right: float = 0.5  # share of solutions with the right strategy
    slip: float = 0.0  # chance that an operation in the data is miscalculated
    levels: tuple[str, ...] = ("easy", "medium", "medium", "hard")
    steps: int = 1000
    rate: float = 2e-3  # peak learning rate
    floor: float = 0.02  # last learning rate, as a share of the peak
    shipped: bool = True
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "trunk-2": Recipe(
        about="second generation, pretrained on both styles and both strategies; parent of the models named -2",
        chat_format="text",
        concise=0.65,
        steps=1300,
        floor=0.5,
        shipped=False,
    ),
}
