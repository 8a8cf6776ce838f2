"""Checkpoints: weights, optimiser and step, in safetensors and JSON, complete or absent.

Nothing else is needed to go on exactly: the data order, the rollouts' random numbers, the dropout and the learning rate
are functions of the seed and the step.
"""

from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from esr.config import Config
from esr.errors import UserError
from esr.models.adapters import fill
from esr.models.lm import LM
from esr.models.load import load_student
from esr.models.sharded import load_whole, part_of, sharded, whole, whole_weights
from esr.ranks import here
from esr.records.base import FORMAT_VERSION
from esr.records.steps import step_of
from esr.runs.files import new_directory, read_json, write_json
from esr.runs.rundir import STATE, RunDir

OPTIMIZER = "optimizer.safetensors"
KEEP_OPTIMIZERS = 2
"""Newest checkpoints that keep their optimiser state; older ones keep only their weights."""


def save(run: RunDir, student: LM, optimizer: torch.optim.Optimizer, step: int) -> Path:
    """Write `checkpoints/step-NNNNNN` (`adapter/` or `model/`, the optimiser, `state.json`); rank 0 does so for all."""
    target, state = run.checkpoint(step), _optimizer_tensors(student.module, optimizer)
    weights = whole_weights(student.module) if sharded(student) else None
    if not here().first:
        return target
    run.sync_logs()
    with new_directory(target) as folder:
        save_weights(student, folder, weights)
        save_file(state, folder / OPTIMIZER)
        write_json(folder / STATE, {"format_version": FORMAT_VERSION, "step": step})
    for old in run.checkpoints()[:-KEEP_OPTIMIZERS]:
        (old / OPTIMIZER).unlink(missing_ok=True)
    return target


def save_weights(student: LM, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """The trained weights: a PEFT adapter in `adapter/`, or the whole model in `model/`, under the module's own names.

    `weights` are those of a model that is split over the ranks, gathered.
    """
    if isinstance(student.module, peft.PeftModel):
        student.module.save_pretrained(
            str(folder / "adapter"),
            selected_adapters=[student.adapter],
            save_embedding_layers=False,  # type: ignore[list-item]
        )
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        return
    (folder / "model").mkdir(parents=True)
    file = folder / "model" / "model.safetensors"
    if weights is None:
        save_model(student.module, str(file))
    else:
        save_file(weights, file)


def load_weights(student: LM, checkpoint: Path) -> None:
    """Put a checkpoint's trained weights into the student. Raises `UserError` unless it holds exactly the student's tensors."""
    try:
        if isinstance(student.module, peft.PeftModel):
            state = load_file(checkpoint / "adapter" / "adapter_model.safetensors", device=str(student.device))
            fill(student.module, student.adapter or "default", state, str(checkpoint))
        elif sharded(student):
            load_whole(student.module, checkpoint / "model" / "model.safetensors")
        else:
            load_model(student.module, checkpoint / "model" / "model.safetensors", device=str(student.device))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{checkpoint}: damaged checkpoint ({reason}); remove that directory to go on from the one before."
        ) from None


def load(student: LM, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    """Restore weights and optimiser; returns the step they belong to."""
    step = _stated_step(checkpoint)
    load_weights(student, checkpoint)
    try:
        tensors = load_file(checkpoint / OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{checkpoint}: no usable optimiser state ({error}); put a copy in its place, or remove that directory to go on from "
            f"the one before (the newest {KEEP_OPTIMIZERS} keep theirs)."
        ) from None
    _restore_optimizer(student.module, optimizer, tensors, checkpoint)
    return step


def _stated_step(checkpoint: Path) -> int:
    """The step that a checkpoint's `state.json` states. Raises `UserError` if its directory's name says another."""
    step = read_json(checkpoint / STATE).get("step")
    if not isinstance(step, int) or step != step_of(checkpoint.name):
        raise UserError(
            f"{checkpoint}: its state.json is of step {step}, not of the step in its name; remove that directory to go on "
            "from the one before."
        )
    return step


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by parameter name."""
    names: dict[Tensor, str] = {p: n for n, p in module.named_parameters()}
    return {
        f"{names[p]}:{key}": whole(value).contiguous()
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }


def _restore_optimizer(
    module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], where: Path
) -> None:
    parameters = dict(module.named_parameters())
    strangers = {name.rpartition(":")[0] for name in tensors} - parameters.keys()
    if strangers:
        raise UserError(
            f"{where}: its optimiser state is of other weights ({min(strangers)}); use --fresh to start anew."
        )
    for name, value in tensors.items():
        parameter, _, key = name.rpartition(":")
        state: dict[str, Any] = optimizer.state[parameters[parameter]]
        state[key] = value if key == "step" else part_of(value, parameters[parameter])


def load_trained(config: Config, saved: Path, device: torch.device, terminators: tuple[int, ...]) -> LM:
    """The student with a checkpoint's weights, to sample from."""
    student = load_student(config.student, device, terminators, config.run.seed)
    load_weights(student, saved)
    return student
