"""What an evaluation's graded responses add up to: rates with intervals clustered by problem. No torch here."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from esr import grading, intervals
from esr.records.base import Estimate
from esr.records.evaluation import UNGRADED, Difference, Evaluated, Evaluation, Grade, Sample, grades
from esr.runs.comparing import closer, measured


def summarise(
    samples: Sequence[Sample], who: Evaluated, model: str, task: str, settings: dict[str, object], seconds: float
) -> Evaluation:
    """The record of an evaluation from its graded responses.

    Those without a verdict are counted by reason and left out of the accuracies. As a response that keeps its checker from a
    verdict could raise them so, the accuracy with each of those wrong stands beside.
    """
    by_id: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        by_id[s.problem].append(s)
    groups = list(by_id.values())

    def rate(pick: Callable[[Sample], float | None]) -> Estimate | None:
        """Over the responses for which `pick` is known; None if it is for none."""
        values = [[float(v) for s in group if (v := pick(s)) is not None] for group in groups]
        return intervals.accuracy(values) if any(values) else None

    judged = [[s.grade for s in group] for group in groups if any(s.grade.last is not None for s in group)]
    failures = Counter(_reason(s.grade) for s in samples if s.grade.last is None and s.grade != UNGRADED)
    lengths = np.array([s.tokens for s in samples])
    return Evaluation(
        who=who.who,
        step=who.step,
        variant=who.variant,
        model=model,
        task=task,
        settings=settings,
        problems=len(groups),
        samples=max(map(len, groups)),
        avg=rate(lambda s: None if s.grade.last is None else s.grade.points),
        maj=intervals.accuracy([[grading.majority(group)] for group in judged]) if judged else None,
        pass_at_k=intervals.accuracy([[float(any(g.last for g in group))] for group in judged]) if judged else None,
        pass_at=passes([[bool(g.last) for g in group if g.last is not None] for group in judged]),
        avg_first=rate(lambda s: s.grade.first),
        avg_any=rate(lambda s: s.grade.any),
        finish_rate=intervals.accuracy([[float(s.finished) for s in group] for group in groups]),
        avg_given_finish=intervals.ratio(
            [sum(s.grade.points for s in group if s.finished and s.grade.last is not None) for group in groups],
            [sum(s.grade.last is not None for s in group if s.finished) for group in groups],
        ),
        repetition_rate=intervals.accuracy([[float(s.repetitive) for s in group] for group in groups]),
        strategy_rate=rate(lambda s: s.grade.strategy),
        tokens={f"p{q}": float(np.quantile(lengths, q / 100)) for q in (10, 50, 90)} | {"mean": float(lengths.mean())},
        grader_failures=failures.total(),
        failures=dict(failures.most_common()),
        avg_at_least=rate(lambda s: s.grade.points) if failures and judged else None,
        closeness=measured(samples),
        seconds=round(seconds, 2),
    )


def passes(groups: Sequence[Sequence[bool]]) -> dict[str, Estimate]:
    """pass@j by j, for every j up to the largest group."""
    found = {str(j): intervals.pass_at(groups, j) for j in range(1, max(map(len, groups), default=0) + 1)}
    return {j: chance for j, chance in found.items() if chance}


def _reason(grade: Grade) -> str:
    """Why there is no verdict, without the particulars of the response."""
    return (grade.note or "no reason given").partition(":")[0]


def difference(samples: Sequence[Sample], reference: Sequence[Sample], name: str, reference_name: str) -> Difference:
    """avg@k minus the reference's avg@k, paired by problem."""
    ours, theirs = grades(samples), grades(reference)
    change = intervals.paired_difference(ours, theirs) if ours.keys() & theirs.keys() else None
    return Difference(name=name, reference=reference_name, avg=change, closeness=closer(samples, reference))
