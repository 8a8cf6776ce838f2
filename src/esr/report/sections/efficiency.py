"""What it cost: seconds by phase, peak memory, and accuracy against steps, tokens and seconds."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from esr.report import charts
from esr.report.arms import full_of, sweep
from esr.report.data import Data, Found, Run
from esr.report.figure import BY_PROBLEM, Figure, Table, source_line
from esr.report.format import count, datum, estimate, gib, mean_of, plain, round_pct, seconds, spoken, where
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.results import CurvePoint

TITLE = "Efficiency"
PHASES = {"generate": "c1", "score": "c2", "train": "c3", "sync": "c6"}
AGAINST: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("steps", "step", plain), ("tokens", "tokens", count), ("seconds", "seconds", plain),
)  # fmt: skip
Curves = list[tuple[str, Found, str, Sequence[CurvePoint]]]
"""Name, record, pointer to the curve, the curve."""


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
        "panes": [(name.capitalize(), _training(curves, name, key, form)) for name, key, form in AGAINST] if curves else [],
        "command": "" if records else data.command("efficiency"),
        "published": "Published, one A6000 at batch size 16: 8 against 194 s a step and 24.1 against 63.3 GB for N = 100 against "
        "full rollouts. Part of the 180 s of full generation there is the start of an inference server at every step.",
    }  # fmt: skip
    return Section("efficiency", TITLE, "efficiency.html", context)


def _phases(found: Found) -> Figure:
    rows = found.record.rows
    stacked = []
    for i, row in enumerate(rows):
        parts = [
            (phase, colour, row.phases[phase].value, f"{row.run}, {phase}: {spoken(row.phases[phase], 'seconds')} a step",
             where(found, f"/rows/{i}/phases/{phase}/value"))
            for phase, colour in PHASES.items() if phase in row.phases
        ]  # fmt: skip
        stacked.append(charts.Bar(f"{row.run}, N = {row.n}", parts, f"{gib(row.peak_memory_gib)}"))
    longest = max((sum(part[2] for part in bar.parts) for bar in stacked), default=1.0)
    chart = charts.bars(
        "Seconds a step by phase; peak memory beside the bar", stacked, Axis("seconds a step", 0, longest or 1.0)
    )
    table = [
        (
            row.run, datum(found, f"/rows/{i}/n", "count"),
            *(estimate(found, f"/rows/{i}/phases/{phase}", "seconds") if phase in row.phases else "–" for phase in (*PHASES, "step")),
            *(datum(found, f"/rows/{i}/tokens_{kind}", "count") for kind in ("generated", "scored", "trained")),
            datum(found, f"/rows/{i}/peak_memory_gib", "gib"), datum(found, f"/rows/{i}/seconds_to_reach", "seconds"),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
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


def _logs(runs: list[Run]) -> Table:
    """Means over the steps of each run's log."""
    rows = [
        (
            run.label, *(mean_of(run.rows, f"time/{phase}") for phase in (*PHASES, "step")),
            mean_of(run.rows, "tokens/generated", "count"), mean_of(run.rows, "memory/peak_gib", "gib"),
        )
        for run in runs
    ]  # fmt: skip
    columns = ("run", *PHASES, "step", "tokens generated", "peak memory (mean over steps)")
    return Table(columns, rows, "Seconds a step by phase, means over the steps logged so far")


def _curves(data: Data) -> Curves:
    """Accuracy on the way: of the seeds of a study's shortest, middle and longest arms, or of an efficiency record."""
    for study in data.studies:
        group = sweep(study.record) or list(range(len(study.record.arms)))
        full = full_of(study.record, group)
        early = [i for i in group if i != full]
        shown = list(dict.fromkeys([*early[:1], *early[len(early) // 2 : len(early) // 2 + 1], full]))
        found: Curves = [
            (study.record.arms[i].name, study, f"/arms/{i}/seeds/{s}/curve", seed.curve)
            for i in shown
            for s, seed in enumerate(study.record.arms[i].seeds) if len(seed.curve) > 1
        ]  # fmt: skip
        if found:
            return found
    return [
        (row.run, found, f"/rows/{i}/curve", row.curve)
        for _, found in data.all("efficiency")
        for i, row in enumerate(found.record.rows) if len(row.curve) > 1
    ]  # fmt: skip


def _training(curves: Curves, name: str, key: str, form: Callable[[float], str]) -> Figure:
    colours = {arm: f"c{1 + i % 6}" for i, arm in enumerate(dict.fromkeys(c[0] for c in curves))}
    lines, rows, seen = [], [], set()
    for arm, found, at, points in curves:
        marks = [
            charts.Point(
                getattr(p, key), p.avg.value, p.avg.low, p.avg.high,
                f"{arm}, step {p.step}, {count(p.tokens)} tokens, {seconds(p.seconds)}: {spoken(p.avg)}",
                where(found, f"{at}/{j}/avg/value"),
            )
            for j, p in enumerate(points)
        ]  # fmt: skip
        lines.append(
            charts.Line("" if arm in seen else arm, colours[arm], marks, "none", shape=list(colours).index(arm), size=3)
        )
        seen.add(arm)
        rows += [
            (
                f"{arm}{_seed(at)}", datum(found, f"{at}/{j}/step", "count"), datum(found, f"{at}/{j}/tokens", "count"),
                datum(found, f"{at}/{j}/seconds", "seconds"), estimate(found, f"{at}/{j}/avg"),
            )
            for j in range(len(points))
        ]  # fmt: skip
    low, high = span(charts.heights(lines), 0, 1)
    most = max((getattr(p, key) for *_, points in curves for p in points), default=1)
    labels = {
        "steps": "optimiser steps",
        "tokens": "tokens generated so far",
        "seconds": "training seconds, evaluations left out",
    }
    chart = charts.plot(
        f"Accuracy against {name}",
        lines,
        Axis(labels[name], 0, most or 1, form),
        Axis("accuracy", low, high, round_pct),
    )
    found = curves[0][1]
    source = source_line(found, "/problems", "problems", BY_PROBLEM)
    return Figure(
        chart,
        ("run", "step", "tokens", "seconds", "accuracy"),
        rows,
        source,
        "One line for each training seed; intervals are in the table.",
    )


def _seed(at: str) -> str:
    parts = at.split("/")
    return f" #{int(parts[4]) + 1}" if "seeds" in parts else ""
