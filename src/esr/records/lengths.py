"""Response lengths: `analysis/lengths.json`."""

from typing import Literal

from pydantic import Field

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class LengthsSettings(Settings):
    """What is sampled where a run has no evaluations to take the lengths from."""

    problems: int = Field(64, ge=2)
    """Held-out prompts, if responses have to be sampled."""
    seed: int = 1
    """Seed of those responses."""

    QUICK = {"problems": 24}


class LengthRow(Record):
    """Response lengths of one model."""

    model: str
    """`before`, `step 30`, `teacher`, or another run's name."""
    responses: int
    finish_rate: Estimate
    p10: Estimate
    """Tokens; intervals of quantiles are by a bootstrap over problems."""
    p50: Estimate
    p90: Estimate
    mean: Estimate
    histogram: list[tuple[int, int]]
    """(first length, count) of equal bins."""


class Lengths(Finding):
    """Does it stay concise? `analysis/lengths.json`."""

    kind: Literal["lengths"] = "lengths"
    max_new_tokens: int
    bin_width: int
    rows: list[LengthRow]
