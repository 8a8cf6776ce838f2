"""What follows from the check's numbers. Pure functions; the thresholds are the constants here, and nothing else."""

from collections.abc import Sequence

from esr.records.base import Estimate
from esr.records.fit import Answer, Better, Cost, Handover, Pilot, Verdict

SPARE = 0.1
"""Share of the best pilot's gain that a shorter N may lose."""
WORTH = 0.02
"""A gap below this is not worth training for."""
PART = 0.2
"""Share of the gap that a pilot must certainly close to call ESR fitting, and certainly not close to say that it is not."""


def expected(before: float, half: float, last: Estimate, steps: int, total: int) -> Estimate:
    """Accuracy after `total` steps, from the untrained student's and a pilot's after half and all of its `steps`.

    Gains are taken to shrink by the same factor from each half pilot to the next, as they did between the first two (a
    factor outside [0, 0.8] is put there): a saturating curve through three points. A run no longer than the pilot, or a
    second half without gain, has the last value. The interval is the last value's, its upper end moved with the value.
    """
    first, second = half - before, last.value - half
    halves = 2 * total / steps - 2
    if halves <= 0 or second <= 0:
        return last
    factor = min(max(second / first, 0.0), 0.8) if first > 0 else 0.0
    more = second * factor * (1 - factor**halves) / (1 - factor)
    value = min(1.0, last.value + more)
    return Estimate(value=value, low=last.low, high=min(1.0, last.high + more), n=last.n)


def judge(
    student: Estimate, gap: Estimate, reach: Sequence[Handover], pilots: Sequence[Pilot], full: Cost | None
) -> Verdict:
    """The verdict: first whether there is something to learn, then whether a pilot learned it, then what it left."""
    if gap.high < WORTH:
        why = f"The teacher is at most {_points(gap.high)} points better than the student ({gap.text(sign=True)}); nothing is to be gained."
        return _without("does not fit", why, "another teacher")
    if not pilots:
        return _without("cannot tell", "Without a pilot nothing foretells what training reaches; give --pilot 20.")
    if gap.low <= 0:
        return _without(
            "cannot tell",
            f"Whether the teacher is better at all is open ({gap.text(sign=True)} points); about "
            f"{_needed(gap, abs(gap.value))} problems would tell.",
        )
    return _with(shortest(pilots), student, gap, reach, full)


def shortest(pilots: Sequence[Pilot]) -> Pilot:
    """The shortest N whose gain is within `SPARE` of the best one's."""
    best = max(p.gain.value for p in pilots)
    return min((p for p in pilots if p.gain.value >= best - SPARE * abs(best)), key=lambda p: p.n)


def _with(pilot: Pilot, student: Estimate, gap: Estimate, reach: Sequence[Handover], full: Cost | None) -> Verdict:
    """The verdict on the pilot at the N that would be recommended."""
    wanted, gain = PART * gap.value, pilot.gain
    said = f"{pilot.steps} steps at N = {pilot.n} changed the accuracy by {gain.text(sign=True)} points of a gap of {gap.text()}"
    if gain.high < wanted:
        better, why = instead(pilot, wanted, reach)
        return _about(pilot, full, "does not fit", [f"{said}.", why], better)
    if gain.low <= wanted:
        problems = _needed(gain, abs(gain.value - wanted))
        return _about(
            pilot, full, "cannot tell", [f"{said}; about {problems} problems would tell whether that is a fifth of it."]
        )
    then, left = remaining(pilot)
    return _about(pilot, full, "fits", [f"{said}.", left], then)


def _about(
    pilot: Pilot, full: Cost | None, answer: Answer, reasons: list[str], better: Better | None = None
) -> Verdict:
    recommended = answer != "does not fit"
    return Verdict(
        answer=answer,
        n=pilot.n if recommended else None,
        expected=pilot.expected if recommended else None,
        within=pilot.within,
        after=pilot.after,
        better=better,
        reasons=reasons,
        spare=SPARE,
        faster=full.seconds / pilot.cost.seconds if full and pilot.cost.seconds else None,
        smaller=full.peak_gib / pilot.cost.peak_gib if full and pilot.cost.peak_gib else None,
    )


def instead(pilot: Pilot, wanted: float, reach: Sequence[Handover]) -> tuple[Better, str]:
    """What is better than ESR where a pilot learned little, and the number behind it."""
    k, near = max(((h.k, h.gain) for h in reach if h.k <= pilot.n and h.gain), default=(0, None), key=lambda at: at[0])
    if near and near.high < wanted:
        return "supervised warm-up", (
            f"After the teacher's first {k} tokens the student gains {near.text(sign=True)} points: it cannot "
            "go on with what the teacher begins, so teach it by supervised fine-tuning first."
        )
    if pilot.after.value > pilot.within.value:
        return "full rollouts", (
            f"What is missing lies after N: the teacher gains {pilot.after.text(sign=True)} points from there."
        )
    return (
        "more steps",
        f"What is missing lies within N ({pilot.within.text(sign=True)} points), where more steps may reach it.",
    )


def remaining(pilot: Pilot) -> tuple[Better | None, str]:
    """What could still be gained, by what, and the number behind it."""
    split = f"{pilot.within.text(sign=True)} points within N, {pilot.after.text(sign=True)} after it"
    if pilot.after.low > WORTH and pilot.after.value > pilot.within.value:
        return (
            "full rollouts",
            f"What is left lies after N ({split}): longer rollouts reach it, more steps at this N do not.",
        )
    if pilot.within.low > WORTH:
        return "more steps", f"What is left lies within N ({split}): more ESR steps may reach it."
    return None, f"Little that is certain is left ({split})."


def _without(answer: Answer, why: str, better: Better | None = None) -> Verdict:
    """A verdict that recommends no N."""
    return Verdict(
        answer=answer,
        n=None,
        expected=None,
        within=None,
        after=None,
        faster=None,
        smaller=None,
        better=better,
        reasons=[why],
        spare=SPARE,
    )


def _points(share: float) -> str:
    return f"{max(0.0, 100 * share):.1f}"


def _needed(estimate: Estimate, distance: float) -> str:
    """Problems at which the interval would be shorter than `distance` to what it has to exclude."""
    half = (estimate.high - estimate.low) / 2
    return f"{round(estimate.n * (half / max(distance, 0.01)) ** 2) + 1:,}"
