"""A run directory: the interface between training, evaluation, analyses and the report. No torch here.

    config.json  env.json  metrics.jsonl  samples.jsonl  evals/  analysis/  checkpoints/step-000050/

Every file is written atomically or, for the `.jsonl` files, appended line by line; a torn last line is dropped on resume.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from esr.config import Config
from esr.configfile import validate
from esr.errors import UserError
from esr.records.base import FORMAT_VERSION
from esr.records.evaluation import Evaluation, Sample
from esr.runs.environment import environment
from esr.runs.files import dumps, read_json, read_lines, read_record, writable, write_json, write_text

FREE_TO_CHANGE = (
    "run.dir", "run.trackers", "run.checkpoint_every", "run.samples_every", "optim.micro_batch_tokens", "eval.every",
)  # fmt: skip
"""Keys that may differ between a run and its resumption without changing its numbers."""
LOCK = ".lock"
"""The file that the process at work in a run directory holds."""


class RunDir:
    """Reads and writes one run's files."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        return self.path / "samples.jsonl"

    def exists(self) -> bool:
        return (self.path / "config.json").exists()

    def start(self, config: Config, device: str, fresh: bool) -> None:
        """Create the directory, or open it to resume. `fresh` moves an existing run aside (to NAME~1, NAME~2, ...).

        Raises `UserError` if the directory holds something else, or a run with another configuration.
        """
        if fresh and self.path.exists():
            self._move_aside()
        if self.exists():
            self._require_same(config)
        elif self.path.exists() and any(p.name != LOCK for p in self.path.iterdir()):
            raise UserError(f"{self.path} exists and is not a run directory; choose another with run.dir=PATH.")
        with writable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "env.json").exists():
                write_json(self.path / "env.json", {**environment(device), "resumed": []})
            write_json(self.path / "config.json", {"format_version": FORMAT_VERSION, **config.model_dump()})

    def note_resumption(self, device: str, step: int) -> None:
        """Add to `env.json` where and with what a run goes on after `step`; the first environment stays."""
        first = read_json(self.path / "env.json")
        resumed = [*first.get("resumed", []), {"after_step": step, **environment(device)}]
        write_json(self.path / "env.json", {**first, "resumed": resumed})

    def _move_aside(self) -> None:
        """Everything but the lock goes to NAME~1, so that the directory stays locked; `config.json`, which makes it a run, first."""
        number = 1
        while (target := self.path.with_name(f"{self.path.name}~{number}")).exists():
            number += 1
        with writable(target):
            target.mkdir()
            for file in sorted(self.path.iterdir(), key=lambda f: f.name != "config.json"):
                if file.name != LOCK:
                    shutil.move(file, target / file.name)

    def _require_same(self, config: Config) -> None:
        old, new = flatten(self.config().model_dump()), flatten(config.model_dump())
        changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k) and k not in FREE_TO_CHANGE]
        if changed:
            shown = ", ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in changed[:3])
            raise UserError(
                f"{self.path} holds a run with another configuration ({shown}). Choose another run.dir, or add --fresh to "
                "move that run aside and start anew."
            )

    def config(self) -> Config:
        """The resolved configuration of this run."""
        return validate(read_json(self.path / "config.json"), where=str(self.path / "config.json"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process out of this directory."""
        with writable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                held = FileLock(self.path / LOCK).acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"{self.path} is in use by another esr process; wait for it, or choose another run.dir."
                ) from None
        with held:
            yield

    def append(self, file: Path, row: dict[str, Any]) -> None:
        """Add one line to a `.jsonl` file."""
        with open(file, "a", encoding="utf-8") as out:
            out.write(dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop lines of steps later than `step`, and torn ones: they will be written again."""
        for file in (self.metrics_file, self.samples_file):
            if file.exists():
                kept = [row for row in read_lines(file) if row["step"] <= step]
                write_text(file, "".join(dumps(row) + "\n" for row in kept))

    def metrics(self) -> list[dict[str, Any]]:
        """One row for each optimiser step."""
        return list(read_lines(self.metrics_file)) if self.metrics_file.exists() else []

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(p for p in (self.path / "checkpoints").glob("step-*") if (p / "state.json").exists())

    # Evaluations

    def save_evaluation(self, evaluation: Evaluation, samples: list[Sample]) -> None:
        folder = self.path / "evals"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{evaluation.name}.jsonl", "".join(s.model_dump_json() + "\n" for s in samples))
        write_json(folder / f"{evaluation.name}.json", evaluation.model_dump())

    def evaluation(self, name: str) -> Evaluation | None:
        """A finished evaluation, or None."""
        file = self.path / "evals" / f"{name}.json"
        return read_record(file, Evaluation) if file.exists() else None

    def evaluations(self) -> list[Evaluation]:
        return [read_record(p, Evaluation) for p in sorted((self.path / "evals").glob("*.json"))]

    def samples(self, name: str) -> list[Sample]:
        """The responses behind an evaluation."""
        return [Sample.model_validate(row) for row in read_lines(self.path / "evals" / f"{name}.jsonl")]

    def save_analysis(self, name: str, record: BaseModel) -> Path:
        folder = self.path / "analysis"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", record.model_dump())
        return folder / f"{name}.json"


def open_run(path: str | Path) -> RunDir:
    """An existing run. Raises `UserError` if `path` is none."""
    run = RunDir(path)
    if not run.exists():
        raise UserError(f"{path} is not a run directory (it has no config.json).")
    return run


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
