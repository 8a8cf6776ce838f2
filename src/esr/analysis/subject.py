"""What an analysis is about: a run's models before and after training, or an untrained pair, and held-out problems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import peft
import torch

from esr import configfile, tasks
from esr.config import Config, EvalConfig, TaskConfig
from esr.errors import UserError
from esr.method.events import EventSpace
from esr.models.checkpoint import find_checkpoint, load_trained
from esr.models.lm import LM, resolve_device
from esr.models.load import load_model, load_teacher
from esr.pair import Pair, open_pair
from esr.records.problem import Problem
from esr.records.steps import step_of
from esr.runs.places import pair_directory, untrained_directory
from esr.runs.rundir import RunDir, open_run
from esr.sampling.sampler import Sampler


@dataclass(frozen=True)
class Subject:
    """A pair of models, the student after training too if it was trained, and where records about them go."""

    directory: RunDir
    config: Config
    pair: Pair
    before: LM
    after: LM | None
    teacher: LM
    step: int
    """The checkpoint's step; 0 without one."""

    @property
    def models(self) -> dict[str, str]:
        """Model references by role, for a record."""
        named = {"student": self.config.student.model, "teacher": self.config.teacher.model}
        return named | ({"after": f"{self.directory.path} step {self.step}"} if self.after else {})

    @property
    def events(self) -> EventSpace:
        """The events that student and teacher are compared on."""
        return self.pair.events(self.config.loss.merge_terminators).to(self.before.device)

    def sampler(self, max_new_tokens: int) -> Sampler:
        """Sampling as the pair was, or would be, trained: `rollout` settings with this cap."""
        rollout = self.config.rollout
        return Sampler(max_new_tokens, self.pair.terminators, rollout.temperature, rollout.top_p, rollout.top_k)

    def trained(self, why: str) -> LM:
        """The trained student. Raises `UserError` (`why` it is needed) if there is none."""
        if self.after is None:
            raise UserError(f"{self.directory.path} has no trained student; {why}")
        return self.after


@dataclass(frozen=True)
class Other:
    """Another run's trained student, loaded when its turn comes."""

    name: str
    reference: str
    """Where it comes from, for the record."""
    load: Callable[[], LM]


def open_subject(
    target: str,
    teacher: str | None,
    task: str | None,
    step: int | None = None,
    needs: Literal["", "eval", "training"] = "",
) -> Subject:
    """Load what an analysis is about.

    `target` is a run directory or a config file; or, with `teacher` given, a student's model reference, and `task` the
    source of its problems. `step` None is a run's last checkpoint. Records about a pair that was not trained go to a
    directory of their own. Raises `UserError`, before any weights are loaded, if something is missing that the analysis
    `needs`: an `eval` section, or a trained student.
    """
    path = Path(target)
    if teacher is not None:
        config, path = pair_config(target, teacher, task), pair_directory(target, teacher)
    elif path.is_file():
        config = configfile.load(path, [])
        path = untrained_directory(config, path)
    else:
        config = open_run(path).config()
    if needs == "eval" and config.eval is None:
        raise UserError(
            f"{target}: this analysis grades responses, so it needs an `eval` section in the configuration."
        )
    run = RunDir(path)
    if not run.checkpoints():
        if needs == "training":
            raise UserError(f"{target} has no trained student; name a run directory with a checkpoint.")
        return _untrained_subject(config, path)
    saved = find_checkpoint(run, step)
    pair = open_pair(config)
    device = resolve_device(config.run.device)
    after = load_trained(config, saved, device, pair.student_terminators)
    before = untrained(after, config, device)
    teacher_lm = load_teacher(config.teacher, after, device, pair.teacher_terminators)
    return Subject(run, config, pair, before, after, teacher_lm, step_of(saved.name) or 0)


def pair_config(student: str, teacher: str, task: str | None) -> Config:
    """Default settings for two model references, with `task` for prompts and evaluation."""
    if task is None:
        raise UserError("Name the task too, for example --task math500: two models alone have no problems.")
    cap = {"max_new_tokens": 900} if task.startswith("lab:") else {}
    sections = {"student": {"model": student}, "teacher": {"model": teacher}}
    return configfile.validate({**sections, "data": {"source": task}, "eval": {"source": task, **cap}}, where="--task")


def _untrained_subject(config: Config, path: Path) -> Subject:
    """A pair without a trained student; the directory becomes a run directory if it is none yet."""
    run = RunDir(path)
    pair = open_pair(config)
    device = resolve_device(config.run.device)
    run.open_or_create(config, str(device))
    student = load_model(config.student, device, pair.student_terminators)
    teacher = load_teacher(config.teacher, student, device, pair.teacher_terminators)
    return Subject(run, config, pair, student, None, teacher, 0)


def untrained(after: LM, config: Config, device: torch.device) -> LM:
    """The student before training: without its adapter if it began without one, else loaded again."""
    if isinstance(after.module, peft.PeftModel) and not config.student.adapter:
        return replace(after, adapter=None)
    return load_model(config.student, device, after.terminators)


def other_runs(subject: Subject, paths: Sequence[Path]) -> list[Other]:
    """The last checkpoints of other runs of the same pair. Raises `UserError` for a run of another pair."""
    pair = subject.config.student.model, subject.config.teacher.model
    runs = [open_run(path) for path in paths]
    taken = ["before", "after", "teacher", *(run.path.name for run in runs)]
    others = []
    for run in runs:
        config, saved = run.config(), find_checkpoint(run, None)
        if (config.student.model, config.teacher.model) != pair:
            raise UserError(
                f"{run.path} is a run of {config.student.model} and {config.teacher.model}, not of {pair[0]} and {pair[1]}."
            )
        name = run.path.name if taken.count(run.path.name) == 1 else str(run.path)
        load = partial(load_trained, config, saved, subject.before.device, subject.pair.student_terminators)
        others.append(Other(name, f"{run.path} step {step_of(saved.name)}", load))
    return others


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


def graded(config: Config, count: int) -> tuple[list[Problem], str, EvalConfig]:
    """The first `count` evaluation problems, with answers, their source in words, and the `eval` section."""
    if config.eval is None:
        raise UserError("This analysis grades responses, so it needs an `eval` section in the configuration.")
    problems = tasks.load(config.eval, "eval", need_answer=True)
    problems, _ = tasks.disjoint(tasks.load(config.data, "train", need_answer=False), problems)
    return problems[:count], tasks.describe(config.eval), config.eval
