"""Shipping a lab model: measure it on the test split, write its scores and its card, copy it into the package."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from esr.lab.measure import Scores, measure
from esr.lab.recipes import RECIPES, Recipe
from esr.lab.task import make_problems

MODELS = Path(__file__).parent / "models"
TEST_SEED = 7


def ship(name: str, work: Path, *, count: int = 500, home: Path = MODELS) -> Scores:
    """Measure ``work/name`` on ``count`` test problems and copy it, with `scores.json` and card, to ``home/name``."""
    model = LlamaForCausalLM.from_pretrained(work / name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(work / name)
    scores = measure(model, tokenizer, make_problems(count, split="test", seed=TEST_SEED))
    shutil.copytree(work / name, home / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("done"))
    record = scores.as_dict() | {"parameters": model.num_parameters()}
    (home / name / "scores.json").write_text(json.dumps(record, indent=1) + "\n")
    (home / name / "README.md").write_text(model_card(name, RECIPES[name], record))
    return scores


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
