"""Which N: accuracy against the rollout length, with the longest as a reference."""

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from esr.report import charts
from esr.report.contests import full_of, sweep
from esr.report.figure import BY_SEED_AND_PROBLEM, Figure, source_line
from esr.report.format import count, datum, estimate, pct, round_pct, several, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Found

PUBLISHED = ((5, 0.527), (10, 0.535), (20, 0.605), (50, 0.6665), (100, 0.6585), (150, 0.6665), (200, 0.6605))
"""MATH-500 avg@4, best of four checkpoints, one seed; full 62.35 (arXiv:2605.27028)."""
TITLE = "Which N"
FEWEST = 3
"""Rollout lengths that make a sweep, the longest included."""


def view(data: Data) -> Section:
    """One figure for each study with arms of at least `FEWEST` lengths."""
    groups = [(found, sweep(found.record)) for found in data.studies]
    lengths = [len({found.record.arms[i].n for i in group}) for found, group in groups]
    figures = [_figure(*pair) for pair, several in zip(groups, lengths, strict=True) if several >= FEWEST]
    if not figures:
        return Section(
            "sweep",
            TITLE,
            missing=f"No study on this page has arms of {FEWEST} rollout lengths or more.",
            commands=("esr study studies/lab/n-sweep.yaml",),
        )
    return Section("sweep", TITLE, "sweep.html", {"figures": figures})


def _figure(found: Found, group: list[int]) -> Figure:
    study, full = found.record, full_of(found.record, group)
    early = [i for i in group if i != full and study.arms[i].n != study.arms[full].n]
    lines = [_pooled(found, early), _dots(found, early), _published(study.arms[i].n for i in early)]
    levels = [level for level in (_level(found, full), _untrained(found, full)) if level]
    values = [*charts.heights(lines), *(v for level in levels for v in (level.low, level.high))]
    low, high = span(values, 0, 1)
    lengths = sorted({study.arms[i].n for i in early})
    x = Axis(
        "N, tokens of a training rollout (log scale)", lengths[0] / 1.25, lengths[-1] * 1.25, count, lengths, log=True
    )
    chart = charts.plot(
        "Accuracy after training against N", lines, x, Axis("accuracy at the end", low, high, round_pct), levels=levels
    )
    rows = [_row(found, i) for i in group]
    columns = ("arm", "N", "accuracy, pooled", "against the reference, points", "each seed")
    caption = (
        f"Small dots are seeds, large ones are pooled. Arms have the same number of {study.rule}; the step is the last one. "
        f"Reference of the differences: {', '.join(study.reference)}."
    )
    source = source_line(found, "/problems", "problems", BY_SEED_AND_PROBLEM, f" × {several(len(study.seeds), 'seed')}")
    return Figure(chart, columns, rows, source, caption)


def _row(found: Found, i: int) -> tuple[Any, ...]:
    arm, at = found.record.arms[i], f"/arms/{i}"
    return (
        arm.name,
        datum(found, f"{at}/n", "count"),
        estimate(found, f"{at}/avg"),
        estimate(found, f"{at}/difference", "points"),
        seeds(found, i),
    )


def seeds(found: Found, i: int) -> Markup:
    """The accuracies of an arm's seeds, one after the other."""
    cells = [datum(found, f"/arms/{i}/seeds/{s}/avg/value") for s in range(len(found.record.arms[i].seeds))]
    return Markup(" ").join(cells)


def _pooled(found: Found, early: list[int]) -> charts.Line:
    marks = [
        Point(
            arm.n,
            arm.avg.value,
            arm.avg.low,
            arm.avg.high,
            f"{arm.name}, N = {arm.n}: {spoken(arm.avg)}",
            where(found, f"/arms/{i}/avg/value"),
        )
        for i in early
        if (arm := found.record.arms[i]).avg is not None
    ]
    return charts.Line("early stopping, pooled over seeds", "c1", marks, "whiskers", size=5)


def _dots(found: Found, early: list[int]) -> charts.Line:
    marks = [
        Point(
            arm.n * (1.04 + 0.02 * s),
            seed.avg.value,
            tip=f"{arm.name}, seed {seed.seed}: {spoken(seed.avg)}",
            source=where(found, f"/arms/{i}/seeds/{s}/avg/value"),
        )
        for i in early
        for arm in [found.record.arms[i]]
        for s, seed in enumerate(arm.seeds)
        if seed.avg is not None
    ]
    return charts.Line("each seed", "c1", marks, "none", join=False, size=2.6)


def _level(found: Found, full: int) -> charts.Level | None:
    arm = found.record.arms[full]
    if arm.avg is None:
        return None
    name = f"{arm.name}, N = {arm.n}"
    tip = f"{name}: {spoken(arm.avg)}"
    return charts.Level(
        name, "c2", arm.avg.value, arm.avg.low, arm.avg.high, tip, where(found, f"/arms/{full}/avg/value")
    )


def _untrained(found: Found, full: int) -> charts.Level | None:
    e = found.record.arms[full].before
    if e is None:
        return None
    tip = f"untrained student: {spoken(e)}"
    return charts.Level(
        "untrained student", "c6", e.value, e.low, e.high, tip, where(found, f"/arms/{full}/before/value")
    )


def _published(measured: Iterable[int]) -> charts.Line:
    lengths = list(measured)
    marks = [
        Point(n, v, tip=f"published, N = {n}: {pct(v)}")
        for n, v in PUBLISHED
        if min(lengths) / 1.25 <= n <= max(lengths) * 1.25
    ]
    return charts.Line(
        "published: Qwen pair, MATH-500, best checkpoint, one seed", "ghost-line", marks, "none", ghost=True
    )
