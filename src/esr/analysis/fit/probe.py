"""What the untrained pair shows: who can go on with what the other begins, and where the two differ."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from esr.analysis.continuation import (
    Continuations,
    Graded,
    Head,
    accuracy,
    as_rollout,
    continued,
    difference,
    own_grades,
)
from esr.analysis.fit.check import PROBED, Check
from esr.analysis.profile import bins, share_first
from esr.analysis.responses import score
from esr.console import progress
from esr.pair import Who
from esr.ranks import here
from esr.records.fit import Handover
from esr.records.profile import PositionBin

SCORED = 16
"""Responses on which the divergence is measured."""


def probe(check: Check) -> dict[str, Any]:
    """Fields of the record: the student after the teacher's first tokens, lengths, divergence by position."""
    cases = 2 * check.block + len(check.lengths) * min(PROBED, check.block)
    with progress("Probe", cases, "response") as advance:
        work = check.work(check.block, advance)
        student, teacher = check.own(work, "student"), check.own(work, "teacher")
        reach = handovers(check, check.few(advance), "student", teacher, student)
    tokens = {"student": quantiles(student), "teacher": quantiles(teacher)}
    return {"reach": reach, "tokens": tokens, **divergence(check, student)}


def decay(check: Check) -> list[Handover]:
    """The teacher after the untrained student's first tokens: known already where pilots were measured."""
    with progress("Teacher decay", len(check.lengths) * check.block, "response") as advance:
        work = check.work(check.block, advance)
        return handovers(check, work, "teacher", check.own(work, "student"), check.own(work, "teacher"))


def handovers(
    check: Check, work: Continuations, side: Who, begun: Sequence[Head], alone: Sequence[Head]
) -> list[Handover]:
    """`side` goes on after the first tokens of `begun`, which is the other's, against its own responses `alone`."""
    begun, own = begun[: len(work.problems)], own_grades(alone, check.problems)
    tails = check.handed_over(work, side, begun, check.lengths)
    return [
        handover(k, continued(begun, t, k, work.problems), own, len(begun))
        for k, t in zip(check.lengths, tails, strict=True)
    ]


def handover(k: int, live: Graded, own: Graded, count: int) -> Handover:
    """One length's record, of `count` responses; `live` are those that were continued."""
    return Handover(
        k=k, continued=len(live), finished=count - len(live), avg=accuracy(live), gain=difference(live, own)
    )


def divergence(check: Check, student: Sequence[Head]) -> dict[str, Any]:
    """Divergence by position on some of the untrained student's responses."""
    models, value = check.models, check.kept.get("divergence")

    def measure(heads: Sequence[Head]) -> dict[str, Any]:
        start, written = time.perf_counter(), as_rollout(heads, models.before.device)
        scored = score(models.before, models.teacher, check.problems[: len(written)], written, check.subject.events)
        found = {"bins": [b.model_dump() for b in bins([scored])], "share_first": share_first([scored])}
        return {**found, "seconds": time.perf_counter() - start}

    if value is None:
        (value,) = here().dealt([student[:SCORED]], measure)
        check.kept.put("divergence", value)
    return {"bins": [PositionBin.model_validate(b) for b in value["bins"]], "share_first": value["share_first"]}


def quantiles(heads: Sequence[Head]) -> dict[str, float]:
    lengths = [len(h.ids) for h in heads]
    return {f"p{q}": float(np.quantile(lengths, q / 100)) for q in (50, 90)}
