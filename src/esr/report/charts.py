"""Charts as inline SVG: pure functions from points to text. Colours are classes (`c1`..`c6`), so the theme decides them.

Each chart is drawn twice, for a wide and for a narrow screen; the page shows the one that fits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from esr.report.format import attribute
from esr.report.frames import BOTTOM, FRAMES, LETTER, RIGHT, TOP, Frame, Point, source_of, svg
from esr.report.scales import Axis
from esr.report.shapes import ALONE, Chart, Entry, legend, marker


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
        return svg(f, label, f.height, "".join(body), scale)

    entries = [
        Entry(line.name, line.colour, line.shape + (0 if line.join else ALONE), line.layer)
        for line in lines
        if line.name and line.points
    ]
    return Chart(
        Markup("").join(map(draw, FRAMES)), legend([*entries, *(Entry(v.name, v.colour, -1) for v in levels)]), ident
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
        f'<g class="pt {level.colour}"{source_of(level.value, level.source)}><title>{attribute(level.tip)}</title>'
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
        f'<g class="pt{" few" if p.faint else ""}"{source_of(p.y, p.source)}><title>{attribute(p.tip)}</title>{whisker}'
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
