"""The one place where a number becomes text, and where text from outside becomes safe to put into the page.

A number that comes from a record is shown as `<data value="RAW" data-source="FILE#/json/pointer">52.1%</data>`, so that
anybody can walk the page and compare each number with its source.
"""

import json
import math
from collections.abc import Callable
from typing import Any, Protocol

from markupsafe import Markup, escape
from pydantic import BaseModel

from esr.console import duration
from esr.runs.files import finite

NONE = Markup('<span class="none">–</span>')
PAGE_FORMS = {"nats": ("nats", "change_nats"), "percent": ("pct", "points"), "tokens": ("tokens", "plain")}
"""Forms of a measure and of its change on the page."""


class Quoted(Protocol):
    """A record and the name of its file on the page (`esr.report.sources.Found`)."""

    @property
    def record(self) -> Any: ...

    @property
    def source(self) -> str: ...


def minus(text: str) -> str:
    """With a true minus sign, and no sign at all on a zero."""
    return text.lstrip("+-") if not text.strip("+-0.%") else text.replace("-", "−")


def pct(value: float) -> str:
    """`52.1%`."""
    return minus(f"{100 * value:.1f}%")


def round_pct(value: float) -> str:
    """`52%`: for the ticks of an axis."""
    return minus(f"{100 * value:.0f}%")


def points(value: float) -> str:
    """A difference of shares, in percentage points: `+6.0`."""
    return minus(f"{100 * value:+.1f}")


def nats(value: float) -> str:
    return minus(f"{value:.3f}")


def change_nats(value: float) -> str:
    return minus(f"{value:+.3f}")


def seconds(value: float) -> str:
    """`0.35 s`, `12.3 s`, `3 min 20 s`."""
    if value < 100:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return duration(value)


def count(value: float) -> str:
    """`12,345`."""
    return f"{round(value):,}"


def several(number: int, unit: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {unit}" if number == 1 else f"{number:,} {unit}s"


def tokens(value: float) -> str:
    """A mean or quantile of token counts."""
    return f"{value:.1f}" if value < 100 and value != round(value) else count(value)


def gib(value: float) -> str:
    return f"{value:.2f} GiB"


def times(value: float) -> str:
    """A ratio: `6.0×`, `0.17×`."""
    return f"{value:.2f}×" if value < 1 else f"{value:.1f}×" if value < 100 else f"{value:,.0f}×"


def plain(value: float) -> str:
    return minus(f"{value:g}")


FORMS: dict[str, Callable[[float], str]] = {
    "pct": pct, "points": points, "nats": nats, "change_nats": change_nats, "seconds": seconds, "count": count, "tokens": tokens,
    "gib": gib, "times": times, "plain": plain,
}  # fmt: skip


def show(value: float, form: str) -> str:
    """A number in one of `FORMS`; an interval without end has `∞` there."""
    return FORMS[form](value) if math.isfinite(value) else "∞" if value > 0 else "−∞"


def lookup(tree: Any, pointer: str) -> Any:
    """What a JSON pointer (`/arms/0/avg/value`, RFC 6901) names in a record. None below something absent."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if tree is None:
            return None
        if isinstance(tree, BaseModel):
            tree = getattr(tree, key)
        elif isinstance(tree, dict):
            tree = tree.get(key)
        else:
            tree = tree[int(key)]
    return tree


def step_into(key: str) -> str:
    """One key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def where(found: Quoted, pointer: str) -> str:
    """The value of `data-source`."""
    return f"{found.source}#{pointer}"


def datum(found: Quoted, pointer: str, form: str = "pct", bare: bool = False) -> Markup:
    """A number of a record, marked with its source; a dash where it is None. `bare` leaves out the percent sign."""
    value = lookup(found.record, pointer)
    if value is None:
        return NONE
    text = show(value, form)
    text = text.rstrip("%") if bare else text
    return Markup('<data value="{}" data-source="{}">{}</data>').format(repr(value), where(found, pointer), text)


def estimate(found: Quoted, pointer: str, form: str = "pct", unit: str = "") -> Markup:
    """An `Estimate` of a record: `52.1% [48.0, 56.2]`, with `unit` behind the value; a dash where it is None."""
    if lookup(found.record, pointer) is None:
        return NONE
    low, high = (datum(found, f"{pointer}/{end}", form, bare=True) for end in ("low", "high"))
    value = datum(found, f"{pointer}/value", form)
    return Markup('<span class="est">{}{} <span class="ci">[{}, {}]</span></span>').format(value, unit, low, high)


def ratio(found: Quoted, numerator: str, other: Quoted, denominator: str, form: str = "times") -> Markup:
    """One number of a record over another, marked with both sources (`data-ratio`)."""
    above, below = lookup(found.record, numerator), lookup(other.record, denominator)
    if above is None or not below:
        return NONE
    return Markup('<data value="{}" data-ratio="{} | {}">{}</data>').format(
        repr(above / below), where(found, numerator), where(other, denominator), show(above / below, form)
    )


def mean_of(found: Quoted, key: str, form: str = "seconds") -> Markup:
    """The mean of one key over the rows of a `.jsonl` file, marked with the file and the key (`data-mean`)."""
    values = [row[key] for row in found.record if isinstance(row.get(key), int | float)]
    if not values:
        return NONE
    value = sum(values) / len(values)
    return Markup('<data value="{}" data-mean="{}">{}</data>').format(
        repr(value), where(found, "/*/" + step_into(key)), show(value, form)
    )


def ratio_of_means(found: Quoted, other: Quoted, key: str) -> Markup:
    """The mean of one key over the rows of a `.jsonl` file over that of another (`data-ratio-of-means`)."""
    means = [[row[key] for row in f.record if isinstance(row.get(key), int | float)] for f in (found, other)]
    if not all(means) or not sum(means[1]):
        return NONE
    value = (sum(means[0]) / len(means[0])) / (sum(means[1]) / len(means[1]))
    names = " | ".join(where(f, "/*/" + step_into(key)) for f in (found, other))
    return Markup('<data value="{}" data-ratio-of-means="{}">{}</data>').format(
        repr(value), names, show(value, "times")
    )


def sum_until(found: Quoted, key: str, step: int, form: str = "seconds") -> Markup:
    """The sum of one key over the rows of a `.jsonl` file up to a step, marked with the file and the key (`data-sum`)."""
    value = total(found.record, key, step)
    return Markup('<data value="{}" data-sum="{} {}">{}</data>').format(
        repr(value), where(found, "/*/" + step_into(key)), step, show(value, form)
    )


def total(rows: list[dict[str, Any]], key: str, step: int) -> float:
    """What a run had spent after a step."""
    return float(sum(row.get(key, 0) for row in rows if row.get("step", 0) <= step))


def derived(value: Any, form: str, rule: str, unit: str = "") -> Markup:
    """An `Estimate` that the report itself computes from responses by a named rule (`data-derived`)."""
    if value is None:
        return NONE
    number = Markup('<data value="{}" data-derived="{}">{}</data>')
    cells = [number.format(repr(v), f"{rule} | {end}", show(v, form)) for end, v in value if end != "n"]
    return Markup('<span class="est">{}{} <span class="ci">[{}, {}]</span></span>').format(cells[0], unit, *cells[1:])


def spoken(value: Any, form: str = "pct") -> str:
    """An `Estimate` as plain text, for tooltips."""
    if value is None:
        return "–"
    low, high = (show(v, form).rstrip("%") for v in (value.low, value.high))
    return f"{show(value.value, form)} [{low}, {high}]"


def json_block(value: Any) -> Markup:
    """JSON that is safe inside `<script type="application/json">`, whatever its strings hold."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def attribute(value: Any) -> str:
    """Escaped text for an attribute or an SVG `<title>`."""
    return str(escape(value))
