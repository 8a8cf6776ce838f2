"""The paired difference of runs that exist, and the conditions under which it means something. No torch here."""

from collections.abc import Mapping, Sequence

from esr import intervals
from esr.config.keys import flatten
from esr.errors import UserError
from esr.records.base import Estimate
from esr.records.closeness import MEASURES, by_problem
from esr.records.comparison import ComparedRun, Comparison
from esr.records.evaluation import UNGRADED, Evaluation, Sample, comparable, grades
from esr.runs.rundir import RunDir

PLACES = ("run.dir", "run.device", "run.trackers", "run.threads")
"""Keys that say where a run is, not what it does."""


def compare(runs: Sequence[RunDir]) -> Comparison:
    """Each run's evaluation after its last step against the first run's.

    Raises `UserError` if a run is not finished or was not evaluated, or was evaluated in another way than the first.
    """
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths) or len(runs) < 2:
        raise UserError("Name at least two different runs; the first is the one that the others are compared with.")
    found = [_last(run) for run in runs]
    first = found[0]
    for run, evaluation in zip(runs, found, strict=True):
        _require_comparable(runs[0], first, run, evaluation)
    reference = runs[0].responses(first.name)
    rows = [_row(runs[0], first, reference, run, e) for run, e in zip(runs, found, strict=True)]
    return Comparison(task=first.task, samples=first.samples, runs=rows)


def _last(run: RunDir) -> Evaluation:
    found = run.last(run.config())
    if found is None:
        raise UserError(f"{run.path} has no evaluation after its last step; finish it with `esr train {run.path}`.")
    return found


def _require_comparable(a: RunDir, first: Evaluation, b: RunDir, other: Evaluation) -> None:
    if comparable(first, other) and first.samples == other.samples:
        return
    keys = sorted(
        k for k in first.settings.keys() | other.settings.keys() if first.settings.get(k) != other.settings.get(k)
    )
    what = ", ".join(k for k in keys if k not in ("seed_sampling", "writer")) or "the task"
    raise UserError(
        f"{a.path} and {b.path} were evaluated in different ways ({what}), so their accuracies cannot be compared; train one "
        "of them again with the other's `eval` section."
    )


def table_of(evaluation: Evaluation) -> int | None:
    """The seed of the table of random numbers behind an evaluation; None if servers wrote, which have none."""
    return None if "writer" in evaluation.settings else evaluation.settings.get("seed_sampling")


def _row(
    reference: RunDir, first: Evaluation, theirs: list[Sample], run: RunDir, evaluation: Evaluation
) -> ComparedRun:
    mine = run.responses(evaluation.name)
    ours, graded = (_compared(side, evaluation) for side in (mine, theirs))
    common = ours & graded
    if not common:
        raise UserError(
            f"{reference.path} and {run.path} have no evaluation problem in common, so nothing can be paired."
        )
    a, b = flatten(reference.config().model_dump()), flatten(run.config().model_dump())
    return ComparedRun(
        run=str(run.path),
        evaluation=evaluation.name,
        avg=evaluation.avg,
        difference=_difference(mine, theirs) if run is not reference else None,
        closeness=evaluation.closeness,
        closer=closer(mine, theirs) if run is not reference else {},
        common=len(common),
        left_out=len(ours ^ graded),
        same_numbers=table_of(evaluation) is not None and table_of(evaluation) == table_of(first),
        differs=[k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k) and k not in PLACES],
    )


def _compared(samples: list[Sample], evaluation: Evaluation) -> set[str]:
    """The problems that count: those that were graded, or all of a task without references."""
    return {s.problem for s in samples} if evaluation.closeness else set(grades(samples))


def _difference(ours: list[Sample], theirs: list[Sample]) -> Estimate | None:
    """Of accuracies; None for a task without references."""
    a, b = grades(ours), grades(theirs)
    return intervals.paired_difference(a, b) if a and b else None


def closer(ours: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, Estimate]:
    """The paired change of each measure of responses that nobody grades; empty for graded ones."""
    a, b = (by_problem(s for s in side if s.grade == UNGRADED) for side in (ours, theirs))
    changes = {name: _change(name, a[name], b[name]) for name in a if name in b and a[name].keys() & b[name].keys()}
    return {name: change for name, change in changes.items() if change}


def _change(measure: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Estimate | None:
    """Shares keep their interval within what a difference of shares can be."""
    if MEASURES[measure][1] == "percent":
        return intervals.paired_difference(*({p: [v] for p, v in side.items()} for side in (ours, theirs)))
    return intervals.paired_change(ours, theirs)


def measured(samples: Sequence[Sample]) -> dict[str, Estimate]:
    """The mean over problems of each measure of responses that nobody grades; empty for graded ones."""
    found = by_problem(s for s in samples if s.grade == UNGRADED)
    return {name: _mean(name, list(values.values())) for name, values in found.items()}


def _mean(measure: str, values: list[float]) -> Estimate:
    """A share keeps its interval between nothing and everything, and has one where all problems are alike."""
    if MEASURES[measure][1] != "percent":
        return intervals.mean(values)
    if min(values) == max(values):
        return intervals.accuracy([[value] for value in values])
    e = intervals.mean(values)
    return e.model_copy(update={"low": max(0.0, e.low), "high": min(1.0, e.high)})
