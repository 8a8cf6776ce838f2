"""Where a budget's time goes: into the widest interval that the verdict still hangs on."""

from collections.abc import Mapping, Sequence

from esr.analysis import continuation
from esr.analysis.continuation import part
from esr.analysis.fit import pilots
from esr.analysis.fit.check import Check, writing
from esr.analysis.fit.verdict import SIDES, widest
from esr.records.base import Estimate
from esr.records.fit import Pilot

Counts = Mapping[int, int]
"""Problems that each pilot was measured on, by its N; and student and teacher (`SIDES`), who are never behind a pilot."""


def another_block(check: Check, counts: Counts, gap: Estimate, found: Sequence[Pilot]) -> Counts | None:
    """The counts with another block of problems where the answer is least certain; None when nothing is open or time is up.

    What is kept already costs nothing, so that a check that was stopped goes the same way again.
    """
    if check.settings.budget is None or (target := widest(gap, found)) is None:
        return None
    count = counts[target] + check.block
    more = {**counts, target: count, SIDES: max(counts[SIDES], count)}
    due = price(check, counts, more)
    if count > len(check.problems) or (due and spent(check) + due > 60 * check.settings.budget):
        return None
    return more


def spent(check: Check) -> float:
    """Seconds of all that was measured and trained, in whichever session."""
    return continuation.seconds(check.kept) + pilots.seconds(check)


def price(check: Check, before: Counts, after: Counts) -> float:
    """Seconds that the batches between two counts will take, those left out that are kept."""
    size = check.how.batch
    return sum(
        continuation.pace(check.kept, stage)
        for key, have in before.items()
        for stage in stages(key)
        for start in range(have, after[key], size)
        if check.kept.get(part(stage, [start])) is None
    )


def stages(key: int) -> tuple[str, ...]:
    """In which a pilot, or student and teacher, are measured."""
    return (writing("student"), writing("teacher")) if key == SIDES else pilots.stages(key)
