"""Where things lie if nobody says otherwise. No torch here."""

import re
from pathlib import Path

from esr.config import Config

HOME = Path("runs")


def run_directory(config: Config, file: Path) -> Path:
    """The directory of the run that a config file describes: `run.dir`, or `runs/` and the file's name."""
    return Path(config.run.dir) if config.run.dir else HOME / file.stem


def untrained_directory(config: Config, file: Path) -> Path:
    """Where analyses of a config file's models go: beside the run, so that training finds its own directory empty."""
    return pair_of(run_directory(config, file))


def pair_of(run: Path) -> Path:
    """Where analyses of the untrained pair of a run go."""
    return run.with_name(f"{run.name}-pair")


def pair_directory(student: str, teacher: str) -> Path:
    """Where analyses of two model references go."""
    return HOME / "--".join(
        re.sub(r"[^A-Za-z0-9.]+", "-", reference.rstrip("/")).strip("-")[-60:] for reference in (student, teacher)
    )


def study_directory(name: str) -> Path:
    """Where a study keeps its record, its page and, by default, its runs."""
    return HOME / "studies" / name


def study_record(name: str) -> Path:
    """A study's record."""
    return study_directory(name) / "study.json"
