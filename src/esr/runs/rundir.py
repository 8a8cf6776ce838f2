"""A run directory: the interface between training, evaluation, analyses and the report. No torch here.

Every file is written atomically or, for the `.jsonl` files, appended line by line; a torn last line is dropped on resume.
"""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from esr.config import Config
from esr.config.configfile import load, portable
from esr.console.foreign import brief
from esr.errors import UserError
from esr.records.base import FORMAT_VERSION
from esr.records.evaluation import Evaluation, Sample
from esr.records.steps import step_name, step_of
from esr.records.tokenizers import TwoTokenizers
from esr.runs import agreement, metrics
from esr.runs.environment import Machine, environment, inexact
from esr.runs.files import (
    aside,
    dumps,
    is_model,
    read_json,
    read_lines,
    read_record,
    sweep,
    sync,
    writable,
    write_json,
    write_text,
)
from esr.runs.lock import LOCK, in_use, locked
from esr.runs.paths import RunPaths

STATE = "state.json"
"""Written last into a checkpoint."""


class RunDir(RunPaths):
    """Reads and writes one run's files."""

    # Configuration and environment

    def exists(self) -> bool:
        return self.config_file.exists()

    def open_or_create(
        self, config: Config, machine: Machine | None = None, fresh: bool = False, inputs: dict[str, str] | None = None
    ) -> None:
        """Make this the directory of a run with `config`, or open it as that.

        `machine` is noted in `env.json`; None leaves that to the process that will load the models. `fresh` moves an
        existing run aside (to NAME~1, NAME~2, ...). Where nothing has been trained yet, another configuration takes the
        place of the old one, and evaluations made under that are moved aside. Raises `UserError` if the directory holds
        something else, or a trained run with another configuration or other `inputs` (digests of what is read, by key).
        """
        for folder in (self.evaluations_folder, self.analyses_folder, self.checkpoints_folder):
            sweep(folder)
        self.require_own()
        if fresh and self._files():
            self._move_aside()
        if self.exists():
            self._adopt(config, inputs or {})
        with writable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.config_file, {"format_version": FORMAT_VERSION, **portable(config, self.path)})
            if machine is not None and not self.environment_file.exists():
                write_json(self.environment_file, {**environment(machine), "resumed": []})
            if inputs and self.inputs() != inputs:
                write_json(self.environment_file, {**self.environment(), "inputs": {**self.inputs(), **inputs}})

    def require_own(self) -> None:
        """Raise `UserError` if something else than a run is here; what killed writes have left is none, and goes."""
        sweep(self.path)
        if self._files() and (not self.exists() or is_model(self.path)):
            raise UserError(f"{self.path} exists and is not a run directory; choose another with run.dir=PATH.")

    def _files(self) -> list[Path]:
        """Whatever is here but the lock, `config.json` first, which makes it a run."""
        files = self.path.iterdir() if self.path.exists() else []
        return sorted((f for f in files if f.name != LOCK), key=lambda f: f != self.config_file)

    def _move_aside(self) -> None:
        """Everything but the lock goes to NAME~1, so that the directory stays locked."""
        target = aside(self.path)
        with writable(target):
            target.mkdir()
            for file in self._files():
                shutil.move(file, target / file.name)

    def inputs(self) -> dict[str, str]:
        """Digests of the data and local models that this run was begun with, by key; empty if it has no note of them."""
        found = self.environment().get("inputs") if self.environment_file.exists() else None
        return found if isinstance(found, dict) else {}

    def _adopt(self, config: Config, inputs: dict[str, str]) -> None:
        """Take on this configuration, if that changes no number of a run that was trained."""
        changed, replaced = agreement.differences(self.config(), config, self.inputs(), inputs)
        if self.trained():
            agreement.require(self.path, changed, replaced)
        if (changed or replaced) and self.evaluations_folder.exists():
            self.evaluations_folder.rename(aside(self.evaluations_folder))

    def config(self) -> Config:
        """The resolved configuration of this run."""
        return load(self.config_file)

    def environment(self) -> dict[str, Any]:
        """What this run depends on besides its configuration. Raises `UserError` if that is missing or damaged."""
        return read_json(self.environment_file)

    def threads(self) -> int | None:
        """How many this run began with; None if it has not, or before that was recorded."""
        return self.environment().get("threads") if self.environment_file.exists() else None

    def note_resumption(self, machine: Machine, step: int) -> str:
        """Add to `env.json` where and with what a run goes on after `step`; the first environment stays.

        Returns what has changed since the run began so that its numbers are no longer exactly those of one without a break.
        """
        first, now = self.environment(), environment(machine)
        resumed = [*first.get("resumed", []), {"after_step": step, **now}]
        write_json(self.environment_file, {**first, "resumed": resumed})
        return inexact(first, now)

    def in_use(self) -> bool:
        """Whether a process works on this run now."""
        return in_use(self.path)

    def locked(self) -> AbstractContextManager[None]:
        """Keep a second process out of this directory. Raises `UserError` if something else than a run is here."""
        with writable(self.path):
            self.require_own()
        return locked(self.path)

    # Training

    def append(self, file: Path, row: dict[str, Any]) -> None:
        """Add one line to a `.jsonl` file."""
        with open(file, "a", encoding="utf-8") as out:
            out.write(dumps(row) + "\n")

    def sync_logs(self) -> None:
        """Have all rows on the disk: before a checkpoint is, or a power cut could leave one that is ahead of them."""
        for file in (self.metrics_file, self.rollouts_file):
            if file.exists():
                sync(file)

    def metrics(self) -> list[dict[str, Any]]:
        """One row for each optimiser step. Raises `UserError` if one lacks a number that every step has."""
        return metrics.read(self.metrics_file)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        there = self.checkpoints_folder.glob("step-*")
        return sorted(p for p in there if step_of(p.name) is not None and (p / STATE).exists())

    def find_checkpoint(self, step: int | None) -> Path:
        """The checkpoint of a step, or the last one. Raises `UserError` if it is not there."""
        saved = {step_of(p.name): p for p in self.checkpoints()}
        if not saved:
            raise UserError(f"{self.path} has no checkpoint yet.")
        if step is not None and step not in saved:
            raise UserError(f"{self.path} has no checkpoint of step {step}; there are {', '.join(map(str, saved))}.")
        return saved[step] if step is not None else self.checkpoints()[-1]

    def trained(self) -> bool:
        """Whether a step has been taken here."""
        return bool(self.metrics() or self.checkpoints())

    def last_step(self, config: Config) -> int | None:
        """The step after which training ended, by its steps or by a limit; None while it goes on."""
        rows = self.metrics()
        return int(rows[-1]["step"]) if rows and config.optim.progress(rows) >= 1 else None

    def complete(self, config: Config) -> bool:
        """Whether nothing is left to do: the last step is saved, and the evaluations after it are there."""
        last = self.last_step(config)
        if last is None or not (self.finished_file.exists() or (self.checkpoint(last) / STATE).exists()):
            return False
        wanted = [] if config.eval is None else [step_name(last), *(["teacher"] if config.eval.teacher else [])]
        return all(self.evaluation_file(name).exists() for name in wanted)

    # Evaluations and analyses

    def save_evaluation(self, evaluation: Evaluation, responses: list[Sample]) -> None:
        self.evaluations_folder.mkdir(parents=True, exist_ok=True)
        write_text(self.responses_file(evaluation.name), "".join(r.model_dump_json() + "\n" for r in responses))
        write_json(self.evaluation_file(evaluation.name), evaluation.model_dump())

    def evaluation(self, name: str) -> Evaluation | None:
        """A finished evaluation, or None."""
        file = self.evaluation_file(name)
        if not file.exists():
            return None
        found = read_record(file, Evaluation)
        if found.name != name:
            raise UserError(
                f"{file}: it is a record of {brief(found.name)}; give the file its own name back, or remove it."
            )
        return found

    def last(self, config: Config) -> Evaluation | None:
        """The evaluation after the last step; None before it is there."""
        step = self.last_step(config)
        return None if step is None else self.evaluation(step_name(step))

    def evaluation_files(self) -> list[Path]:
        """Evaluations by the names that `esr` gives; other files there are someone else's."""
        there = sorted(self.evaluations_folder.glob("*.json"))
        return [
            f for f in there if step_of(f.stem.partition("@")[0]) is not None or f.stem.partition("@")[0] == "teacher"
        ]

    def evaluations(self) -> list[Evaluation]:
        found = (self.evaluation(file.stem) for file in self.evaluation_files())
        return [evaluation for evaluation in found if evaluation is not None]

    def responses(self, name: str) -> list[Sample]:
        """The graded responses behind an evaluation. Raises `UserError` unless all of them are there."""
        file, evaluation = self.responses_file(name), self.evaluation(name)
        try:
            found = [Sample.model_validate(row) for row in read_lines(file)] if file.exists() else []
        except ValidationError:
            found = []
        wanted = evaluation.problems * evaluation.samples if evaluation else len(found)
        if len(found) != wanted:
            raise UserError(
                f"{file}: damaged, {len(found)} of {wanted} responses can be read. Put a copy in its place; or remove it and "
                f"{self.evaluation_file(name).name}, and evaluate again."
            )
        return found

    def analysis_files(self) -> list[Path]:
        return sorted(self.analyses_folder.glob("*.json"))

    def save_tokenizers(self, record: TwoTokenizers) -> None:
        """Keep how well student and teacher can be compared."""
        write_json(self.tokenizers_file, record.model_dump())

    def tokenizers(self) -> TwoTokenizers | None:
        """How well student and teacher can be compared; None with one vocabulary."""
        return read_record(self.tokenizers_file, TwoTokenizers) if self.tokenizers_file.exists() else None


def open_run(path: str | Path) -> RunDir:
    """An existing run. Raises `UserError` if `path` is none."""
    run = RunDir(path)
    if not run.exists():
        raise UserError(f"{path} is not a run directory (it has no config.json).")
    if is_model(run.path):
        raise UserError(
            f"{path} is the directory of a model, not of a run; give a run, or a YAML file that names the model."
        )
    return run
