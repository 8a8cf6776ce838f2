"""What charts are put together from: a drawing with its legend, markers, and names."""

from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

ALONE = 100
"""Added to a shape in a legend: a marker without a line."""


@dataclass(frozen=True)
class Chart:
    """An SVG for each width of screen, and their legend."""

    svg: Markup
    legend: Markup = field(default_factory=Markup)
    ident: str = ""
    """Element id, for scripts."""

    def __html__(self) -> str:
        name = f' id="{self.ident}"' if self.ident else ""
        return f'<div class="drawing"{name}>{self.svg}{self.legend}</div>'


class Entry(NamedTuple):
    """A series in a legend."""

    name: str
    colour: str
    shape: int
    layer: str = ""
    """What it is switched on and off with."""


def short(name: str, most: int = 25) -> str:
    """A name that fits beside a bar."""
    return name if len(name) <= most else name[: most - 1] + "…"


def legend(entries: list[Entry]) -> Markup:
    """An HTML list; wraps on a narrow screen."""
    items = Markup("").join(
        Markup('<li class="{}{}"{}><svg width="26" height="12" aria-hidden="true">{}</svg>{}</li>').format(
            entry.colour,
            " ghost" if entry.layer == "published" else "",
            Markup(f' data-layer="{entry.layer}"') if entry.layer else "",
            Markup(_swatch(entry.shape)),
            entry.name,
        )
        for entry in entries
    )
    return Markup('<ul class="legend">{}</ul>').format(items) if entries else Markup("")


def _swatch(shape: int) -> str:
    if shape == -2:
        return '<rect class="bar" x="7" y="0" width="12" height="12"/>'
    if shape < 0:
        return (
            '<rect class="band" x="0" y="1" width="26" height="10"/><line class="curve" x1="0" x2="26" y1="6" y2="6"/>'
        )
    curve = '<line class="curve" x1="0" x2="26" y1="6" y2="6"/>' if shape < ALONE else ""
    return f"{curve}{marker(shape, 13, 6, 4)}"


def marker(shape: int, x: float, y: float, r: float) -> str:
    if shape % 4 == 0:
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    if shape % 4 == 1:
        return f'<rect class="mark" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"/>'
    corners = [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)] if shape % 4 == 2 else [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)]
    return f'<polygon class="mark" points="{" ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in corners)}"/>'
