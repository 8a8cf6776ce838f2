"""Tables for people and JSON for machines. Results go to stdout."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.table import Table

from esr.console import Terminal, duration
from esr.records.base import as_text
from esr.records.closeness import MEASURES
from esr.records.evaluation import Difference, Evaluation, by_progress, grouped
from esr.runs.files import dumps
from esr.runs.rundir import RunDir

out = Terminal()
if not out.is_terminal:
    out.width = 120


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    print(dumps(value, indent=1))


def run_summary(run: RunDir, as_json: bool) -> None:
    """A run's evaluations, paired differences to the untrained student, and what a step cost."""
    evaluations, rows = sorted(run.evaluations(), key=by_progress), run.metrics()
    changes = differences(run, evaluations)
    if as_json:
        emit(
            {
                "run": str(run.path),
                "steps": len(rows),
                "last": rows[-1] if rows else None,
                "evaluations": [e.model_dump() for e in evaluations],
                "differences": [d.model_dump() for d in changes],
            }
        )
        return
    for group in grouped(evaluations, lambda e: e):
        evaluation_table(group, changes)
    if rows:
        seconds = sum(r["time/step"] for r in rows)
        peak = max(r["memory/peak_gib"] for r in rows)
        first, last = ("unknown" if r.get("loss") is None else f"{r['loss']:.3f}" for r in (rows[0], rows[-1]))
        out.print(
            f"{len(rows)} steps in {duration(seconds)} ({seconds / len(rows):.1f} s a step), peak memory {peak:.1f} GiB, "
            f"loss {first} at the first step and {last} at the last. Everything is in {run.path}.",
            markup=False,
            soft_wrap=True,
        )


def differences(run: RunDir, evaluations: list[Evaluation]) -> list[Difference]:
    """Each evaluation against the untrained student's with the same task and settings, paired by problem."""
    from esr.evaluation.summarise import difference

    found = []
    for group in grouped(evaluations, lambda e: e):
        base = next((e for e in group if e.step == 0), None)
        if base is not None:
            reference = run.responses(base.name)
            others = [e for e in group if e is not base]
            found += [difference(run.responses(e.name), reference, e.name, base.name) for e in others]
    return found


def evaluation_table(evaluations: list[Evaluation], changes: list[Difference]) -> None:
    """One column for each model: accuracy by last, first and any answer, with intervals, and how responses end."""
    first = evaluations[0]
    rows = graded_rows(first.samples, changes) if not first.closeness else closeness_rows(first, changes)
    table = Table(
        title=f"{first.task}: {first.problems} problems x {first.samples} responses; percent [95% interval by problem]",
        title_justify="left",
    )
    table.add_column("")
    for e in evaluations:
        table.add_column(e.label, justify="right")
    for name, cell in rows:
        cells = [cell(e) for e in evaluations]
        if any(c != "-" for c in cells):
            table.add_row(name, *cells)
    out.print(table)
    if failures := sum(e.grader_failures for e in evaluations):
        reasons = sum((Counter(e.failures) for e in evaluations), Counter())
        why = f" ({', '.join(f'{reason}: {count}' for reason, count in reasons.most_common(3))})" if reasons else ""
        text = f"The grader failed on {failures} responses{why}; they are left out, not counted as wrong."
        out.print(text, markup=False, soft_wrap=True)


EvaluationRow = tuple[str, Callable[[Evaluation], str]]


def closeness_rows(first: Evaluation, changes: list[Difference]) -> list[EvaluationRow]:
    """Of a task without references: each measure, and its paired change."""
    by_name = {d.name: d.closeness for d in changes}
    rows: list[EvaluationRow] = []
    for measure, (words, form) in MEASURES.items():
        if measure in first.closeness:
            unit = " (nats)" if form == "nats" else ""
            rows.append((words + unit, lambda e, m=measure, f=form: as_text(e.closeness.get(m), f)))  # type: ignore[misc]
            rows.append(
                ("  change, paired", lambda e, m=measure, f=form: as_text(by_name.get(e.name, {}).get(m), f, sign=True))  # type: ignore[misc]
            )
    return rows


def graded_rows(k: int, changes: list[Difference]) -> list[EvaluationRow]:
    """Of a task with a grader."""
    by_name = {d.name: d.avg for d in changes}
    return [
        (f"accuracy (avg@{k})", lambda e: as_text(e.avg)),
        ("with ungraded ones wrong", lambda e: as_text(e.avg_at_least)),
        ("change, paired", lambda e: as_text(by_name.get(e.name), sign=True)),
        (f"pass@{k}", lambda e: as_text(e.pass_at_k)),
        (f"maj@{k}", lambda e: as_text(e.maj)),
        ("by the first answer", lambda e: as_text(e.avg_first)),
        ("by any answer", lambda e: as_text(e.avg_any)),
        ("finished", lambda e: as_text(e.finish_rate)),
        ("accuracy if finished", lambda e: as_text(e.avg_given_finish)),
        ("repetitive", lambda e: as_text(e.repetition_rate)),
        ("right strategy", lambda e: as_text(e.strategy_rate)),
        ("tokens, p10 / p50 / p90", lambda e: " / ".join(f"{e.tokens[q]:.0f}" for q in ("p10", "p50", "p90"))),
    ]
