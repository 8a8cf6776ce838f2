"""Horizontal charts: stacked bars, and rows of dots on their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from esr.report.format import attribute
from esr.report.frames import EDGE, FRAMES, Frame, Point, source_of, svg
from esr.report.scales import Axis
from esr.report.shapes import Chart, Entry, legend, marker, short


@dataclass(frozen=True)
class Bar:
    """A horizontal bar of stacked parts: (name, colour, value, tip, source)."""

    name: str
    parts: list[tuple[str, str, float, str, str]]
    note: str = ""


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
                f'<g class="pt {colour}"{source_of(value, source)}><title>{attribute(tip)}</title>'
                f'<rect class="bar" x="{start:.1f}" y="{top}" width="{max(end - start, 0.5):.1f}" height="28"/></g>'
            )
        if row.note:
            body.append(
                f'<text class="tick" x="{left + inner * axis.at(at) + 8:.1f}" y="{top + 19}">{attribute(row.note)}</text>'
            )
    return svg(f, label, height, "".join(body))


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
            + f'<g class="pt {colour}"{source_of(p.y, p.source)}><title>{attribute(p.tip)}</title>'
            f'<line class="whisker thick" x1="{low:.1f}" x2="{high:.1f}" y1="{py}" y2="{py}"/>{marker(0, mid, py, 6)}</g>'
        )
        if ghost:
            ring = marker(0, left + inner * axis.at(ghost.y), py, 8.5)
            body.append(f'<g class="pt ghost" data-layer="published"><title>{attribute(ghost.tip)}</title>{ring}</g>')
    return svg(f, label, height, "".join(body))


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
