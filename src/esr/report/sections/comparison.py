"""Runs side by side: what each reached, what changed and by how much, and in what their settings and versions differ."""

from typing import Any

from markupsafe import Markup

from esr.config.keys import flatten
from esr.records.closeness import MEASURES
from esr.records.comparison import ComparedRun, Comparison
from esr.report import bars
from esr.report.contests import outcome
from esr.report.figure import BY_PROBLEM, Figure, Table, without_empty
from esr.report.format import NONE, PAGE_FORMS, datum, derived, estimate, mean_of, round_pct, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Run

TITLE = "Comparison"
WORDS = {
    "better": "is better than", "worse": "is <em>worse</em> than", "no worse": "is no worse than", "open": "is not told apart from",
}  # fmt: skip
VERSIONS = ("esr", "git_revision", "device", "processor")


def view(data: Data) -> Section:
    """The comparison that `esr compare` made of these runs, in its order."""
    found = data.comparison
    assert found is not None
    runs = list(zip(data.runs, found.runs, strict=True))
    context = {
        "verdict": _verdict(data.runs, found),
        "figure": _figure(runs) if any(row.avg for row in found.runs) else None,
        "closeness": _closeness(data.runs, found),
        "settings": _settings(data.runs, found),
        "versions": _versions(data.runs),
        "unpaired": [(run.label, row.left_out) for run, row in runs if row.left_out],
        "other_numbers": [run.label for run, row in runs if not row.same_numbers],
    }
    return Section("comparison", TITLE, "comparison.html", context)


def _verdict(runs: list[Run], found: Comparison) -> list[Markup]:
    """A sentence for each run but the first, by the interval of its paired difference."""
    said = []
    for run, row in zip(runs[1:], found.runs[1:], strict=True):
        if (gap := row.difference) is None:
            said.append(_nearer(runs, run, row))
            continue
        word = WORDS[outcome(gap.low, gap.high)]
        said.append(
            Markup(f"<b>{{}}</b> {word} <b>{{}}</b>: {{}}.").format(
                run.label, runs[0].label, _difference(runs, run, row)
            )
        )
    return said


def _nearer(runs: list[Run], run: Run, row: ComparedRun) -> Markup:
    """The sentence on a task without references: which student is nearer to the teacher on the same responses."""
    gap = row.closer.get("kl_common")
    if gap is None:
        return Markup("<b>{}</b> and <b>{}</b> have no measure in common.").format(run.label, runs[0].label)
    word = (
        "is nearer to" if gap.high < 0 else "is <em>farther from</em>" if gap.low > 0 else "is not certainly nearer to"
    )
    return Markup(f"<b>{{}}</b> {word} the teacher than <b>{{}}</b>, on the same held-out responses: {{}}.").format(
        run.label, runs[0].label, _change(runs, run, row, "kl_common", "change_nats", " nats")
    )


def _change(runs: list[Run], run: Run, row: ComparedRun, measure: str, form: str, unit: str = "") -> Markup:
    """A measure of a task without references, minus the first run's."""
    if measure not in row.closer:
        return NONE
    rule = f"paired_change {measure} | {run.label}/evals/{row.evaluation}.jsonl | {runs[0].label}/evals/{runs[0].last}.jsonl"
    return derived(row.closer[measure], form, rule, unit=unit)


def _closeness(runs: list[Run], found: Comparison) -> Table:
    """A task without references: one row a measure, one column a run, with its paired difference."""
    rows = []
    for measure, (words, form) in MEASURES.items():
        if measure in found.runs[0].closeness:
            shown, paired = PAGE_FORMS[form]
            cells = []
            for run, row in zip(runs, found.runs, strict=True):
                last = run.evaluation("after")
                value = estimate(last, f"/closeness/{measure}", shown) if last else NONE
                gap = _change(runs, run, row, measure, paired)
                cells.append(value if gap == NONE else Markup("{} ({})").format(value, gap))
            rows.append((words, *cells))
    caption = "Without reference answers: how near to the teacher each student is (difference from the first, paired)"
    return Table(("", *(run.label for run in runs)), rows, caption)


def _difference(runs: list[Run], run: Run, row: ComparedRun) -> Markup:
    if row.difference is None:
        return NONE
    rule = f"paired_difference | {run.label}/evals/{row.evaluation}.jsonl | {runs[0].label}/evals/{runs[0].last}.jsonl"
    return derived(row.difference, "points", rule, unit=" points")


def _figure(runs: list[tuple[Run, ComparedRun]]) -> Figure:
    known = [(run, row.avg, f"c{1 + i % 6}") for i, (run, row) in enumerate(runs) if row.avg is not None]
    low, high = span([v for _, e, _ in known for v in (e.low, e.high)], 0, 1)
    marks = [
        (run.label, colour, Point(0, e.value, e.low, e.high, f"{run.label}: {spoken(e)}", _source(run)), None)
        for run, e, colour in known
    ]
    chart = bars.strip("Accuracy after the last step, with 95% intervals", marks, Axis("", low, high, round_pct))
    rows = [
        (
            run.label,
            Markup("{}").format(run.config.rollout.stops_at),
            estimate(last, "/avg") if (last := run.evaluation("after")) else NONE,
            _difference([r for r, _ in runs], run, row),
            str(row.common) if row.difference else "",
            datum(run.settings, "/optim/steps", "count"),
            mean_of(run.rows, "time/step"),
            mean_of(run.rows, "tokens/generated", "count"),
            mean_of(run.rows, "memory/peak_gib", "gib"),
        )
        for run, row in runs
    ]
    columns = (
        "run", "N", "accuracy", "difference, paired", "problems paired", "steps", "seconds a step", "tokens a step", "peak memory",
    )  # fmt: skip
    names = ", ".join(run.label for run, _ in runs)
    return Figure(
        chart, *without_empty(columns, rows), f"Source: evaluations after the last step of {names} · {BY_PROBLEM}"
    )


def _source(run: Run) -> str:
    found = run.evaluation("after")
    return "" if found is None else where(found, "/avg/value")


def _settings(runs: list[Run], found: Comparison) -> Table:
    """The keys in which some run differs from the first, with every run's value."""
    trees = [flatten(run.config.model_dump()) for run in runs]
    keys = sorted({key for row in found.runs for key in row.differs})
    rows: list[tuple[Any, ...]] = [(key, *(_text(tree.get(key)) for tree in trees)) for key in keys]
    return Table(("setting", *(run.label for run in runs)), rows, "Settings that differ")


def _versions(runs: list[Run]) -> Table:
    """Versions and machines that are not the same for all."""
    told = [
        {key: run.environment.get(key) for key in VERSIONS} | dict(run.environment.get("packages", {})) for run in runs
    ]
    keys = [key for key in dict.fromkeys(k for tree in told for k in tree) if len({str(t.get(key)) for t in told}) > 1]
    rows = [(key, *(_text(tree.get(key)) for tree in told)) for key in keys]
    return Table(("version", *(run.label for run in runs)), rows, "Versions and machines that differ")


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
