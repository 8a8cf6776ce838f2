"""Arms compared: `study.json`."""

from typing import Any, Literal

from pydantic import field_validator

from esr.records.base import FORMAT_VERSION, Estimate, Record


class CurvePoint(Record):
    """A student's accuracy after some training."""

    step: int
    seconds: float
    """Training time, evaluations left out."""
    tokens: int
    """Generated so far."""
    avg: Estimate


NOT_RUN = "not run yet"


class ArmSeed(Record):
    """One run of a study."""

    seed: int
    run: str
    """Directory, relative to the study's runs."""
    error: str | None
    """Why there is no result; then all numbers below are empty."""
    avg: Estimate | None = None
    before: Estimate | None = None
    teacher: Estimate | None = None
    finish_rate: Estimate | None = None
    avg_first: Estimate | None = None
    avg_any: Estimate | None = None
    repetition_rate: Estimate | None = None
    strategy_rate: Estimate | None = None
    tokens: dict[str, float] = {}
    """Response length at the end: p10, p50, p90, mean."""
    steps: int | None = None
    mean_n: float | None = None
    """Mean over the steps of the N at which each stopped its rollouts; None in records from before there were horizons."""
    seconds: float | None = None
    """Training, evaluations left out."""
    generated: int | None = None
    peak_memory_gib: float | None = None
    curve: list[CurvePoint] = []


Role = Literal["early", "full"]


class Arm(Record):
    """One training setting, over its seeds."""

    name: str
    role: Role | None = None
    """What the study says that it stands for: early-stopped rollouts, or full ones."""
    overrides: dict[str, Any]
    n: int
    """`rollout.max_new_tokens`: the largest N, where N changes from step to step."""
    mean_n: float | None = None
    """Mean N of the steps."""
    student: str
    teacher_model: str
    seeds: list[ArmSeed]
    avg: Estimate | None
    """Pooled; its interval covers problems and seeds."""
    gain: Estimate | None
    """Against the untrained student, paired by problem and seed."""
    reference: str | None = None
    """The arm that this one is compared with; None for a reference itself."""
    difference: Estimate | None
    """Against the reference arm, paired by problem and seed."""
    to_teacher: Estimate | None
    """Against the teacher, paired."""
    before: Estimate | None
    teacher: Estimate | None
    marks: list[str]
    """`exceeds teacher`, `collapsed`, `worse than untrained`, by the rules in `Study.rules`."""
    steps: float | None
    """Mean over the seeds that have finished; likewise the rest. None if none has."""
    seconds: float | None
    """Of training."""
    seconds_per_step: float | None
    generated: float | None
    peak_memory_gib: float | None
    """The highest of any seed."""

    @property
    def stops_at(self) -> str:
        """N in words: `100`, or `112 of 200` where the steps stop at 112 on average and at 200 at most."""
        fixed = self.mean_n is None or round(self.mean_n) == self.n
        return str(self.n) if fixed else f"{self.mean_n:.0f} of {self.n}"


class Study(Record):
    """Arms compared: `study.json`."""

    format_version: int = FORMAT_VERSION
    kind: Literal["study"] = "study"
    name: str
    question: str
    rule: Literal["updates", "tokens", "seconds"]
    """What all arms have in common: optimiser steps, generated tokens, or training seconds."""
    reference: list[str]
    """The arms that others are compared with."""
    task: str
    problems: int
    samples: int
    seeds: list[int]
    base: dict[str, Any]
    """The configuration that arms override."""
    rules: dict[str, str]
    """What each mark means."""
    arms: list[Arm]
    environment: dict[str, Any]
    command: str
    seconds: float
    """Of all runs together, evaluations included."""

    @field_validator("reference", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """Older records join them by commas."""
        return value.split(", ") if isinstance(value, str) else value
