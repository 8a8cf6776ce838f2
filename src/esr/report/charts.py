"""Charts as inline SVG: pure functions from points to text. Colours are classes (`c1`..`c6`), so the theme decides them.

Each chart is drawn twice, for a wide and for a narrow screen; the page shows the one that fits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from esr.report.format import attribute
from esr.report.scales import Axis
from esr.report.shapes import ALONE, Chart, Entry, legend, marker, short

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


@dataclass(frozen=True)
class Line:
    """A series: joined points, or dots."""

    name: str
    colour: str
    points: list[Point]
    interval: Literal["band", "whiskers", "none"] = "band"
    join: bool = True
    ghost: bool = False
    """Published numbers: dashed, grey, hollow."""
    control: bool = False
    """Shown on demand."""
    shape: int = 0
    """Circle, square, triangle, diamond: a second cue besides the colour."""
    size: float = 4

    @property
    def layer(self) -> str:
        """What can be switched on and off together; empty for what is always there."""
        return "published" if self.ghost else "controls" if self.control else ""


@dataclass(frozen=True)
class Level:
    """A horizontal reference with its interval."""

    name: str
    colour: str
    value: float
    low: float
    high: float
    tip: str = ""
    source: str = ""


@dataclass(frozen=True)
class Bar:
    """A horizontal bar of stacked parts: (name, colour, value, tip, source)."""

    name: str
    parts: list[tuple[str, str, float, str, str]]
    note: str = ""


def heights(lines: Sequence[Line]) -> list[float]:
    """All y values and interval ends."""
    return [
        v for line in lines for p in line.points for v in (p.y, p.low, p.high) if v is not None and math.isfinite(v)
    ]


def plot(
    label: str,
    lines: list[Line],
    x: Axis,
    y: Axis,
    window: tuple[float, float, str] | None = None,
    levels: Sequence[Level] = (),
    ident: str = "",
    names: Sequence[tuple[str, Point]] = (),
) -> Chart:
    """A line or dot chart with intervals. `names` are written beside their points."""
    ordered = sorted(lines, key=lambda line: not line.ghost)

    def draw(f: Frame) -> Markup:
        body = [_window(f, x, *window) if window else "", *_axes(f, x, y), *(_level(f, level, y) for level in levels)]
        body += [_band(f, line, x, y) for line in ordered if line.interval == "band" and not line.ghost]
        body += [_series(f, line, x, y) for line in ordered]
        body += _names(f, names, x, y)
        scale = f' data-x0="{f.left}" data-x1="{f.width - RIGHT}" data-low="{x.low}" data-high="{x.high}"'
        return _svg(f, label, f.height, "".join(body), scale)

    entries = [
        Entry(line.name, line.colour, line.shape + (0 if line.join else ALONE), line.layer)
        for line in lines
        if line.name and line.points
    ]
    return Chart(
        Markup("").join(map(draw, FRAMES)), legend([*entries, *(Entry(v.name, v.colour, -1) for v in levels)]), ident
    )


def bars(label: str, rows: list[Bar], axis: Axis) -> Chart:
    """Stacked horizontal bars, one row each, with a legend of the parts."""
    names = dict.fromkeys((name, colour) for row in rows for name, colour, *_ in row.parts)
    return Chart(
        Markup("").join(_bars(f, label, rows, axis) for f in FRAMES),
        legend([Entry(name, colour, -2) for name, colour in names] if len(names) > 1 else []),
    )


def _bars(f: Frame, label: str, rows: list[Bar], axis: Axis) -> Markup:
    left, step = f.beside or EDGE, 42 + f.above
    height = step * len(rows) + 58
    inner = f.width - left - (90 if f.beside else 64)
    body = _columns(axis, left, inner, height - 48)
    body.append(
        f'<text class="axis" x="{left + inner / 2:.1f}" y="{height - 8}" text-anchor="middle">{attribute(axis.label)}</text>'
    )
    for i, row in enumerate(rows):
        top, at = 10 + step * i + f.above, 0.0
        body.append(_row_name(f, row.name, top + 19 if f.beside else top - 5))
        for _, colour, value, tip, source in row.parts:
            start, end = (left + inner * axis.at(v) for v in (at, at + value))
            at += value
            body.append(
                f'<g class="pt {colour}"{_from(value, source)}><title>{attribute(tip)}</title>'
                f'<rect class="bar" x="{start:.1f}" y="{top}" width="{max(end - start, 0.5):.1f}" height="28"/></g>'
            )
        if row.note:
            body.append(
                f'<text class="tick" x="{left + inner * axis.at(at) + 8:.1f}" y="{top + 19}">{attribute(row.note)}</text>'
            )
    return _svg(f, label, height, "".join(body))


def strip(label: str, rows: Sequence[tuple[str, str, Point, Point | None]], axis: Axis) -> Chart:
    """One row for each (name, colour, point, published point): a dot on its interval along a common axis, at `point.y`."""
    return Chart(Markup("").join(_strip(f, label, rows, axis) for f in FRAMES))


def _strip(f: Frame, label: str, rows: Sequence[tuple[str, str, Point, Point | None]], axis: Axis) -> Markup:
    left, step = f.beside or EDGE, 30 + f.above
    height, inner = step * len(rows) + 44, f.width - left - 30
    body = _columns(axis, left, inner, height - 36)
    for i, (name, colour, p, ghost) in enumerate(rows):
        py = 4 + step * (i + 0.5) + f.above / 2
        low, mid, high = (
            left + inner * min(max(axis.at(v), 0), 1)
            for v in (p.low if p.low is not None else p.y, p.y, p.high if p.high is not None else p.y)
        )
        body.append(
            _row_name(f, name, py + 5 if f.beside else py - 12)
            + f'<g class="pt {colour}"{_from(p.y, p.source)}><title>{attribute(p.tip)}</title>'
            f'<line class="whisker thick" x1="{low:.1f}" x2="{high:.1f}" y1="{py}" y2="{py}"/>{marker(0, mid, py, 6)}</g>'
        )
        if ghost:
            ring = marker(0, left + inner * axis.at(ghost.y), py, 8.5)
            body.append(f'<g class="pt ghost" data-layer="published"><title>{attribute(ghost.tip)}</title>{ring}</g>')
    return _svg(f, label, height, "".join(body))


def _row_name(f: Frame, name: str, y: float) -> str:
    """Beside a bar, or above it where there is no room beside."""
    place = f'x="{f.beside - 10}" y="{y:g}" text-anchor="end"' if f.beside else f'x="8" y="{y:g}"'
    return f'<text class="name" {place}>{attribute(short(name, 25 if f.beside else 44))}</text>'


def _columns(axis: Axis, left: int, inner: int, bottom: int) -> list[str]:
    """Vertical grid lines with their values below, for horizontal bars."""
    places = [(left + inner * axis.at(tick), attribute(axis.form(tick))) for tick in axis.marks()]
    return [
        f'<line class="grid" x1="{px:.1f}" x2="{px:.1f}" y1="4" y2="{bottom}"/>'
        f'<text class="tick" x="{px:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
        for px, text in places
    ]


def _svg(f: Frame, label: str, height: int, body: str, extra: str = "") -> Markup:
    return Markup(
        f'<svg class="chart {f.name}" viewBox="0 0 {f.width} {height}" role="img" aria-label="{attribute(label)}"{extra}>'
        f"{body}</svg>"
    )


def _axes(f: Frame, x: Axis, y: Axis) -> list[str]:
    base = f.height - BOTTOM
    parts = []
    for tick in y.marks():
        py = f.y(y, tick)
        parts.append(f'<line class="grid" x1="{f.left}" x2="{f.width - RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{f.left - 8}" y="{py + 4:.1f}" text-anchor="end">{attribute(y.form(tick))}</text>'
        )
    labelled = float("-inf")
    for tick in x.marks():
        px, text = f.x(x, tick), attribute(x.form(tick))
        parts.append(f'<line class="base" x1="{px:.1f}" x2="{px:.1f}" y1="{base}" y2="{base + 5}"/>')
        if px - labelled > 12 + LETTER * len(text):
            parts.append(f'<text class="tick" x="{px:.1f}" y="{base + 20}" text-anchor="middle">{text}</text>')
            labelled = px
    parts.append(f'<line class="base" x1="{f.left}" x2="{f.width - RIGHT}" y1="{base}" y2="{base}"/>')
    middle = (f.left + f.width - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle:.0f}" y="{f.height - 8}" text-anchor="middle">{attribute(x.label)}</text>'
    )
    turn = f'transform="rotate(-90)" x="{-(TOP + base) / 2:.0f}" y="14" text-anchor="middle"'
    return [*parts, f'<text class="axis" {turn}>{attribute(y.label)}</text>']


def _window(f: Frame, x: Axis, start: float, end: float, name: str) -> str:
    left, right = f.x(x, max(start, x.low)), f.x(x, min(end, x.high))
    return (
        f'<rect class="window" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0):.1f}" height="{f.height - TOP - BOTTOM}"/>'
        f'<text class="tick window-name" x="{left + 6:.1f}" y="{TOP - 8}">{attribute(name)}</text>'
    )


def _level(f: Frame, level: Level, y: Axis) -> str:
    top, mid, bottom = (f.y(y, v) for v in (level.high, level.value, level.low))
    return (
        f'<g class="pt {level.colour}"{_from(level.value, level.source)}><title>{attribute(level.tip)}</title>'
        f'<rect class="band" x="{f.left}" y="{top:.1f}" width="{f.width - f.left - RIGHT}" height="{bottom - top:.1f}"/>'
        f'<line class="curve" x1="{f.left}" x2="{f.width - RIGHT}" y1="{mid:.1f}" y2="{mid:.1f}"/></g>'
    )


def _band(f: Frame, line: Line, x: Axis, y: Axis) -> str:
    known = [(p.x, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
    if len(known) < 2 or not line.join:
        return ""
    upper = [f"{f.x(x, at):.1f},{f.y(y, high):.1f}" for at, _, high in known]
    lower = [f"{f.x(x, at):.1f},{f.y(y, low):.1f}" for at, low, _ in reversed(known)]
    return f'<polygon class="band {line.colour}" points="{" ".join(upper + lower)}"/>'


def _series(f: Frame, line: Line, x: Axis, y: Axis) -> str:
    kind = f"{line.colour} ghost" if line.ghost else line.colour
    path = " ".join(f"{f.x(x, p.x):.1f},{f.y(y, p.y):.1f}" for p in line.points)
    curve = f'<polyline class="curve" points="{path}"/>' if line.join and len(line.points) > 1 else ""
    layer = f' data-layer="{line.layer}"' if line.layer else ""
    return f'<g class="{kind}"{layer}>{curve}{"".join(_point(f, line, p, x, y) for p in line.points)}</g>'


def _point(f: Frame, line: Line, p: Point, x: Axis, y: Axis) -> str:
    px, py = f.x(x, p.x), f.y(y, p.y)
    whisker = ""
    if line.interval == "whiskers" and p.low is not None and p.high is not None:
        whisker = (
            f'<line class="whisker" x1="{px:.1f}" x2="{px:.1f}" y1="{f.y(y, p.low):.1f}" y2="{f.y(y, p.high):.1f}"/>'
        )
    return (
        f'<g class="pt{" few" if p.faint else ""}"{_from(p.y, p.source)}><title>{attribute(p.tip)}</title>{whisker}'
        f'<circle class="hit" cx="{px:.1f}" cy="{py:.1f}" r="11"/>{marker(line.shape, px, py, line.size)}</g>'
    )


def _names(f: Frame, names: Sequence[tuple[str, Point]], x: Axis, y: Axis) -> list[str]:
    """Labels beside their points: the first place that is inside the chart and clear of the points and the labels before, right
    or left of the point and above it or below."""
    taken = [(f.x(x, p.x) - 6, f.y(y, p.y) + 5, 12.0) for _, p in names]
    texts = []
    for name, p in names:
        px, py, wide = f.x(x, p.x), f.y(y, p.y), LETTER * len(name)
        places = [(at, py + off) for off in (-6, 16, -22, 32) for at in (px + 10, px - 10 - wide)]
        inside = [(at, base) for at, base in places if at >= 0 and at + wide <= f.width] or [(0, py - 6)]
        clear = (place for place in inside if not any(_meet(place, wide, other) for other in taken))
        at, base = next(clear, inside[0])
        taken.append((at, base, wide))
        anchor, edge = ("start", at) if at > px else ("end", at + wide)
        texts.append(
            f'<text class="tick" x="{edge:.1f}" y="{base:.1f}" text-anchor="{anchor}">{attribute(name)}</text>'
        )
    return texts


def _meet(place: tuple[float, float], wide: float, other: tuple[float, float, float]) -> bool:
    """Whether two labels, by their left ends, base lines and widths, would overlap."""
    (at, base), (there, line, width) = place, other
    return at < there + width and there < at + wide and abs(base - line) < 14


def _from(value: float, source: str) -> str:
    return f' data-value="{value!r}" data-source="{attribute(source)}"' if source else ""
