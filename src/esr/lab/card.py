"""Shipping a lab model: measure it on the test split, write its scores and its card, copy it into the package."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open

from esr.lab.measure import Scores, measure
from esr.lab.recipes import RECIPES, Recipe

MODELS = Path(__file__).parent / "models"


def ship(name: str, work: Path, *, count: int = 500, home: Path = MODELS) -> Scores:
    """Measure ``work/name`` on ``count`` test problems and copy it, with scores, training curve and card, to ``home/name``."""
    scores = measure(work / name, count=count)
    shutil.copytree(work / name, home / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("done"))
    shutil.copyfile(work / f"{name}.run" / "curve.jsonl", home / name / "curve.jsonl")
    record = scores.as_dict() | {"parameters": parameters(work / name)}
    (home / name / "scores.json").write_text(json.dumps(record, indent=1) + "\n")
    (home / name / "README.md").write_text(model_card(name, RECIPES[name], record))
    return scores


def parameters(folder: Path) -> int:
    """Weights in a model directory (a tied head counts once)."""
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


def shipped(home: Path = MODELS) -> dict[str, dict[str, object]]:
    """The scores of every shipped model, by name, in the order of the recipes."""
    return {
        name: json.loads((home / name / "scores.json").read_text())
        for name in RECIPES
        if (home / name / "scores.json").exists()
    }


def model_card(name: str, recipe: Recipe, scores: dict[str, object] | None = None) -> str:
    """Markdown: what the model is, its scores once measured, and its recipe."""
    parts = [f"# lab:{name}", recipe.about, "A toy of the `esr` lab, good for nothing but measuring distillation."]
    if scores:
        about = "Test split, level medium, one sample a problem, temperature 0.7, top-p 0.95; interval 95% (Wilson)."
        parts.append(f"{about}\n\n{_table(scores)}")
    parts.append(f"Rebuild: `esr lab build {name}`.\n\n{_table(asdict(recipe))}")
    return "\n\n".join(parts) + "\n"


def _table(rows: dict[str, object]) -> str:
    cells = ((key, f"{value:.3f}" if isinstance(value, float) else value) for key, value in rows.items())
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in cells if key != "about")
