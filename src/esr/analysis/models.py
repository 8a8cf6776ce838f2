"""The models that an analysis is about, loaded: a pair, and the student before and after training."""

from dataclasses import dataclass, replace

import peft
import torch

from esr import probe
from esr.config import Config
from esr.models.checkpoint import load_trained
from esr.models.lm import LM, resolve_device
from esr.models.load import load_model
from esr.models.machine import machine
from esr.models.remote import open_teacher
from esr.pair import Pair, open_pair
from esr.ranks import here
from esr.records.steps import step_of
from esr.runs.rundir import RunDir


@dataclass(frozen=True)
class Models:
    """A pair, and the student after training too if it was trained."""

    pair: Pair
    before: LM
    after: LM | None
    teacher: LM
    step: int
    """Of the checkpoint that `after` comes from; 0 without one."""


def load(run: RunDir, config: Config, step: int | None) -> Models:
    """The models of a run, trained up to `step` (None: its last checkpoint), or of a pair that was not trained.

    The directory of the latter becomes a run directory if it is none yet. Raises `UserError` for a model that is another one
    on one of its paths.
    """
    return here().together(lambda: _probed(_loaded(run, config, step)))


def _probed(found: Models) -> Models:
    for lm in (found.before, found.after, found.teacher):
        if lm is not None:
            probe.check(lm)
    return found


def _loaded(run: RunDir, config: Config, step: int | None) -> Models:
    saved = run.find_checkpoint(step) if run.checkpoints() else None
    pair = open_pair(config)
    device = resolve_device(config.run.device)
    if saved is None:
        if here().first:
            run.open_or_create(config, machine(device))
        student = load_model(config.student, device, pair.stops[0])
        teacher = open_teacher(config.teacher, student, device, pair.stops[1])
        return Models(pair, student, None, teacher, 0)
    after = load_trained(config, saved, device, pair.stops[0])
    before = untrained(after, config, device)
    teacher = open_teacher(config.teacher, after, device, pair.stops[1])
    return Models(pair, before, after, teacher, step_of(saved.name) or 0)


def untrained(after: LM, config: Config, device: torch.device) -> LM:
    """The student before training: without its adapter if it began without one, else loaded again."""
    if isinstance(after.module, peft.PeftModel) and not config.student.adapter:
        return replace(after, adapter=None)
    return load_model(config.student, device, after.terminators)
