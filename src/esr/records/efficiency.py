"""What runs cost: `analysis/efficiency.json`."""

from typing import Literal

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings
from esr.records.study import CurvePoint


class EfficiencySettings(Settings):
    """Nothing to choose: everything is read from the runs."""


class EfficiencyRow(Record):
    """What one run cost."""

    run: str
    n: int
    """`rollout.max_new_tokens`."""
    steps: int
    responses_per_step: int
    phases: dict[str, Estimate]
    """Seconds a step in `sync`, `generate`, `score`, `train`, and in all (`step`)."""
    tokens_generated: float
    """A step, mean; likewise the next two."""
    tokens_scored: float
    tokens_trained: float
    peak_memory_gib: float
    """The highest of any step; measured, all phases of a step together."""
    memory_kind: Literal["device", "process"]
    """Allocated on the accelerator, or resident in the process (libraries included)."""
    curve: list[CurvePoint]
    seconds_to_reach: float | None
    """Training seconds at which its accuracy reaches `target` (linear between evaluations); None: not reached."""


class Efficiency(Finding):
    """What did it cost? `analysis/efficiency.json`."""

    kind: Literal["efficiency"] = "efficiency"
    device: str
    target: float | None
    """The accuracy to reach: the lowest of the runs' best points; None without evaluations."""
    rows: list[EfficiencyRow]
