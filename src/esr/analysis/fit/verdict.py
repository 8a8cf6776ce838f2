"""What follows from the check's numbers. Pure functions; the thresholds are the constants here, and nothing else."""

from collections.abc import Iterator, Sequence

from esr.records.base import Estimate
from esr.records.fit import Answer, Better, Cost, End, FitVerdict, Handover, Pilot

SPARE = 0.1
"""Share of the best N's gain that a shorter one may lose."""
WORTH = 0.02
"""A gap below this is not worth training for."""
PART = 0.2
"""Share of the gap that is certainly to be closed to call ESR fitting, and certainly not to be to say that it is not."""
SIDES = 0
"""Student and teacher, where pilots go by their N."""


def judge(gap: Estimate, reach: Sequence[Handover], pilots: Sequence[Pilot], full: Cost | None) -> FitVerdict:
    """The verdict: first whether there is something to learn, then whether it will be learned, then what will be left."""
    if gap.high < WORTH:
        why = (
            f"The teacher is less than {100 * WORTH:g} points better ({gap.text(sign=True)}); nothing is to be gained."
        )
        return _verdict("does not fit", [why], "another teacher")
    if not pilots:
        return _verdict("cannot tell", ["Without a pilot nothing foretells what training reaches; give --pilot 16."])
    if gap.low <= 0:
        why = (
            f"Whether the teacher is better at all is open ({gap.text(sign=True)} points); about "
            f"{_needed(gap, abs(gap.value))} problems would tell."
        )
        return _verdict("cannot tell", [why])
    return _with(shortest(pilots), gap, reach, full)


def shortest(pilots: Sequence[Pilot]) -> Pilot:
    """The shortest N whose expected gain is within `SPARE` of the best one's."""
    return min((p for p in pilots if p.end.gain.value >= _enough(pilots)), key=lambda p: p.n)


def widest(gap: Estimate, pilots: Sequence[Pilot]) -> int | None:
    """Whose interval is the widest of those that the verdict still hangs on: a pilot's N, or `SIDES`; None if none is open."""
    found = [
        (estimate.high - estimate.low, key)
        for key, estimate, at in _open(gap, pilots)
        if estimate.low < at <= estimate.high
    ]
    return max(found)[1] if found else None


def _open(gap: Estimate, pilots: Sequence[Pilot]) -> Iterator[tuple[int, Estimate, float]]:
    """All that the verdict compares: whose number it is, the number, and what it is held against."""
    yield SIDES, gap, 0.0
    yield SIDES, gap, WORTH
    if pilots:
        chosen = shortest(pilots)
        yield chosen.n, chosen.end.gain, PART * gap.value
        yield chosen.n, chosen.end.after, WORTH
        yield from ((p.n, p.end.gain, _enough(pilots)) for p in pilots)


def _enough(pilots: Sequence[Pilot]) -> float:
    best = max(p.end.gain.value for p in pilots)
    return best - SPARE * abs(best)


def _with(pilot: Pilot, gap: Estimate, reach: Sequence[Handover], full: Cost | None) -> FitVerdict:
    """The verdict on the pilot at the N that would be recommended."""
    wanted, gain = PART * gap.value, pilot.end.gain
    said = (
        f"{pilot.steps} steps at N = {pilot.n} changed the accuracy by {pilot.gain.text(sign=True)} points of a gap of "
        f"{gap.text()}; what lies within reach of N would change it by {gain.text(sign=True)}."
    )
    if gain.high < wanted:
        better, why = instead(pilot, wanted, reach)
        return _verdict("does not fit", [said, why], better)
    if gain.low <= wanted:
        why = f"About {_needed(gain, abs(gain.value - wanted))} problems would tell whether that is a fifth of the gap."
        return _verdict("cannot tell", [said, why], None, pilot, full)
    then, left = remaining(pilot.end)
    return _verdict("fits", [said, left], then, pilot, full)


def instead(pilot: Pilot, wanted: float, reach: Sequence[Handover]) -> tuple[Better, str]:
    """What is better than ESR where little will be learned, and the number behind it."""
    k, near = max(((h.k, h.gain) for h in reach if h.k <= pilot.n and h.gain), default=(0, None), key=lambda at: at[0])
    if near and (near.high < wanted or pilot.within.value >= pilot.after.value):
        return "supervised warm-up", (
            f"After the teacher's first {k} tokens the student gains {near.text(sign=True)} points: too little to "
            "go on with what the teacher begins, so teach it by supervised fine-tuning first."
        )
    return "full rollouts", (
        f"What is missing lies after N: the teacher gains {pilot.after.text(sign=True)} points from there."
    )


def remaining(end: End) -> tuple[Better | None, str]:
    """What could still gain what will be left when training is over, and the number behind it."""
    left = f"({end.after.text(sign=True)} points)"
    if end.after.low > WORTH:
        return "full rollouts", f"What will be left lies after N {left}: longer rollouts reach it, more steps do not."
    return None, f"Little that is certain will be left {left}."


def _verdict(
    answer: Answer,
    reasons: list[str],
    better: Better | None = None,
    pilot: Pilot | None = None,
    full: Cost | None = None,
) -> FitVerdict:
    """With the N of `pilot`, if one is recommended."""
    cost = pilot.cost if pilot else None
    return FitVerdict(
        answer=answer,
        n=pilot.n if pilot else None,
        end=pilot.end if pilot else None,
        faster=full.seconds / cost.seconds if full and cost and cost.seconds else None,
        smaller=full.peak_gib / cost.peak_gib if full and cost and cost.peak_gib else None,
        better=better,
        reasons=reasons,
        spare=SPARE,
    )


def _needed(estimate: Estimate, distance: float) -> str:
    """Problems at which the interval would be shorter than `distance` to what it has to exclude."""
    half = (estimate.high - estimate.low) / 2
    return f"{round(estimate.n * (half / max(distance, 0.01)) ** 2) + 1:,}"
