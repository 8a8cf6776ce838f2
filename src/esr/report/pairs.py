"""Paired comparisons that the page computes itself, from the graded responses of runs."""

from dataclasses import dataclass

from esr import intervals
from esr.records.base import Estimate
from esr.records.evaluation import comparable, grades
from esr.report.sources import Data, Found, Run


@dataclass(frozen=True)
class Pair:
    """Two evaluations on the same problems: `value` is the first minus the second."""

    value: Estimate
    rule: str
    """How it is computed, for `data-derived`."""


def compared(run: Run, found: Found | None, other: Run, reference: Found | None) -> Pair | None:
    """Paired by problem; None without both, or without a problem that both graded."""
    if found is None or reference is None or not comparable(found.record, reference.record):
        return None
    sides = [grades(r.responses(f.record.name)) for r, f in ((run, found), (other, reference))]
    if not sides[0].keys() & sides[1].keys():
        return None
    names = [f"{r.label}/evals/{f.record.name}.jsonl" for r, f in ((run, found), (other, reference))]
    return Pair(intervals.paired_difference(*sides), "paired_difference | " + " | ".join(names))


def gained(run: Run) -> Pair | None:
    """After minus before."""
    return compared(run, run.evaluation("after"), run, run.evaluation("before"))


def rivals(data: Data) -> tuple[Run, Run, Pair] | None:
    """The first run, and the run of the same pair and task with the longest rollouts, if those are longer."""
    if not data.runs:
        return None
    run = data.runs[0]
    longer = [
        other
        for other in data.runs[1:]
        if other.config.rollout.max_new_tokens > run.config.rollout.max_new_tokens
        and (other.config.student.model, other.config.teacher.model)
        == (run.config.student.model, run.config.teacher.model)
    ]
    for other in sorted(longer, key=lambda r: -r.config.rollout.max_new_tokens):
        pair = compared(run, run.evaluation("after"), other, other.evaluation("after"))
        if pair is not None:
            return run, other, pair
    return None
