"""Runs that exist, side by side. No torch here."""

from typing import Literal

from esr.records.base import FORMAT_VERSION, Estimate, Record


class ComparedRun(Record):
    """One run against the first one."""

    run: str
    evaluation: str
    """Name of the evaluation after its last step."""
    avg: Estimate | None
    difference: Estimate | None
    """avg@k minus the first run's, paired by problem; None for the first run itself."""
    closeness: dict[str, Estimate] = {}
    """Of a task without references: each of `records.closeness.MEASURES`."""
    closer: dict[str, Estimate] = {}
    """Each of them minus the first run's, paired by problem."""
    common: int
    """Problems that both graded."""
    left_out: int
    """Problems that only one of the two has, or graded."""
    same_numbers: bool
    """Whether both sampled with the same random numbers, which makes the pairing closer."""
    differs: list[str]
    """Configuration keys in which the run differs from the first."""


class Comparison(Record):
    """What `esr compare` finds; the first run is the reference."""

    format_version: int = FORMAT_VERSION
    kind: Literal["comparison"] = "comparison"
    task: str
    samples: int
    """Responses to each problem."""
    runs: list[ComparedRun]
