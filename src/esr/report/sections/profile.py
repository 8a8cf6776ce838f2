"""Cascading alignment: divergence by position before and after training, inside the trained window and beyond it."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from esr.records.profile import PositionBin
from esr.report import charts
from esr.report.figure import BY_PROBLEM, BY_RESPONSE, Figure, Table, source_line, without_empty
from esr.report.format import count, datum, estimate, nats, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Found, Run

TITLE = "Cascading alignment"
TRAJECTORIES = {"common": "Common trajectories", "own": "Each model's own"}
WORDS = {
    "common": "Both models scored on the same responses of the untrained student: only the model differs.",
    "own": "Each model on its own responses, as published: the text differs too, and few responses reach the late bins.",
}
PAPER = "The published quantity and protocol: sampled-token gaps at temperature 0.7 and top-p 1, each model on its own responses."


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
    panes = [(TRAJECTORIES[k], _figure(found, k)) for k in kinds]
    paper = run.analyses.get("profile-paper")
    if paper is not None:
        panes.append(("As published", _figure(paper, "own", gap=True)))
    return {
        "label": run.label,
        "panes": panes,
        "changes": _changes(found),
        "shares": _shares(found),
        "counts": _counts(found),
    }


def edges(bins: Sequence[PositionBin], longest: int) -> list[float]:
    """Ends of the bins; an open one ends at the longest response, or is as wide as the one before."""
    starts = [float(b.start) for b in bins]
    last = bins[-1].end
    width = starts[-1] - starts[-2] if len(starts) > 1 else 1.0
    end = float(last) if last is not None else max(starts[-1] + width, float(longest))
    return [*starts, end]


def _figure(found: Found, kind: str, gap: bool = False) -> Figure:
    record = found.record
    curves = [(c, curve) for c, curve in enumerate(record.curves) if curve.trajectories == kind and curve.bins]
    knots = max((edges(curve.bins, record.max_new_tokens) for _, curve in curves), key=len, default=[0.0, 1.0])
    lines = [_line(found, c, shift, gap) for (c, _), shift in zip(curves, (-0.07, 0.07))]
    low, high = span([0.0, *charts.heights(lines)], 0)
    x = Axis("position in the response, by bin", knots[0], knots[-1], count, knots, knots=knots)
    chart = charts.plot(
        f"Divergence by position before and after training: {'as published' if gap else TRAJECTORIES[kind]}",
        lines,
        x,
        Axis("mean |Δ log p| of the sampled token" if gap else "reverse KL, nats", low, high),
        window=(0, record.trained_window, f"trained window, N = {record.trained_window}"),
    )
    rows = [_row(found, c, j, b) for c, curve in curves for j, b in enumerate(curve.bins)]
    columns = (
        "model",
        "positions",
        "reverse KL, nats",
        "forward KL, nats",
        "tokens",
        "responses",
        "same first choice",
        "overlap of the top 8",
        "|Δ log p| of the sampled token",
    )
    return Figure(
        chart,
        *without_empty(columns, rows),
        source_line(found, "/problems", "responses", BY_RESPONSE),
        PAPER if gap else WORDS[kind],
    )


def _line(found: Found, c: int, shift: float, gap: bool) -> charts.Line:
    curve, longest = found.record.curves[c], found.record.max_new_tokens
    ends = edges(curve.bins, longest)
    marks = []
    for j, b in enumerate(curve.bins):
        middle = ends[j] + (0.5 + shift) * (ends[j + 1] - ends[j])
        few = ", few responses" if b.few else ""
        tip = f"{curve.model}, {positions(b)}: {spoken(b.reverse_kl, 'nats')} nats, {b.tokens} tokens of {b.responses} responses{few}"
        e, at = b.reverse_kl, f"/curves/{c}/bins/{j}"
        if not gap:
            source = where(found, f"{at}/reverse_kl/value")
            marks.append(Point(middle, e.value, e.low, e.high, tip, source, b.few))
        elif b.sampled_gap is not None:
            source, tip = where(found, f"{at}/sampled_gap"), f"{tip}, |Δ log p| {nats(b.sampled_gap)}"
            marks.append(Point(middle, b.sampled_gap, tip=tip, source=source, faint=b.few))
    after = curve.model == "after"
    return charts.Line(f"{curve.model} training", "c1" if after else "c6", marks, "whiskers", shape=int(after))


def positions(b: PositionBin) -> str:
    """`10 to 24`."""
    return f"{b.start} to {b.end - 1}" if b.end is not None else f"{b.start} and later"


def _row(found: Found, c: int, j: int, b: PositionBin) -> tuple[Any, ...]:
    at = f"/curves/{c}/bins/{j}"
    mark = " (few)" if b.few else ""
    return (
        found.record.curves[c].model,
        positions(b) + mark,
        estimate(found, f"{at}/reverse_kl", "nats"),
        estimate(found, f"{at}/forward_kl", "nats"),
        datum(found, f"{at}/tokens", "count"),
        datum(found, f"{at}/responses", "count"),
        datum(found, f"{at}/agreement"),
        datum(found, f"{at}/top_k_overlap"),
        datum(found, f"{at}/sampled_gap", "nats"),
    )


def _counts(found: Found) -> Table | None:
    """Tokens and responses behind each bin, side by side."""
    curves = [(c, curve) for c, curve in enumerate(found.record.curves) if curve.bins]
    if not curves:
        return None
    most = max(curves, key=lambda item: len(item[1].bins))[1].bins
    rows = [
        (
            positions(b) + (" *" if any(len(k.bins) > j and k.bins[j].few for _, k in curves) else ""),
            *(
                Markup("{} in {}").format(
                    datum(found, f"/curves/{c}/bins/{j}/tokens", "count"),
                    datum(found, f"/curves/{c}/bins/{j}/responses", "count"),
                )
                if j < len(curve.bins)
                else ""
                for c, curve in curves
            ),
        )
        for j, b in enumerate(most)
    ]
    few = any(b.few for _, curve in curves for b in curve.bins)
    columns = ("positions", *(f"{curve.model}, {curve.trajectories}" for _, curve in curves))
    return Table(
        columns,
        rows,
        "Tokens, and the responses that they come from",
        (
            "* Few responses: whoever is left is no fair sample, so no trend should be read into it. Such points are hollow.",
        )
        if few
        else (),
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


def _shares(found: Found) -> list[Markup]:
    """Where the untrained student's divergence lies."""
    said = []
    shares = found.record.share_first
    if shares:
        cells = Markup(", ").join(
            Markup("{} in the first {}").format(datum(found, f"/share_first/{k}"), k) for k in shares
        )
        said.append(
            Markup(
                "Of the untrained student's summed divergence lies {} positions (published: 43.9% in the first 100)."
            ).format(cells)
        )
    if found.record.first_to_rest is not None:
        said.append(
            Markup(
                "A position inside the window diverges {} as much as a later one (published: 2.8 and 2.5 worked, 1.15 did not)."
            ).format(datum(found, "/first_to_rest", "times"))
        )
    return said


def _swap(found: Found) -> dict[str, Any]:
    """Where the gain sits: beginnings of one student, ends of the other."""
    rows = [
        (
            f"{c.prefix} training, then {c.tail}",
            estimate(found, f"/conditions/{i}/avg"),
            estimate(found, f"/conditions/{i}/change", "points"),
        )
        for i, c in enumerate(found.record.conditions)
    ]
    table = Table(
        ("first N tokens, then the rest", "accuracy", "change, points"), rows, f"Prefix swap at N = {found.record.n}"
    )
    share = datum(found, "/share_in_prefix") if found.record.share_in_prefix is not None else None
    return {"table": table, "share": share, "source": source_line(found, "/problems", "problems", BY_PROBLEM)}
