"""Axes: where a value lies, and at which values to put ticks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from esr.report.format import plain


@dataclass(frozen=True)
class Axis:
    """A scale with ticks."""

    label: str
    low: float
    high: float
    form: Callable[[float], str] = plain
    ticks: Sequence[float] = ()
    log: bool = False
    knots: Sequence[float] = ()
    """Values at equal distances, linear between them; for bins of unequal width."""

    def at(self, value: float) -> float:
        """Place between 0 and 1."""
        if self.knots:
            value = min(max(value, self.knots[0]), self.knots[-1])
            i = next((i for i, (_, b) in enumerate(pairwise(self.knots)) if value <= b), 0)
            a, b = self.knots[i], self.knots[i + 1]
            return (i + (value - a) / (b - a)) / (len(self.knots) - 1)
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def marks(self) -> Sequence[float]:
        return self.ticks or nice(self.low, self.high)


def nice(low: float, high: float, about: int = 5) -> list[float]:
    """Round tick values within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def span(values: Sequence[float], floor: float | None = None, ceiling: float | None = None) -> tuple[float, float]:
    """Ends of an axis: a little beyond the data, within [floor, ceiling]."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    low, high = low - room, high + room
    return (max(low, floor) if floor is not None else low), (min(high, ceiling) if ceiling is not None else high)
