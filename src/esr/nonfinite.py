"""A step whose loss or gradient is not finite: tried once more with other kernels, kept so that it can be repeated."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from esr.errors import RunStopped
from esr.method.tensors import PositionStats
from esr.microbatch import Batch
from esr.runs.files import write_json

R = TypeVar("R")


class NotFinite(RunStopped):
    """A loss or gradient is not finite; the weights have not changed. Holds the micro-batch in which it was noticed."""

    def __init__(self, what: str, where: str, index: int, part: Batch):
        sides = (part.student_prompts, part.positions.student), (part.teacher_prompts, part.positions.teacher)
        widths = [prompts.ids.shape[1] + rollout.response_ids.shape[1] for prompts, rollout in sides]
        super().__init__(
            f"The {what} of step {index + 1} is not finite: response to problem {where} (micro-batch of "
            f"{len(part.keys)} rows, {widths[0]} tokens wide for the student, {widths[1]} for the teacher)."
        )
        self.step, self.part, self.widths = index + 1, part, widths
        self.made_from = what, where, index, part

    def __reduce__(self) -> tuple[type["NotFinite"], tuple[str, str, int, Batch]]:
        return NotFinite, self.made_from

    def keep(self, file: Path) -> Path:
        """Write the micro-batch to `file`, and what is known of it beside it; returns the file.

        With the checkpoint of the step before, that is all that repeats it."""
        file.parent.mkdir(exist_ok=True)
        part = self.part
        tensors = {
            "response_ids": part.rollout.response_ids,
            "response_mask": part.rollout.response_mask,
            "student_ids": part.student_prompts.ids,
            "student_mask": part.student_prompts.mask,
            "read_ids": part.positions.teacher.response_ids,
            "read_mask": part.positions.teacher.response_mask,
            "teacher_ids": part.teacher_prompts.ids,
            "teacher_mask": part.teacher_prompts.mask,
            "noise": part.noise,
            "dropout": part.dropout,
        }
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, file)
        facts = {"step": self.step, "message": str(self), "problems": part.keys, "widths": self.widths}
        write_json(file.with_suffix(".json"), {**facts, "torch": torch.__version__})
        return file


def with_other_kernels(attempt: Callable[[int], R], notify: Callable[[str], None]) -> Callable[[int], R]:
    """`attempt`, and where something in it is not finite once more with attention's plain kernels."""

    def twice(budget: int) -> R:
        try:
            return attempt(budget)
        except NotFinite as error:
            notify(f"{error} It is done again with other attention kernels.")
            with sdpa_kernel(SDPBackend.MATH):
                return attempt(budget)

    return twice


def not_finite(scores: PositionStats, module: nn.Module, index: int, part: Batch) -> NotFinite | None:
    """What is not finite after a micro-batch's backward pass, if anything: the divergence somewhere, or a gradient."""
    bad = ~torch.isfinite(scores.divergence.detach())
    if bool(bad.any()):
        row, position = (int(i) for i in bad.nonzero()[0])
        return NotFinite("loss", f"{part.keys[row]}, position {position}", index, part)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    own = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
    if not bool(torch.isfinite(torch.nn.utils.get_total_norm(own))):
        return NotFinite("gradient", ", ".join(dict.fromkeys(part.keys)), index, part)
    return None
