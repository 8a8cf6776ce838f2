"""What all charts share: the frames that they are drawn in, a point with its interval, and where a number comes from."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from esr.report.format import attribute
from esr.report.scales import Axis

RIGHT, TOP, BOTTOM = 20, 24, 52


EDGE = 18
"""Room on the left for half of the first tick's label, where names stand above their bars."""


LETTER = 7
"""Width of a letter of a tick's label, at most."""


@dataclass(frozen=True)
class Frame:
    """The drawing area of a chart, in pixels."""

    name: str
    width: int
    height: int
    left: int
    """Room for the ticks of a vertical axis."""
    beside: int
    """Room for names beside horizontal bars; 0: they stand above their bars."""

    @property
    def above(self) -> int:
        """Room for a name above its bar."""
        return 0 if self.beside else 18

    def x(self, axis: Axis, value: float) -> float:
        return self.left + (self.width - self.left - RIGHT) * axis.at(value)

    def y(self, axis: Axis, value: float) -> float:
        """A little beyond the axis at most, wherever the value is."""
        place = min(max(axis.at(value), -0.02), 1.02) if math.isfinite(value) else (1.02 if value > 0 else -0.02)
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * place


FRAMES = (Frame("wide", 760, 380, 66, 216), Frame("narrow", 360, 320, 62, 0))


@dataclass(frozen=True)
class Point:
    """One value, with its interval if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""
    """What hovering shows."""
    source: str = ""
    """FILE#/pointer of `y`."""
    faint: bool = False
    """Drawn hollow: too little behind it to read a trend."""


def svg(f: Frame, label: str, height: int, body: str, extra: str = "") -> Markup:
    return Markup(
        f'<svg class="chart {f.name}" viewBox="0 0 {f.width} {height}" role="img" aria-label="{attribute(label)}"{extra}>'
        f"{body}</svg>"
    )


def source_of(value: float, source: str) -> str:
    return f' data-value="{value!r}" data-source="{attribute(source)}"' if source else ""
