"""Where the gain of training sits: `analysis/prefix-swap.json`."""

from typing import Literal

from pydantic import Field

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class PrefixSwapSettings(Settings):
    """Problems, responses and the place of the swap."""

    problems: int = Field(200, ge=2)
    """Problems, from those of the evaluation."""
    samples: int = Field(4, ge=1)
    """Responses to each problem."""
    n: int | None = Field(None, ge=1)
    """Tokens of the prefix; default: the run's N."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"problems": 40, "samples": 2}


class SwapCondition(Record):
    """Accuracy of responses that one student begins and another ends."""

    prefix: Literal["before", "after"]
    tail: Literal["before", "after"]
    avg: Estimate
    change: Estimate | None
    """Against prefix and tail of the untrained student, paired by problem; None for that one itself."""


class PrefixSwap(Finding):
    """Where the gain of training sits, in the first `n` tokens or behind them: `analysis/prefix-swap.json`."""

    kind: Literal["prefix-swap"] = "prefix-swap"
    n: int
    """Tokens of the prefix."""
    samples: int
    finished: dict[str, int]
    """Prefixes of each writer (`before`, `after`) that ended within n tokens; they count with their own grade."""
    conditions: list[SwapCondition]
    share_in_prefix: float | None
    """Gain of (after, before) over gain of (after, after); None if the latter is not certain to be above zero."""
