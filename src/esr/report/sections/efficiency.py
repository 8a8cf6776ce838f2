"""What it cost: seconds by phase, peak memory, and accuracy against steps, tokens and seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from esr.records.base import Estimate
from esr.records.study import CurvePoint
from esr.report import bars, charts
from esr.report.contests import contests, full_of, sweep
from esr.report.figure import BY_PROBLEM, Figure, source_line
from esr.report.format import (
    count,
    datum,
    estimate,
    gib,
    lookup,
    mean_of,
    plain,
    round_pct,
    seconds,
    spoken,
    sum_until,
    total,
    where,
)
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Found, Run

TITLE = "Efficiency"
PHASES = {"generate": "c1", "score": "c2", "train": "c3", "sync": "c6"}
AGAINST: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("steps", "step", plain), ("tokens", "tokens", count), ("seconds", "seconds", plain),
)  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """An evaluation on the way, with what training had cost until then."""

    step: int
    tokens: float
    seconds: float
    found: Found
    at: str
    """Pointer to the accuracy."""
    cells: tuple[Markup, ...]
    """Step, tokens and seconds."""

    @property
    def avg(self) -> Estimate:
        return lookup(self.found.record, self.at)  # type: ignore[no-any-return]


Curves = list[tuple[str, str, list[Stop]]]
"""Name of the arm or run, of the seed, and its evaluations."""


def view(data: Data) -> Section:
    """From efficiency records; without one, from the logs of the runs."""
    records = [found for _, found in data.all("efficiency")]
    curves = _curves(data)
    logs = [run for run in data.runs if run.metrics] if not records else []
    if not records and not curves and not logs:
        return Section(
            "efficiency", TITLE, missing="No costs have been recorded.", commands=(data.command("efficiency"),)
        )
    context = {
        "phases": [_phases(found) for found in records],
        "logs": _logs(logs) if logs else None,
        "panes": [(name.capitalize(), _training(curves, name, key, form)) for name, key, form in AGAINST]
        if curves
        else [],
        "command": "" if records else data.command("efficiency"),
        "published": "Published, one A6000 at batch size 16: 8 against 194 s a step and 24.1 against 63.3 GB for N = 100 against "
        "full rollouts. Part of the 180 s of full generation there is the start of an inference server at every step.",
    }
    return Section("efficiency", TITLE, "efficiency.html", context)


def _phases(found: Found) -> Figure:
    rows = found.record.rows
    stacked = []
    for i, row in enumerate(rows):
        parts = [
            (
                phase,
                colour,
                row.phases[phase].value,
                f"{row.run}, {phase}: {spoken(row.phases[phase], 'seconds')} a step",
                where(found, f"/rows/{i}/phases/{phase}/value"),
            )
            for phase, colour in PHASES.items()
            if phase in row.phases
        ]
        stacked.append(bars.Bar(f"N = {row.n}, {row.run}", parts, f"{gib(row.peak_memory_gib)}"))
    longest = max((sum(part[2] for part in bar.parts) for bar in stacked), default=1.0)
    chart = bars.bars(
        "Seconds a step by phase; peak memory beside the bar", stacked, Axis("seconds a step", 0, longest or 1.0)
    )
    table = [
        (
            row.run,
            datum(found, f"/rows/{i}/n", "count"),
            *(
                estimate(found, f"/rows/{i}/phases/{phase}", "seconds") if phase in row.phases else "–"
                for phase in (*PHASES, "step")
            ),
            *(datum(found, f"/rows/{i}/tokens_{kind}", "count") for kind in ("generated", "scored", "trained")),
            datum(found, f"/rows/{i}/peak_memory_gib", "gib"),
            datum(found, f"/rows/{i}/seconds_to_reach", "seconds"),
        )
        for i, row in enumerate(rows)
    ]
    columns = (
        "run",
        "N",
        *PHASES,
        "step",
        "tokens generated",
        "scored",
        "trained",
        "peak memory",
        "seconds to the target",
    )
    return Figure(chart, columns, table, _phase_source(found), _phase_caption(found))


def _phase_source(found: Found) -> Markup:
    steps = Markup(", ").join(datum(found, f"/rows/{i}/steps", "count") for i in range(len(found.record.rows)))
    return Markup("Source: {} · n = {} steps · 95% interval over steps").format(found.source, steps)


def _phase_caption(found: Found) -> Markup:
    kinds = {"device": "allocated on the accelerator", "process": "of the whole process, libraries included"}
    memory = " and ".join(sorted({kinds[row.memory_kind] for row in found.record.rows}))
    said = Markup("On {}. Peak memory {}, all phases of a step together.").format(found.record.device, memory)
    if found.record.target is not None:
        said += Markup(" The target is {} accuracy, the lowest of the runs' best points.").format(
            datum(found, "/target")
        )
    return said


def _logs(runs: list[Run]) -> Figure:
    """Means over the steps of each run's log."""
    columns = ("run", *PHASES, "step", "tokens generated", "peak memory, mean over steps")
    rows, stacked = [], []
    for run in runs:
        cells = [mean_of(run.rows, f"time/{phase}") for phase in (*PHASES, "step")]
        costs = mean_of(run.rows, "tokens/generated", "count"), mean_of(run.rows, "memory/peak_gib", "gib")
        rows.append((run.label, *cells, *costs))
        means = {phase: total(run.metrics, f"time/{phase}", 10**9) / len(run.metrics) for phase in PHASES}
        parts = [
            (phase, PHASES[phase], v, f"{run.label}, {phase}: {seconds(v)} a step", "") for phase, v in means.items()
        ]
        stacked.append(bars.Bar(f"N = {run.config.rollout.stops_at}, {run.label}", parts))
    longest = max((sum(part[2] for part in bar.parts) for bar in stacked), default=0.0)
    chart = bars.bars("Seconds a step by phase", stacked, Axis("seconds a step", 0, longest or 1.0))
    source = Markup("Source: metrics.jsonl of each run · n = {} steps · means, without intervals").format(
        ", ".join(str(len(run.metrics)) for run in runs)
    )
    return Figure(chart, columns, rows, source, "Means over the steps logged so far.")


def _curves(data: Data) -> Curves:
    """Accuracy on the way: of a study's shortest, chosen and longest arms, or of an efficiency record, or of the runs."""
    chosen = {id(match.study): match.early for match in reversed(contests(data))}
    for study in data.studies:
        group = sweep(study.record) or list(range(len(study.record.arms)))
        full = full_of(study.record, group)
        early = [i for i in group if i != full]
        shown = list(dict.fromkeys([*early[:1], chosen.get(id(study), full), full]))
        found: Curves = [
            (study.record.arms[i].name, f"seed {seed.seed}", _recorded(study, f"/arms/{i}/seeds/{s}/curve", seed.curve))
            for i in shown
            for s, seed in enumerate(study.record.arms[i].seeds)
            if len(seed.curve) > 1
        ]
        if found:
            return found
    recorded: Curves = [
        (row.run, "", _recorded(found, f"/rows/{i}/curve", row.curve))
        for _, found in data.all("efficiency")
        for i, row in enumerate(found.record.rows)
        if len(row.curve) > 1
    ]
    if recorded:
        return recorded
    logged: Curves = [(run.label, "", stops) for run in data.runs if len(stops := _logged(run)) > 1]
    return [curve for curve in logged if curve[2][0].found.record.task == logged[0][2][0].found.record.task]


def _recorded(found: Found, at: str, points: Sequence[CurvePoint]) -> list[Stop]:
    forms = {"step": "count", "tokens": "count", "seconds": "seconds"}
    return [
        Stop(
            p.step,
            p.tokens,
            p.seconds,
            found,
            f"{at}/{j}/avg",
            tuple(datum(found, f"{at}/{j}/{k}", f) for k, f in forms.items()),
        )
        for j, p in enumerate(points)
    ]


def _logged(run: Run) -> list[Stop]:
    """Evaluations of a run with the run's own settings, and sums over its log."""
    students = (f for f in run.evaluations.values() if f.record.who == "student" and not f.record.variant)
    steps = {f.record.step: f for f in students if f.record.avg}
    keys = {"tokens/generated": "count", "time/step": "seconds"}
    spent, clock = keys
    return [
        Stop(
            step,
            total(run.metrics, spent, step),
            total(run.metrics, clock, step),
            found,
            "/avg",
            (Markup(step), *(sum_until(run.rows, key, step, form) for key, form in keys.items())),
        )
        for step, found in sorted(steps.items())
    ]


def _training(curves: Curves, name: str, key: str, form: Callable[[float], str]) -> Figure:
    arms = list(dict.fromkeys(arm for arm, _, _ in curves))
    lines, rows, seen = [], [], set()
    for arm, seed, stops in curves:
        marks = [
            Point(
                getattr(p, key),
                p.avg.value,
                p.avg.low,
                p.avg.high,
                f"{arm} {seed}, step {p.step}, {count(p.tokens)} tokens, {seconds(p.seconds)}: {spoken(p.avg)}",
                where(p.found, f"{p.at}/value"),
            )
            for p in stops
        ]
        i = arms.index(arm)
        lines.append(charts.Line("" if arm in seen else arm, f"c{1 + i % 6}", marks, "none", shape=i, size=3))
        seen.add(arm)
        rows += [(f"{arm} {seed}", *p.cells, estimate(p.found, p.at)) for p in stops]
    low, high = span(charts.heights(lines), 0, 1)
    most = max((getattr(p, key) for *_, stops in curves for p in stops), default=1)
    labels = {
        "steps": "optimiser steps",
        "tokens": "tokens generated so far",
        "seconds": "training seconds, evaluations left out",
    }
    x, y = Axis(labels[name], 0, most or 1, form), Axis("accuracy", low, high, round_pct)
    source = source_line(curves[0][2][0].found, "/problems", "problems", BY_PROBLEM)
    caption = "One line for each training seed; intervals are in the table."
    return Figure(
        charts.plot(f"Accuracy against {name}", lines, x, y),
        ("run", "step", "tokens", "seconds", "accuracy"),
        rows,
        source,
        caption,
    )
