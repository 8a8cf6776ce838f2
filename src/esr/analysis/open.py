"""The models and held-out prompts that an analysis of a run needs."""

from dataclasses import dataclass, replace

import peft
import torch

from esr import models, tasks
from esr.config import Config, TaskConfig
from esr.errors import UserError
from esr.export import find_checkpoint, load_trained
from esr.models import LM
from esr.pair import Pair, open_pair
from esr.results import Problem
from esr.rundir import RunDir


@dataclass(frozen=True)
class OpenRun:
    """A run's student before and after training, its teacher, and how they were compared."""

    config: Config
    pair: Pair
    before: LM
    after: LM
    teacher: LM
    step: int


def open_run(run: RunDir, step: int | None) -> OpenRun:
    """Load the models of a run; `step` None is the last checkpoint."""
    config = run.config()
    saved = find_checkpoint(run, step)
    pair = open_pair(config)
    device = models.resolve_device(config.run.device)
    after = load_trained(config, saved, device, pair.student_terminators)
    return OpenRun(
        config,
        pair,
        untrained(after, config, device),
        after,
        _teacher(config, after, device, pair),
        int(saved.name[5:]),
    )


def _teacher(config: Config, student: LM, device: torch.device, pair: Pair) -> LM:
    return models.load_teacher(config.teacher, student, device, pair.teacher_terminators)


def untrained(after: LM, config: Config, device: torch.device) -> LM:
    """The student before training: without its adapter if it began without one, else loaded again."""
    if isinstance(after.module, peft.PeftModel) and not config.student.adapter:
        return replace(after, adapter=None)
    return models.load_model(config.student, device, after.terminators)


def held_out(config: Config, count: int) -> tuple[list[Problem], str]:
    """Prompts that the run did not train on, and their source: new ones of a generated task, else the evaluation's."""
    generated = ":" in config.data.source
    if not generated and config.eval is None:
        raise UserError("This run has no held-out prompts: its data are not generated and it has no `eval` section.")
    source: TaskConfig = config.data if generated else config.eval  # type: ignore[assignment]
    limited = source.model_copy(update={"limit": None, "size": max(2 * count, 50)} if generated else {})
    problems = tasks.load(limited, "eval", need_answer=False)
    if generated:
        problems, _ = tasks.disjoint(tasks.load(config.data, "train", need_answer=False), problems)
    return problems[:count], tasks.describe(source)
