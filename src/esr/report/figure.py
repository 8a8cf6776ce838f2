"""A chart with the table of the same numbers, the file they come from, and what kind of interval they have."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from esr.report.charts import Chart
from esr.report.format import NONE, Quoted, datum

BY_PROBLEM = "95% interval clustered by problem"
BY_RESPONSE = "95% interval by response"
BY_SEED_AND_PROBLEM = "95% interval over problems and seeds"


@dataclass(frozen=True)
class Figure:
    """What the macro `figure` shows."""

    chart: Chart
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """Text, or cells of `esr.report.format`."""
    source: str | Markup
    caption: str | Markup = ""
    ident: str = ""


@dataclass(frozen=True)
class Table:
    """A table without a chart."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    notes: Sequence[str | Markup] = field(default_factory=tuple)
    folds: bool = False
    """Whether the reader can fold it away."""


def source_line(found: Quoted, pointer: str, unit: str, interval: str, more: str = "") -> Markup:
    """`Source: lab/analysis/decay.json · n = 120 problems · 95% interval ...`; `pointer` names n in the record."""
    n = datum(found, pointer, "count")
    return Markup("Source: {} · n = {} {}{} · {}").format(found.source, n, unit, more, interval)


def without_empty(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[list[Any]]]:
    """Without the columns in which no row has anything."""
    kept = [c for c in range(len(columns)) if any(str(row[c]) not in ("", str(NONE)) for row in rows)]
    return [columns[c] for c in kept], [[row[c] for c in kept] for row in rows]
