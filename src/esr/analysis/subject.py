"""What an analysis is about: a run, or a pair of models that was not trained, and held-out problems. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from esr import tasks
from esr.config import Config, EvalConfig, TaskConfig, configfile
from esr.errors import UserError
from esr.records.problem import Problem
from esr.records.settings import Settings
from esr.runs.metrics import lengths
from esr.runs.places import pair_directory, untrained_directory
from esr.runs.rundir import RunDir, open_run
from esr.runs.trust import from_file, require_trust
from esr.tasks.rows import UNGRADED

if TYPE_CHECKING:
    from esr.analysis.models import Models
    from esr.method.events import EventSpace
    from esr.models.lm import LM
    from esr.pair import Pair

Need = Literal["run", "training", "eval"]
"""What an analysis may need: a run directory, a trained student, an `eval` section."""


@dataclass(frozen=True)
class Subject:
    """A run or a pair, where records about it go, and its models, which are loaded when an analysis first asks for one."""

    target: str
    """What it was opened as, for messages."""
    directory: RunDir
    config: Config
    load: Callable[[], "Models"]
    asked: int | None = None
    """The checkpoint's step, if not the last one."""

    @cached_property
    def models(self) -> "Models":
        return self.load()

    @property
    def pair(self) -> "Pair":
        return self.models.pair

    @property
    def before(self) -> "LM":
        """The untrained student."""
        return self.models.before

    @property
    def after(self) -> "LM | None":
        return self.models.after

    @property
    def teacher(self) -> "LM":
        return self.models.teacher

    @property
    def step(self) -> int:
        """Of the checkpoint that `after` comes from; 0 without one."""
        return self.models.step

    @property
    def events(self) -> "EventSpace":
        """The events that student and teacher are compared on."""
        return self.pair.events(self.config.loss.merge_terminators).to(self.before.device)

    @cached_property
    def n(self) -> int:
        """The window that was trained: the longest N that a step took; of a pair that was not, the cap of its rollouts."""
        cap = self.config.rollout.max_new_tokens
        trained = [row for row in self.directory.metrics() if row["step"] <= self.step]
        return int(max(lengths(trained, cap), default=cap))

    def references(self, *roles: str) -> dict[str, str]:
        """Model references by role (`student`, `teacher`, and `after` if it was trained), or of some `roles`, for a record."""
        named = {"student": self.config.student.model, "teacher": self.config.teacher.model}
        named |= {"after": f"{self.directory.path} step {self.step}"} if self.after else {}
        return {role: name for role, name in named.items() if not roles or role in roles}

    def record_file(self, name: str, settings: Settings) -> Path:
        """Where the record of an analysis with these settings is kept."""
        return self.directory.analysis_file(name + settings.variant())

    def require(self, needs: Sequence[Need]) -> None:
        """Raises `UserError`, before any weights are loaded, if something is missing that an analysis needs."""
        if "run" in needs and not self.directory.exists():
            raise UserError(f"{self.target} is not a run directory (it has no config.json).")
        if "training" in needs and not self.directory.checkpoints():
            raise UserError(f"{self.target} has no trained student; name a run directory with a checkpoint.")
        if "eval" in needs:
            self.evaluation()

    def trained(self, why: str) -> "LM":
        """The trained student. Raises `UserError` (`why` it is needed) if there is none."""
        if self.after is None:
            raise UserError(f"{self.directory.path} has no trained student; {why}")
        return self.after

    def held_out(self, count: int) -> tuple[list[Problem], str]:
        """Prompts that the run did not train on, and their source: new ones of a generated task, else the evaluation's."""
        generated = ":" in self.config.data.source
        if not generated and self.config.eval is None:
            raise UserError(
                "This run has no held-out prompts: its data are not generated and it has no `eval` section."
            )
        source: TaskConfig = self.config.data if generated else self.config.eval  # type: ignore[assignment]
        limited = source.model_copy(update={"limit": None, "size": max(2 * count, 50)} if generated else {})
        from esr.tasks.problems import apart, training

        same = not generated and source.source == self.config.data.source  # only of a pair that is not trained
        trained = [] if same else training(self.config, self.pair).problems
        chosen = apart(limited, trained, need_answer=False)
        return chosen.problems[:count], tasks.describe(source)

    def graded(self, count: int) -> tuple[list[Problem], str, EvalConfig]:
        """The first `count` evaluation problems, with answers, their source in words, and the `eval` section."""
        settings = self.evaluation()
        from esr.tasks.problems import apart, training

        chosen = apart(settings, training(self.config, self.pair).problems)
        if chosen.problems[0].grader == UNGRADED:
            raise UserError(f"{self.target}: this analysis grades responses, but {settings.source} has no references.")
        return chosen.problems[:count], tasks.describe(settings), settings

    def apart(self, count: int) -> tuple[list[Problem], bool]:
        """`count` problems with answers that neither training nor the evaluation has, and whether there are such.

        Only a generated task has them, from another seed; otherwise they are the evaluation's own.
        """
        final, _, how = self.graded(count)
        if ":" in how.source:
            seed = (how.seed + 1) % 2**32
            other = how.model_copy(update={"seed": seed, "size": 2 * count + how.size, "limit": None})
            from esr.tasks.problems import apart, training

            final_ones = tasks.load(how, "eval", need_answer=True).problems
            try:
                fresh = apart(other, training(self.config, self.pair).problems, evaluated=final_ones).problems
            except UserError:  # the task has fewer problems than that
                fresh = []
            if len(fresh) >= count:
                return fresh[:count], True
        return final, False

    def evaluation(self) -> EvalConfig:
        """The `eval` section. Raises `UserError` if there is none."""
        if self.config.eval is None:
            raise UserError(
                f"{self.target}: this analysis grades responses, so it needs an `eval` section in the configuration."
            )
        return self.config.eval


def open_subject(
    target: str | Path,
    teacher: str | None = None,
    task: str | None = None,
    step: int | None = None,
    overrides: Sequence[str] = (),
) -> Subject:
    """What an analysis is about; no models are loaded yet.

    `target` is a run directory or a config file, which `overrides` may change; or, with `teacher` given, a student's model
    reference, and `task` the source of its problems. `step` None is a run's last checkpoint. Records about a pair that was
    not trained go to a directory of their own.
    """
    path = Path(target)
    if teacher is not None:
        config = pair_config(str(target), teacher, task)
        path = pair_directory(str(target), teacher)
    elif path.is_file():
        config = from_file(configfile.load(path, overrides), path)
        path = untrained_directory(config, path)
    else:
        config = require_trust(open_run(path).config(), path)
    run = RunDir(path)

    def load() -> "Models":
        from esr.analysis import models

        return models.load(run, config, step)

    return Subject(str(target), run, config, load, step)


def pair_config(student: str, teacher: str, task: str | None) -> Config:
    """Default settings for two model references, with `task` for prompts and evaluation."""
    if task is None:
        raise UserError("Name the task too, for example --task math500: two models alone have no problems.")
    cap = {"max_new_tokens": 900} if task.startswith("lab:") else {}
    sections = {"student": {"model": student}, "teacher": {"model": teacher}}
    return configfile.validate({**sections, "data": {"source": task}, "eval": {"source": task, **cap}}, where="--task")
