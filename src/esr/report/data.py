"""What a page is made from: run directories and study records, read once, with whatever is damaged noted and left out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esr.config import Config
from esr.errors import UserError
from esr.findings import KINDS
from esr.results import Evaluation, Profile, Record, Sample, Study
from esr.rundir import RunDir, read_json, read_lines, read_record

RECORDS: dict[str, type[Record]] = {**KINDS, "profile": Profile}


@dataclass(frozen=True)
class Found:
    """A record and the file it came from."""

    record: Any
    file: Path


@dataclass(frozen=True)
class Run:
    """One run directory."""

    label: str
    path: Path
    config: Config
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    """Rows of samples.jsonl."""
    evaluations: dict[str, Found]
    """By name."""
    analyses: dict[str, Found]
    """By kind: `decay`, `profile`, ..."""
    finished: bool
    """Whether the last step's checkpoint is there."""

    def responses(self, name: str) -> list[Sample]:
        """Graded responses behind an evaluation; none if their file is missing or damaged."""
        file = self.path / "evals" / f"{name}.jsonl"
        return [Sample.model_validate(row) for row in read_lines(file)] if file.exists() else []


@dataclass(frozen=True)
class Data:
    """Everything on a page."""

    runs: list[Run]
    studies: list[Found]
    """`Study` records."""
    trouble: list[str] = field(default_factory=list)
    """One sentence for each file that could not be read."""

    def first(self, kind: str) -> tuple[Run, Found] | None:
        """The first run that has an analysis of this kind, and the analysis."""
        return next(((run, run.analyses[kind]) for run in self.runs if kind in run.analyses), None)


def load(paths: list[Path]) -> Data:
    """Read runs and studies. Raises `UserError` if a path is neither, or nothing at all can be read."""
    runs, studies, trouble = [], [], []
    for path in paths:
        file = path / "study.json" if path.is_dir() else path
        if file.is_file() and file.suffix == ".json":
            try:
                studies.append(Found(read_record(file, Study), file))
            except UserError as error:
                trouble.append(str(error))
        elif (path / "config.json").exists():
            run = _run(path, trouble)
            if run is not None:
                runs.append(run)
        else:
            raise UserError(f"{path} is neither a run directory (no config.json) nor a study (no study.json).")
    if not runs and not studies:
        raise UserError(" ".join(trouble) or "Nothing to report: name a run directory or a study.")
    return Data(runs, studies, trouble)


def _run(path: Path, trouble: list[str]) -> Run | None:
    directory = RunDir(path)
    try:
        config = directory.config()
    except UserError as error:
        trouble.append(str(error))
        return None
    evaluations = _records(sorted((path / "evals").glob("*.json")), lambda raw: Evaluation, trouble)
    analyses = _records(
        sorted((path / "analysis").glob("*.json")), lambda raw: RECORDS.get(raw.get("kind", "")), trouble
    )
    try:
        environment = read_json(path / "env.json")
    except UserError as error:
        trouble.append(str(error))
        environment = {}
    rollouts = list(read_lines(directory.samples_file)) if directory.samples_file.exists() else []
    last = path / "checkpoints" / f"step-{config.optim.steps:06d}"
    return Run(
        path.name, path, config, environment, directory.metrics(), rollouts,
        {f.record.name: f for f in evaluations}, {f.record.kind: f for f in analyses}, (last / "state.json").exists(),
    )  # fmt: skip


def _records(files: list[Path], kind_of: Any, trouble: list[str]) -> list[Found]:
    found = []
    for file in files:
        try:
            raw = read_json(file)
            kind = kind_of(raw) if isinstance(raw, dict) else None
            if kind is None:
                trouble.append(f"{file}: not a record that this version knows.")
            else:
                found.append(Found(read_record(file, kind), file))
        except UserError as error:
            trouble.append(str(error))
    return found
