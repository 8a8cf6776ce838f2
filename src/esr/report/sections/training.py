"""Training by step: divergence, where in the response it lies, how long rollouts were, and what the student wrote last."""

from typing import Any

from esr.console import duration
from esr.report import charts
from esr.report.figure import Figure
from esr.report.format import count, datum, lookup, nats, step_into, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Run

TITLE = "Training"
MOST = 60
"""Steps that a chart shows; of longer runs it shows some, evenly apart."""
BINS = "kl/by_position/"
LATEST = 20
"""Steps whose mean duration foretells the rest."""
SAMPLES = 3
APART = 0.05
"""Share by which a loss differs from the reverse KL where it is drawn too."""


def view(data: Data) -> Section:
    """Charts for each run that has made a step."""
    runs = [_run(run) for run in data.runs if run.metrics]
    if not runs:
        return Section("training", TITLE, missing="No step of training is on this page.")
    return Section("training", TITLE, "training.html", {"runs": runs})


def remaining(run: Run) -> float:
    """Seconds of training left at the pace of the last steps, evaluations not counted."""
    latest = [row["time/step"] for row in run.metrics[-LATEST:]]
    left = 1 - run.config.optim.progress(run.metrics)
    return left / max(1 - left, 1e-9) * len(run.metrics) * sum(latest) / len(latest)


def _run(run: Run) -> dict[str, Any]:
    skipped = sum(row.get("optim/skipped", 0) > 0 for row in run.metrics)
    return {
        "label": run.label,
        "done": count(len(run.metrics)),
        "steps": datum(run.settings, "/optim/steps", "count"),
        "left": "" if run.complete else duration(remaining(run)),
        "skipped": skipped,
        "figures": [f for f in (_divergence(run), _positions(run), _lengths(run)) if f],
        "samples": [(row["step"], row["problem"], row["text"]) for row in run.rollouts[-SAMPLES:]],
    }


def _rows(run: Run, key: str) -> list[int]:
    """Indices of the rows that have this key, `MOST` at most."""
    known = [i for i, row in enumerate(run.metrics) if isinstance(row.get(key), int | float)]
    apart = max(1, -(-len(known) // MOST))
    return known[::-1][::apart][::-1]


def _line(run: Run, key: str, name: str, colour: str, shape: int = 0) -> charts.Line:
    source = run.rows
    points = [
        Point(
            run.metrics[i]["step"],
            run.metrics[i][key],
            tip=f"step {run.metrics[i]['step']}, {name}: {run.metrics[i][key]:.4g}",
            source=where(source, f"/{i}/{step_into(key)}"),
        )
        for i in _rows(run, key)
    ]
    return charts.Line(name, colour, points, "none", shape=shape, size=2.5)


def _by_step(run: Run, name: str, unit: str, lines: list[charts.Line], form: str) -> Figure | None:
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    low, high = span([0.0, *charts.heights(lines)], 0)
    x = Axis("step", 1, max(run.config.optim.steps, len(run.metrics), 2), count)
    chart = charts.plot(name, lines, x, Axis(unit, low, high))
    first, last = 0, len(run.metrics) - 1
    rows = [
        (line.name, *(datum(run.rows, f"/{i}/{step_into(key)}", form) for i in (first, last)))
        for line, key in zip(
            lines, (p.points[0].source.rpartition("/")[2].replace("~1", "/") for p in lines), strict=True
        )
        if all(lookup(run.rows.record, f"/{i}/{step_into(key)}") is not None for i in (first, last))
    ]
    return Figure(chart, ("", "first step", "last step"), rows, f"Source: {run.rows.source}", name)


def _divergence(run: Run) -> Figure | None:
    """The reverse KL, and the loss where it is something else: another divergence, weights by position, a selection."""
    lines = [_line(run, "kl/mean", "reverse KL of a position", "c1")]
    both = [(row["loss"], row["kl/mean"]) for row in run.metrics if row.get("kl/mean") is not None]
    if any(abs(loss - kl) > APART * max(abs(loss), abs(kl)) for loss, kl in both):
        lines.append(_line(run, "loss", "loss", "c2", 1))
    unit = "nats" if len(lines) > 1 else "reverse KL, nats"
    return _by_step(run, "What the student is trained on, by step", unit, lines, "nats")


def _lengths(run: Run) -> Figure | None:
    lines = [
        _line(run, "length/p90", "9 of 10 responses are shorter", "c5", 2),
        _line(run, "length/p50", "median response", "c1"),
        _line(run, "rollout/n", "N, where rollouts stop", "c2", 1),
    ]
    return _by_step(run, "Length of rollouts, by step", "tokens", lines, "tokens")


def _bin(key: str) -> str:
    """`0-9` for `kl/by_position/000-009`."""
    return "-".join(str(int(end)) if end.isdigit() else end for end in key.removeprefix(BINS).split("-"))


def _positions(run: Run) -> Figure | None:
    """The first and the last row that have bins, side by side."""
    known = [i for i, row in enumerate(run.metrics) if any(key.startswith(BINS) for key in row)]
    if not known:
        return None
    ends = list(dict.fromkeys((known[0], known[-1])))
    bins = sorted({key for i in ends for key in run.metrics[i] if key.startswith(BINS)})
    lines = [
        charts.Line(
            f"step {run.metrics[i]['step']}",
            colour,
            [
                Point(
                    b + 0.5,
                    run.metrics[i][key],
                    tip=f"step {run.metrics[i]['step']}, tokens {_bin(key)}: {nats(run.metrics[i][key])} nats",
                    source=where(run.rows, f"/{i}/{step_into(key)}"),
                )
                for b, key in enumerate(bins)
                if key in run.metrics[i]
            ],
            "none",
            shape=shape,
        )
        for i, colour, shape in zip(ends, ("c6", "c1"), (1, 0), strict=False)
    ]
    low, high = span([0.0, *charts.heights(lines)], 0)
    ticks = [b + 0.5 for b in range(len(bins))]
    x = Axis("tokens of the response", 0, len(bins), lambda v: _bin(bins[int(v)]), ticks)
    chart = charts.plot("Divergence by position, first and last step", lines, x, Axis("reverse KL, nats", low, high))
    rows = [(_bin(key), *(datum(run.rows, f"/{i}/{step_into(key)}", "nats") for i in ends)) for key in bins]
    columns = ("tokens", *(f"step {run.metrics[i]['step']}" for i in ends))
    return Figure(chart, columns, rows, f"Source: {run.rows.source}", "Where in the response the divergence lies")
