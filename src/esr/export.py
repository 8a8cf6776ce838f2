"""A trained student as a model directory that plain transformers (or PEFT) loads, with a model card."""

from pathlib import Path
from typing import Any

import peft
import torch

from esr.card import card
from esr.config import Config
from esr.errors import UserError
from esr.models import checkpoint
from esr.models.checkpoint import find_checkpoint
from esr.models.lm import resolve_dtype
from esr.models.load import load_generation_config, load_student, load_tokenizer, quiet
from esr.runs.files import new_directory, write_text
from esr.runs.rundir import RunDir


def export(run: RunDir, target: Path, step: int | None, kind: str) -> Path:
    """Write the student of `step` (default: the last checkpoint) to `target`, whole or not at all.

    `kind`: `merged` is a full model, `adapter` a PEFT adapter. Raises `UserError` if that cannot be had.
    """
    if target.exists():
        raise UserError(f"{target} exists already; choose another directory.")
    config = run.config()
    saved = find_checkpoint(run, step)
    if kind == "adapter" and not (saved / "adapter").exists():
        raise UserError(f"{run.path} trained the full model, so there is no adapter to export; leave out --adapter.")
    tokenizer = load_tokenizer(config.student)
    with new_directory(target) as folder:
        if kind == "adapter":
            for file in (saved / "adapter").iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
        else:
            with quiet():
                merged(config, saved).save_pretrained(folder)
            load_generation_config(config.student).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", card(config, run.evaluations(), saved.name, kind == "adapter", target.name))
    return target


def merged(config: Config, saved: Path) -> Any:
    """The trained model without adapters, in the type it was configured with."""
    device = torch.device("cpu")
    dtype = resolve_dtype(config.student.dtype, device)
    student = load_student(config.student, device, (), config.run.seed)
    checkpoint.load_weights(student, saved)
    module = student.module
    if isinstance(module, peft.PeftModel):
        module = module.merge_and_unload()
    return module.to(dtype)
