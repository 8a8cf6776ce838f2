"""Cascading alignment: divergence by position before and after training, inside the trained window and beyond it."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from esr.report import charts
from esr.report.data import Data, Found, Run
from esr.report.figure import BY_PROBLEM, BY_RESPONSE, Figure, Table, source_line
from esr.report.format import count, datum, estimate, spoken, where
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.results import PositionBin

TITLE = "Cascading alignment"
TRAJECTORIES = {"common": "Common trajectories", "own": "Each model's own"}
WORDS = {
    "common": "Both models scored on the same responses of the untrained student: only the model differs.",
    "own": "Each model on its own responses, as published: the text differs too, and few responses reach the late bins.",
}


def view(data: Data) -> Section:
    """One pair of figures for each run with a profile; prefix swaps beside it."""
    profiles = [_profile(run, found) for run, found in data.all("profile")]
    if not profiles:
        why = "Where the divergence lies, and what training changed beyond N, has not been measured."
        return Section("profile", TITLE, missing=why, commands=(data.command("profile"),))
    swaps = [_swap(found) for _, found in data.all("prefix-swap")]
    return Section("profile", TITLE, "profile.html", {"profiles": profiles, "swaps": swaps})


def _profile(run: Run, found: Found) -> dict[str, Any]:
    kinds = [k for k in TRAJECTORIES if any(c.trajectories == k for c in found.record.curves)]
    return {
        "label": run.label, "panes": [(TRAJECTORIES[k], _figure(found, k)) for k in kinds], "changes": _changes(found),
        "shares": _shares(found), "counts": _counts(found),
    }  # fmt: skip


def edges(bins: Sequence[PositionBin], longest: int) -> list[float]:
    """Ends of the bins; an open one ends at the longest response, or is as wide as the one before."""
    starts = [float(b.start) for b in bins]
    last = bins[-1].end
    width = starts[-1] - starts[-2] if len(starts) > 1 else 1.0
    end = float(last) if last is not None else max(starts[-1] + width, float(longest))
    return [*starts, end]


def _figure(found: Found, kind: str) -> Figure:
    record = found.record
    curves = [(c, curve) for c, curve in enumerate(record.curves) if curve.trajectories == kind and curve.bins]
    knots = max((edges(curve.bins, record.max_new_tokens) for _, curve in curves), key=len, default=[0.0, 1.0])
    lines = [_line(found, c, shift) for (c, _), shift in zip(curves, (-0.07, 0.07))]
    low, high = span([0.0, *charts.heights(lines)], 0)
    x = Axis("position in the response, by bin", knots[0], knots[-1], count, knots, knots=knots)
    chart = charts.plot(
        f"Reverse KL by position before and after training: {TRAJECTORIES[kind]}", lines, x, Axis("reverse KL, nats", low, high),
        window=(0, record.trained_window, f"trained window, N = {record.trained_window}"),
    )  # fmt: skip
    rows = [_row(found, c, j, b) for c, curve in curves for j, b in enumerate(curve.bins)]
    columns = ("model", "positions", "reverse KL, nats", "forward KL, nats", "tokens", "responses", "same first choice")
    return Figure(chart, columns, rows, source_line(found, "/problems", "responses", BY_RESPONSE), WORDS[kind])


def _line(found: Found, c: int, shift: float) -> charts.Line:
    curve, longest = found.record.curves[c], found.record.max_new_tokens
    ends = edges(curve.bins, longest)
    marks = []
    for j, b in enumerate(curve.bins):
        middle = ends[j] + (0.5 + shift) * (ends[j + 1] - ends[j])
        few = ", few responses" if getattr(b, "few", False) else ""
        tip = f"{curve.model}, {positions(b)}: {spoken(b.reverse_kl, 'nats')} nats, {b.tokens} tokens of {b.responses} responses{few}"
        e = b.reverse_kl
        marks.append(
            charts.Point(middle, e.value, e.low, e.high, tip, where(found, f"/curves/{c}/bins/{j}/reverse_kl/value"))
        )
    after = curve.model == "after"
    return charts.Line(f"{curve.model} training", "c1" if after else "c6", marks, "whiskers", shape=int(after))


def positions(b: PositionBin) -> str:
    """`10 to 24`."""
    return f"{b.start} to {b.end - 1}" if b.end is not None else f"{b.start} and later"


def _row(found: Found, c: int, j: int, b: PositionBin) -> tuple[Any, ...]:
    at = f"/curves/{c}/bins/{j}"
    mark = " (few)" if getattr(b, "few", False) else ""
    return (
        found.record.curves[c].model, positions(b) + mark, estimate(found, f"{at}/reverse_kl", "nats"),
        estimate(found, f"{at}/forward_kl", "nats"), datum(found, f"{at}/tokens", "count"),
        datum(found, f"{at}/responses", "count"), datum(found, f"{at}/agreement"),
    )  # fmt: skip


def _counts(found: Found) -> Table | None:
    """Tokens and responses behind each bin, side by side."""
    curves = [(c, curve) for c, curve in enumerate(found.record.curves) if curve.bins]
    if not curves:
        return None
    most = max(curves, key=lambda item: len(item[1].bins))[1].bins
    rows = [
        (
            positions(b) + (" *" if any(len(k.bins) > j and getattr(k.bins[j], "few", False) for _, k in curves) else ""),
            *(
                Markup("{} in {}").format(
                    datum(found, f"/curves/{c}/bins/{j}/tokens", "count"), datum(found, f"/curves/{c}/bins/{j}/responses", "count")
                ) if j < len(curve.bins) else ""
                for c, curve in curves
            ),
        )
        for j, b in enumerate(most)
    ]  # fmt: skip
    few = any(getattr(b, "few", False) for _, curve in curves for b in curve.bins)
    columns = ("positions", *(f"{curve.model}, {curve.trajectories}" for _, curve in curves))
    return Table(
        columns,
        rows,
        "Tokens, and the responses that they come from",
        ("* Few responses: read with care.",) if few else (),
    )


def _changes(found: Found) -> list[tuple[str, Any, str]]:
    """Change inside and beyond the window, with what can be said of it."""
    said = []
    for name, pointer in (("inside the trained window", "inside"), ("beyond it", "beyond")):
        e = getattr(found.record, pointer)
        if e is not None:
            sure = "certain fall" if e.high < 0 else "certain rise" if e.low > 0 else "no certain change"
            said.append((name, estimate(found, f"/{pointer}", "change_nats"), sure))
    return said


def _shares(found: Found) -> list[tuple[str, Markup]]:
    """Fields of newer records, where they are."""
    said = []
    for name, words, form in (
        ("share_first", "of all divergence of the untrained student lies inside the window", "pct"),
        ("first_to_rest", "times as much divergence a token inside the window as beyond it", "times"),
    ):
        value = getattr(found.record, name, None)
        if isinstance(value, int | float):
            said.append((words, datum(found, f"/{name}", form)))
        elif value is not None and hasattr(value, "low"):
            said.append((words, estimate(found, f"/{name}", form)))
    return said


def _swap(found: Found) -> dict[str, Any]:
    """Where the gain sits: beginnings of one student, ends of the other."""
    rows = [
        (
            f"{c.prefix} training, then {c.tail}", estimate(found, f"/conditions/{i}/avg"),
            estimate(found, f"/conditions/{i}/change", "points"),
        )
        for i, c in enumerate(found.record.conditions)
    ]  # fmt: skip
    table = Table(
        ("first N tokens, then the rest", "accuracy", "change, points"), rows, f"Prefix swap at N = {found.record.n}"
    )
    share = datum(found, "/share_in_prefix") if found.record.share_in_prefix is not None else None
    return {"table": table, "share": share, "source": source_line(found, "/problems", "problems", BY_PROBLEM)}
