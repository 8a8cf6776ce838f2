"""Other runs of the same pair, to be put beside the one that an analysis is about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from esr import probe
from esr.analysis.subject import Subject
from esr.config import Config
from esr.errors import UserError
from esr.models.checkpoint import load_trained
from esr.models.lm import LM
from esr.ranks import here
from esr.records.steps import step_of
from esr.runs.rundir import RunDir
from esr.runs.trust import require_trust


@dataclass(frozen=True)
class Other:
    """Another run's trained student, loaded when its turn comes."""

    name: str
    reference: str
    """Where it comes from, for the record."""
    load: Callable[[], LM]


def other_students(subject: Subject, runs: Sequence[RunDir]) -> list[Other]:
    """The last checkpoints of other runs of the same pair. Raises `UserError` for a run of another pair."""
    pair = subject.config.student.model, subject.config.teacher.model
    taken = ["before", "after", "teacher", *(run.path.name for run in runs)]
    others = []
    for run in runs:
        config, saved = require_trust(run.config(), run.path), run.find_checkpoint(None)
        if (config.student.model, config.teacher.model) != pair:
            raise UserError(
                f"{run.path} is a run of {config.student.model} and {config.teacher.model}, not of {pair[0]} and {pair[1]}."
            )
        name = run.path.name if taken.count(run.path.name) == 1 else str(run.path)
        others.append(Other(name, f"{run.path} step {step_of(saved.name)}", partial(_student, subject, config, saved)))
    return others


def _student(subject: Subject, config: Config, saved: Path) -> LM:
    def load() -> LM:
        student = load_trained(config, saved, subject.before.device, subject.pair.stops[0])
        probe.check(student)
        return student

    return here().together(load)
