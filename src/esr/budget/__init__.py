"""The memory plan of a run: what it holds where, against what there is, and the sizes that follow from that.

`plan` is the one function: from a configuration, the shapes of its models (`esr.budget.footprint`) and a device's memory, with no
weights loaded. Micro-batch, gradient checkpointing and the evaluation's batch follow from it unless they are set.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from esr.budget.footprint import Footprint, Held, footprint
from esr.config import ESR_N, Config, Placement, configfile
from esr.config.keys import flatten
from esr.errors import TooLarge, UserError
from esr.models.load import shapes
from esr.records.static import MemoryPlan

SHARE = 0.85
"""Of the memory that a plan fills: the rest is for what no plan sees (fragments, workspaces)."""
ENOUGH = 4096
"""Tokens of a micro-batch beyond which a device does no more in the same time, and rows are only padded more."""
TOGETHER = 256
"""Responses beyond which an evaluation's batch is not made larger."""
PLANNED = ("optim.micro_batch_tokens", "optim.gradient_checkpointing", "eval.batch_size")
"""Keys that a plan fills in where they are left open."""
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Placed:
    """Where the models of a run lie."""

    teacher: Placement = "same"
    ranks: int = 1
    """Devices that train."""
    sharded: bool = False
    """Whether the student, its gradients and optimiser lie in shards over the ranks."""

    @classmethod
    def of(cls, config: Config, ranks: int) -> "Placed":
        """How `ranks` processes hold the models of a run: a student that trains all its weights in shards."""
        return cls(config.teacher.placement, ranks, ranks > 1 and config.student.train == "full")

    def student_bytes(self, held: Held) -> int:
        """The student's weights on each device that trains; of shards, two layers are whole at a time."""
        return held.weights // self.ranks + 2 * held.layer if self.sharded else held.weights

    def gathered(self, held: Held) -> int:
        """What lies beside the student's shards while it writes, for which its weights are whole on every device."""
        return held.weights if self.sharded else 0

    def teacher_bytes(self, held: Held) -> int:
        """The teacher's weights beside them. Of a server's model, only the head is applied here."""
        moved = 2 * held.layer + held.head
        beside = {
            "same": held.weights,
            "sharded": held.weights // self.ranks + moved,
            "offloaded": moved,
            "server": held.head,
        }
        return min(held.weights, beside.get(self.teacher, 0))


class Budget(MemoryPlan):
    """The plan, and what is said of it."""

    def describe(self) -> Iterator[str]:
        """Lines for people."""
        fixed = self.student + self.teacher + self.optimizer
        yield (
            f"Memory: weights {gib(self.student)} (student) and {gib(self.teacher)} (teacher), gradients and optimiser "
            f"{gib(self.optimizer)}; at most {gib(self.training)} in training, in micro-batches of {self.micro_batch_tokens:,} "
            f"tokens{' with gradient checkpointing' if self.checkpointing else ''}"
            + (f", {gib(self.writing)} while the student writes" if self.writing else "")
            + (f", {gib(self.evaluating)} in evaluations of {self.problems} problems together" if self.problems else "")
            + f"; there are {gib(self.memory)}."
        )
        if not self.fits:
            why = (
                "weights and optimiser alone do not fit"
                if fixed > self.memory
                else "what is computed with them does not fit beside them"
            )
            yield f"That is {gib(self.peak - self.memory)} more than there is: {why}."
            yield f"It would fit with {', or '.join(self.remedies) or 'smaller models or a larger device only'}."

    def require(self) -> None:
        """Raise `TooLarge` if the run does not fit."""
        if not self.fits:
            raise TooLarge(" ".join(self.describe()))


def plan(
    config: Config, held: Footprint, memory: int, prompt: int, asked: int = 0, placed: Placed = Placed()
) -> Budget:
    """The plan of a run whose longest training prompt has `prompt` tokens, and its longest evaluation prompt `asked`.

    `memory` is what a device has for this run, in bytes.
    """
    student, teacher = placed.student_bytes(held.student), placed.teacher_bytes(held.teacher)
    trained = held.trained // placed.ranks if placed.sharded else held.trained
    fixed, row = student + teacher + 3 * trained, prompt + config.rollout.max_new_tokens
    tokens, checkpointing = micro_batch(config, held, int(memory * SHARE) - fixed, row)
    rows = config.rollout.prompts_per_step * config.rollout.samples_per_prompt // placed.ranks
    resting = student + teacher + 2 * trained
    problems, evaluating = None, 0
    whole = placed.gathered(held.student)
    if config.eval and config.eval.engine == "local":
        length, samples = asked + config.eval.max_new_tokens, config.eval.samples
        sides = [(held.student, resting + whole), (held.teacher, resting)][: 1 + config.eval.teacher]
        fitting = (together(side, int(memory * SHARE) - beside, length, samples) for side, beside in sides)
        problems = config.eval.batch_size or min(fitting)
        evaluating = max(beside + side.writing(problems * samples, length) for side, beside in sides)
    local = config.rollout.engine == "local"
    used = min(tokens, row * max(1, rows))
    return Budget(
        memory=memory,
        student=student,
        teacher=teacher,
        optimizer=3 * trained,
        micro_batch_tokens=tokens,
        checkpointing=checkpointing,
        problems=problems,
        training=fixed + held.micro_batch(used, used * config.rollout.max_new_tokens // row, checkpointing),
        writing=resting + whole + held.student.writing(max(1, rows), row) if local else 0,
        evaluating=evaluating,
    )


def remedies(
    config: Config, held: Footprint, memory: int, prompt: int, asked: int = 0, placed: Placed = Placed()
) -> list[str]:
    """Changes of which each alone makes a run fit, the mildest first; or else all of them together, if that does."""
    left_open = {
        key: None for key, value in flatten(config.model_dump()).items() if key in PLANNED and value is not None
    }
    shorter = {"rollout.max_new_tokens": min(ESR_N, config.rollout.max_new_tokens)}
    away = replace(placed, teacher="server")

    def fits(change: dict[str, Any], where: Placed) -> bool:
        changed = configfile.validate(configfile.merge(config.model_dump(), change.items()), where="the plan")
        return plan(changed, held, memory, prompt, asked, where).fits

    alone = {
        f"{' and '.join(left_open)} left to the plan": fits(left_open, placed),
        f"rollout.max_new_tokens={ESR_N}": fits(shorter, placed),
        "teacher.placement=offloaded": fits({}, replace(placed, teacher="offloaded")),
        "teacher.placement=server": fits({}, away),
    }
    found = [said for said, enough in alone.items() if enough]
    together = [*left_open, *shorter, "teacher.placement"]
    return found or ([f"all of these: {', '.join(together)}"] if fits({**left_open, **shorter}, away) else [])


def micro_batch(config: Config, held: Footprint, free: int, row: int) -> tuple[int, bool]:
    """(padded tokens of a micro-batch, whether to checkpoint) for rows of `row` tokens in `free` bytes, unless they are set.

    Checkpointing where less than `ENOUGH` tokens fit without it: it costs a third more time.
    """
    wanted, tokens = config.optim.gradient_checkpointing, 0
    for choice in (False, True) if wanted is None else (wanted,):
        beside, logits = held.micro_batch(0, 0, choice), held.micro_batch(0, row, choice)
        tokens = int((free - logits) / (held.micro_batch(1, 0, choice) - beside))
        if tokens >= (config.optim.micro_batch_tokens or ENOUGH):
            break
    return config.optim.micro_batch_tokens or max(row, min(tokens, ENOUGH)), choice


def together(held: Held, free: int, length: int, samples: int) -> int:
    """Problems whose `samples` responses, `length` tokens long with the prompt, are sampled together in `free` bytes."""
    rows = min(TOGETHER, (free - held.copies) // held.each(length))
    return max(1, rows // samples)


def without_weights(config: Config, device: torch.device) -> Footprint:
    """What the models of a configuration hold on `device`, by their shapes. Raises what an architecture raises that runs
    only with its weights."""
    return footprint(*shapes(config.student, config.teacher, device), device)


def available(device: torch.device) -> int:
    """Bytes free for this process: of the accelerator, or of the host's memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def size(text: str) -> int:
    """Bytes of `24GiB`, `80 GB` and the like. Raises `UserError` for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?b)\s*", text, re.IGNORECASE)
    if not found or found[2].lower() not in UNITS or not float(found[1]):
        raise UserError(f"{text!r} is no amount of memory; give one such as 24GiB.")
    return int(float(found[1]) * UNITS[found[2].lower()])


def gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
