"""The model card of a lab model."""

from __future__ import annotations

from dataclasses import asdict

from esr.lab.recipes import Recipe


def model_card(name: str, recipe: Recipe, scores: dict[str, float] | None = None) -> str:
    """Markdown: what the model is, its recipe and, once measured, its scores."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in asdict(recipe).items() if key != "about")
    return f"# lab:{name}\n\n{recipe.about}\n\n| recipe | |\n|---|---|\n{rows}\n"
