"""Teacher decay: accuracy against the length of the student's prefix, with the controls."""

from typing import Any

from markupsafe import Markup

from esr.records.decay import DecayPoint, DecaySeries
from esr.report import charts
from esr.report.figure import BY_PROBLEM, Figure, source_line
from esr.report.format import datum, estimate, pct, round_pct, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Found, Run

PUBLISHED = ((0, 0.653), (100, 0.627), (200, 0.563), (300, 0.5175))
"""MATH-500, Qwen3-1.7B after Qwen2.5-Math-1.5B, avg@4 (arXiv:2605.27028)."""
TITLE = "Teacher decay"
KINDS = {"decay": "", "decay-paper": ", by the paper's protocol"}


def view(data: Data) -> Section:
    """One figure for each run and protocol."""
    both = [(f"{run.label}{how}", run, found) for kind, how in KINDS.items() for run, found in data.all(kind)]
    curves = [_curve(label, run, found, i) for i, (label, run, found) in enumerate(both)]
    if not curves:
        why = "How far the teacher follows the student astray has not been measured."
        return Section("decay", TITLE, missing=why, commands=(data.command("decay"),))
    return Section("decay", TITLE, "decay.html", {"curves": curves})


def name_of(series: DecaySeries) -> str:
    """A series in words."""
    if series.prefix == "student" and series.continued_by == "teacher":
        return (
            "teacher continues the student"
            + {"all": "", "right": ", prefix of a right response", "wrong": ", prefix of a wrong response"}[
                series.subset
            ]
        )
    who = "itself" if series.prefix == series.continued_by else f"the {series.prefix}"
    return f"{series.continued_by} continues {who} (control)"


def _curve(label: str, run: Run, found: Found, i: int) -> dict[str, Any]:
    record = found.record
    lines = [_line(found, s) for s in range(len(record.series))]
    main = next((s for s, series in enumerate(record.series) if _main(series)), None)
    top = max((p.k for s in record.series for p in s.points), default=1)
    lines.append(published(top))
    low, high = span(charts.heights(lines), 0, 1)
    x = Axis("tokens of the prefix, k", 0, max(top, 1), ticks=sorted({p.k for s in record.series for p in s.points}))
    n = run.config.rollout.max_new_tokens
    chart = charts.plot(
        "Accuracy after a prefix of k tokens, by who wrote it and who continues it",
        lines,
        x,
        Axis("accuracy, avg@k", low, high, round_pct),
        window=(0, min(n, top), f"inside N = {n}"),
        levels=[] if main is None else _alone(found, main),
        ident=f"decay-chart-{i}",
    )
    steps = _steps(found, main) if main is not None else []
    chosen = max((j for j, step in enumerate(steps) if step["k"] <= n), default=0)
    return {
        "label": label,
        "index": i,
        "figure": _figure(found, chart),
        "steps": steps,
        "chosen": chosen,
        "recommendation": _recommendation(found),
    }


def _main(series: DecaySeries) -> bool:
    return (series.prefix, series.continued_by, series.subset) == ("student", "teacher", "all")


def _line(found: Found, s: int) -> charts.Line:
    series = found.record.series[s]
    marks = [
        Point(
            p.k,
            p.avg.value,
            p.avg.low,
            p.avg.high,
            f"{name_of(series)}, k = {p.k}: {spoken(p.avg)}, {p.continued} prefixes",
            where(found, f"/series/{s}/points/{j}/avg/value"),
        )
        for j, p in enumerate(series.points)
        if p.avg is not None
    ]
    main = _main(series)
    return charts.Line(
        name_of(series), f"c{1 + s % 6}", marks, "band" if main else "whiskers", control=not main, shape=s
    )


def _alone(found: Found, s: int) -> list[charts.Level]:
    """The teacher without a prefix, as a level that the curve can be held against."""
    for j, p in enumerate(found.record.series[s].points):
        if p.k == 0 and p.avg is not None:
            tip = f"teacher alone: {spoken(p.avg)}"
            return [
                charts.Level(
                    "teacher alone",
                    "c3",
                    p.avg.value,
                    p.avg.low,
                    p.avg.high,
                    tip,
                    where(found, f"/series/{s}/points/{j}/avg/value"),
                )
            ]
    return []


def published(top: float) -> charts.Line:
    """The paper's curve, as far as the axis goes; cut between two of its points by linear interpolation of the line."""
    marks = [Point(k, v, tip=f"published, k = {k}: {pct(v)}") for k, v in PUBLISHED if k <= top]
    return charts.Line("published: Qwen pair, MATH-500, one seed", "ghost-line", marks, "none", ghost=True)


def _figure(found: Found, chart: charts.Chart) -> Figure:
    rows = [
        (
            name_of(series),
            datum(found, f"{at}/k", "count"),
            estimate(found, f"{at}/avg"),
            estimate(found, f"{at}/change", "points"),
            estimate(found, f"{at}/with_finished"),
            datum(found, f"{at}/continued", "count"),
            datum(found, f"{at}/finished", "count"),
        )
        for s, series in enumerate(found.record.series)
        for at in (f"/series/{s}/points/{j}" for j in range(len(series.points)))
    ]
    columns = (
        "series",
        "k",
        "accuracy",
        "change from k = 0, points",
        "as published: finished counted",
        "continued",
        "already finished",
    )
    return Figure(
        chart,
        columns,
        rows,
        source_line(found, "/problems", "problems", BY_PROBLEM),
        Markup("{} continuations of each prefix. Prefixes that had already finished are counted apart.").format(
            datum(found, "/samples", "count")
        ),
    )


def _steps(found: Found, s: int) -> list[dict[str, Any]]:
    """What the slider says at each measured k."""
    points = found.record.series[s].points
    return [
        {"k": p.k, "says": _says(found, f"/series/{s}/points/{j}", p, j, len(points))} for j, p in enumerate(points)
    ]


def _says(found: Found, at: str, point: DecayPoint, j: int, total: int) -> Markup:
    k = datum(found, f"{at}/k", "count")
    if point.avg is None:
        return Markup("N = {}: too few prefixes are still going on to measure.").format(k)
    said = Markup("N = {}: after {} tokens of the student the teacher reaches {}").format(
        k, k, estimate(found, f"{at}/avg")
    )
    if point.change is not None:
        sure = (
            "a loss is certain"
            if point.change.high < 0
            else "a gain is certain"
            if point.change.low > 0
            else "no loss is certain"
        )
        said += Markup(", {} points against k = 0: {}").format(estimate(found, f"{at}/change", "points"), sure)
    return said + Markup(". {} of {} measured prefix lengths lie inside the window.").format(j + 1, total)


def _recommendation(found: Found) -> Markup:
    r = found.record.recommendation
    parts = []
    if r.n is not None:
        parts.append(
            Markup("no loss was found up to <b>{}</b> tokens").format(datum(found, "/recommendation/n", "count"))
        )
    else:
        parts.append(Markup("even the shortest prefix loses"))
    if r.surely is not None:
        parts.append(
            Markup("a loss of more than {} can be ruled out up to {}").format(
                datum(found, "/recommendation/margin"), datum(found, "/recommendation/surely", "count")
            )
        )
    if r.at_most is not None:
        parts.append(Markup("a loss is certain at {}").format(datum(found, "/recommendation/at_most", "count")))
    return Markup("; ").join(parts)
