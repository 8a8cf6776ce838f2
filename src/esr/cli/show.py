"""Tables for people and JSON for machines. Results go to stdout."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from esr.console import duration
from esr.results import Difference, Estimate, Evaluation
from esr.rundir import RunDir, finite

out = Console(highlight=False, soft_wrap=True)


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(finite(value), indent=1, ensure_ascii=False))


def pct(estimate: Estimate | None, sign: bool = False) -> str:
    """`52.1 [48.0, 56.2]`, in percent or percentage points."""
    if estimate is None:
        return "-"
    form = "{:+.1f}" if sign else "{:.1f}"
    return f"{form.format(100 * estimate.value)} [{', '.join(form.format(100 * v) for v in (estimate.low, estimate.high))}]"


def run_summary(run: RunDir, as_json: bool) -> None:
    """A run's evaluations, paired differences to the untrained student, and what a step cost."""
    evaluations, rows = ordered(run.evaluations()), run.metrics()
    changes = differences(run, evaluations)
    if as_json:
        emit({
            "run": str(run.path), "steps": len(rows), "last": rows[-1] if rows else None,
            "evaluations": [e.model_dump() for e in evaluations], "differences": [d.model_dump() for d in changes],
        })  # fmt: skip
        return
    if evaluations:
        evaluation_table(evaluations, changes)
    if rows:
        seconds = sum(r["time/step"] for r in rows)
        peak = max(r["memory/peak_gib"] for r in rows)
        out.print(
            f"{len(rows)} steps in {duration(seconds)} ({seconds / len(rows):.1f} s a step), peak memory {peak:.1f} GiB, "
            f"last loss {rows[-1]['loss']:.3f}. Everything is in {run.path}.", markup=False,
        )  # fmt: skip


def ordered(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Before, after, teacher: by step, the teacher last."""
    return sorted(evaluations, key=lambda e: (not e.name.startswith("step-"), e.name))


def differences(run: RunDir, evaluations: list[Evaluation]) -> list[Difference]:
    """Each evaluation against the untrained student on the same problems and task."""
    from esr import evaluate

    base = next((e for e in evaluations if e.name == "step-000000"), None)
    if base is None:
        return []
    reference = run.samples(base.name)
    others = [e for e in evaluations if e is not base and (e.task, e.settings) == (base.task, base.settings)]
    return [evaluate.difference(run.samples(e.name), reference, e.name, base.name) for e in others]


def evaluation_table(evaluations: list[Evaluation], changes: list[Difference]) -> None:
    """Accuracy by last, first and any answer, with intervals; how responses end; and the paired difference."""
    first = evaluations[0]
    table = Table(title=f"{first.task}: {first.problems} problems x {first.samples} responses; percent, 95% interval by problem")
    for name in ("model", f"avg@{first.samples}", "change, paired", f"pass@{first.samples}", f"maj@{first.samples}", "first / any answer", "finished", "avg if finished", "repetitive", "tokens p50 (p90)"):
        table.add_column(name, justify="left" if name == "model" else "right")
    by_name = {d.name: d for d in changes}
    for e in evaluations:
        change = by_name.get(e.name)
        table.add_row(
            e.name, pct(e.avg), pct(change.avg, sign=True) if change else "-", pct(e.pass_at_k), pct(e.maj),
            f"{100 * e.avg_first.value:.1f} / {100 * e.avg_any.value:.1f}", f"{100 * e.finish_rate.value:.1f}", pct(e.avg_given_finish),
            f"{100 * e.repetition_rate.value:.1f}", f"{e.tokens['p50']:.0f} ({e.tokens['p90']:.0f})",
        )  # fmt: skip
    out.print(table)
    failures = sum(e.grader_failures for e in evaluations)
    if failures:
        out.print(f"The grader failed on {failures} responses; they are left out, not counted as wrong.")
