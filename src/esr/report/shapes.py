"""What charts are put together from: a drawing with its legend, markers, and names."""

from dataclasses import dataclass, field

from markupsafe import Markup

ALONE = 100
"""Added to a shape in a legend: a marker without a line."""


@dataclass(frozen=True)
class Chart:
    """An SVG and its legend."""

    svg: Markup
    legend: Markup = field(default_factory=Markup)

    def __html__(self) -> str:
        return f'<div class="scroll" tabindex="0" role="group" aria-label="Chart">{self.svg}</div>{self.legend}'


def short(name: str, most: int = 25) -> str:
    """A name that fits beside a bar."""
    return name if len(name) <= most else name[: most - 1] + "…"


def legend(entries: list[tuple[str, str, bool, int]]) -> Markup:
    """(name, colour, ghost, shape) as an HTML list; wraps on a narrow screen."""
    items = Markup("").join(
        Markup('<li class="{}{}"><svg width="26" height="12" aria-hidden="true">{}</svg>{}</li>').format(
            colour, " ghost" if ghost else "", Markup(_swatch(shape)), name
        )
        for name, colour, ghost, shape in entries
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
