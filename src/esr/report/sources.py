"""What a page is made from: run directories and study records, read once, with whatever is damaged noted and left out."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from esr.analysis import ANALYSES
from esr.config import Config
from esr.errors import UserError
from esr.records.comparison import Comparison
from esr.records.evaluation import Evaluation, Sample, by_progress
from esr.records.finding import Finding
from esr.records.steps import BEFORE, step_name
from esr.records.study import Study
from esr.runs.files import read_json, read_lines, read_record
from esr.runs.rundir import RunDir, open_run


@dataclass(frozen=True)
class Found:
    """A record and the file it came from."""

    record: Any
    file: Path
    name: str = ""
    """How the page calls the file: `RUN/analysis/decay.json`."""

    @property
    def source(self) -> str:
        """The file's name on the page."""
        return self.name or str(self.file)


@dataclass(frozen=True)
class Run:
    """One run directory."""

    label: str
    """The directory's name; with its parent's where two runs have the same."""
    directory: RunDir
    config: Config
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    """Rows of rollouts.jsonl."""
    evaluations: dict[str, Found]
    """By name."""
    analyses: dict[str, Found]
    """By kind: `decay`, `profile`, ..."""
    tokenizers: Found | None
    """What two tokenizers share; None with one vocabulary."""
    complete: bool
    """Whether it has nothing left to do."""
    going: bool
    """Whether it trains, or has begun to; a pair that was only checked or analysed has not."""
    last: str
    """Name of the evaluation after the last step; empty before training has got there."""

    @property
    def rows(self) -> Found:
        """`metrics.jsonl` as a source of numbers."""
        return _named(self.metrics, self.directory.metrics_file, self)

    @property
    def settings(self) -> Found:
        """`config.json` as a source of numbers."""
        return _named(self.config, self.directory.config_file, self)

    def evaluation(self, model: str) -> Found | None:
        """The evaluation of `before`, `after` (the last step) or `teacher` with the run's own settings."""
        name = {"before": BEFORE, "after": self.last}.get(model, model)
        return self.evaluations.get(name)

    def responses(self, name: str) -> list[Sample]:
        """Graded responses behind an evaluation; none if their file is missing or damaged."""
        try:
            return self.directory.responses(name)
        except (UserError, ValidationError):
            return []

    def found(self) -> Iterator[Found]:
        """All that the page may quote of this run."""
        yield from (*self.evaluations.values(), *self.analyses.values(), self.rows, self.settings)
        if self.tokenizers:
            yield self.tokenizers


@dataclass(frozen=True)
class Data:
    """Everything on a page."""

    runs: list[Run]
    studies: list[Found]
    """`Study` records."""
    trouble: list[str] = field(default_factory=list)
    """One sentence for each file that could not be read."""
    comparison: Comparison | None = None
    """Of the runs, in their order, if the page is about nothing else (`esr compare`)."""

    def first(self, kind: str) -> tuple[Run, Found] | None:
        """The first run that has an analysis of this kind, and the analysis."""
        return next(iter(self.all(kind)), None)

    def all(self, kind: str) -> list[tuple[Run, Found]]:
        """All runs that have an analysis of this kind."""
        return [(run, run.analyses[kind]) for run in self.runs if kind in run.analyses]

    def command(self, kind: str) -> str:
        """The command that makes this analysis, for the first run on the page."""
        return f"esr analyze {kind} {shlex.quote(str(self.runs[0].directory.path)) if self.runs else 'RUN'}"

    def sources(self) -> dict[str, Found]:
        """Every file that the page may quote, by its name on the page."""
        return {found.source: found for found in (*self.studies, *(f for run in self.runs for f in run.found()))}


def load(paths: list[Path]) -> Data:
    """Read runs and studies. Raises `UserError` if a path is neither, or nothing at all can be read."""
    runs: list[Run] = []
    studies: list[Found] = []
    trouble: list[str] = []
    taken: set[str] = set()
    for path in paths:
        file = path / "study.json" if path.is_dir() else path
        if file.is_file() and file.suffix == ".json":
            try:
                name = _unique(file.parent if path.is_dir() else file.with_suffix(""), taken)
                studies.append(Found(read_record(file, Study), file, f"{name}/{file.name}"))
            except UserError as error:
                trouble.append(str(error))
        elif RunDir(path).exists():
            open_run(path)  # a model's directory is none
            run = _run(path, _unique(path, taken), trouble)
            if run is not None:
                runs.append(run)
        else:
            raise UserError(
                f"{path} is neither a run directory (no config.json) nor a study of which a run is complete (no study.json)."
            )
    if not runs and not studies:
        raise UserError(" ".join(trouble) or "Nothing to report: name a run directory or a study.")
    return Data(runs, studies, trouble)


def _unique(path: Path, taken: set[str]) -> str:
    """A short name for a directory that no other one on the page has."""
    whole = path.resolve()
    choices = [
        whole.name or "run",
        f"{whole.parent.name}/{whole.name}",
        *(f"{whole.name} ({i})" for i in range(2, 999)),
    ]
    name = next(choice for choice in choices if choice not in taken)
    taken.add(name)
    return name


def _run(path: Path, name: str, trouble: list[str]) -> Run | None:
    directory = RunDir(path)
    try:
        config = directory.config()
    except UserError as error:
        trouble.append(str(error))
        return None
    evaluations = _records(directory.evaluation_files(), name, lambda raw: Evaluation, trouble)
    analyses = _records(directory.analysis_files(), name, _finding, trouble)
    try:
        environment = directory.environment()
    except UserError as error:
        trouble.append(str(error))
        environment = {}
    try:
        metrics = directory.metrics()
    except UserError as error:
        trouble.append(str(error))
        metrics = []
    last = directory.last_step(config) if metrics else None
    complete = bool(metrics) and directory.complete(config)
    return Run(
        label=name,
        directory=directory,
        config=config,
        environment=environment,
        metrics=metrics,
        rollouts=[row for row in _lines(directory.rollouts_file, trouble) if {"step", "problem", "text"} <= row.keys()],
        evaluations={f.record.name: f for f in evaluations},
        analyses={_kind(f.record): f for f in analyses},
        tokenizers=_tokenizers(directory, name, trouble),
        complete=complete,
        going=not complete and (bool(metrics) or not (analyses or evaluations) or directory.in_use()),
        last="" if last is None else step_name(last),
    )


def _tokenizers(directory: RunDir, run: str, trouble: list[str]) -> Found | None:
    """What a run says of its two tokenizers; None, and trouble, if it cannot be read."""
    file = directory.tokenizers_file
    try:
        record = directory.tokenizers()
    except UserError as error:
        trouble.append(str(error))
        return None
    return Found(record, file, f"{run}/{file.name}") if record else None


def _finding(raw: dict[str, Any]) -> type[Finding] | None:
    """The class of an analysis's record; None if this version knows no such analysis."""
    row = ANALYSES.get(raw.get("kind", ""))
    return row.record if row else None


def _kind(record: Any) -> str:
    """A record's kind; one by the paper's protocol stands beside the other one."""
    protocol = getattr(record, "protocol", record.settings.get("protocol"))
    return f"{record.kind}-paper" if protocol == "paper" else str(record.kind)


def _named(record: Any, file: Path, run: Run) -> Found:
    return Found(record, file, f"{run.label}/{file.name}")


def _lines(file: Path, trouble: list[str]) -> list[dict[str, Any]]:
    """Rows of a `.jsonl` file; none, and trouble, if it cannot be read."""
    try:
        return list(read_lines(file)) if file.exists() else []
    except UserError as error:
        trouble.append(str(error))
        return []


def _records(files: list[Path], run: str, kind_of: Any, trouble: list[str]) -> list[Found]:
    found = []
    for file in files:
        try:
            raw = read_json(file)
            kind = kind_of(raw)
            if kind is None:
                trouble.append(f"{file}: not a record that this version knows.")
            else:
                found.append(Found(read_record(file, kind), file, f"{run}/{file.parent.name}/{file.name}"))
        except UserError as error:
            trouble.append(str(error))
    return found


def order(evaluations: list[Found]) -> list[Found]:
    """By step, the teacher last."""
    return sorted(evaluations, key=lambda f: by_progress(f.record))


def name_of(found: Found) -> str:
    """How people call an evaluation: `before`, `step 30`, `teacher`."""
    return str(found.record.label)
