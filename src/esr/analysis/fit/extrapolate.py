"""From a pilot to the end of training: what a student reaches after all steps, and where the rest of the gap lies.

A pilot splits the gap in two: `within` is what the teacher alone has over its continuations of the pilot's first N tokens,
`after` what those have over the pilot's own. ESR teaches what lies within N: of that, as of the divergence in the first N
tokens, every pilot's length of steps is taken to leave the same share, the one that the pilot left of the divergence. (Of
`within` itself a pilot shows little: grades are few, and follow the divergence late.) A response that begins as the teacher's
do is taken to be right as often, beside the teacher's, as the untrained student is after the teacher's own first N tokens;
what is missing lies after N.
"""

import numpy as np
from numpy.typing import NDArray

from esr import intervals
from esr.analysis.continuation import Graded
from esr.records.base import Estimate
from esr.records.fit import End

Array = NDArray[np.float64]
Values = dict[str, float]
"""A number for each problem, by its id."""


def at_the_end(
    student: Graded,
    teacher: Graded,
    own: Graded,
    passed: Graded,
    before: Values,
    left: Values,
    reach: Graded,
    times: float,
) -> End:
    """What is expected after `times` as many steps as a pilot had, with intervals over the problems that all but `reach` have.

    `own` are the pilot's responses, `passed` the teacher's continuations of their first N tokens, `before` and `left` the
    divergence there of the untrained student and of the pilot, `reach` the untrained student's continuations of the
    teacher's first N tokens, on some of the problems.
    """
    grades = (student, teacher, own, passed)
    common = [key for key in own if all(source.get(key) for source in grades)]
    beside = {key: teacher[key] for key in common if reach.get(key)}
    table = [
        [
            *(float(np.mean(source[key])) for source in grades),
            before[key],
            left[key],
            *(float(np.mean(source.get(key) or 0)) for source in (reach, beside)),
        ]
        for key in common
    ]
    accuracy, *rest = intervals.bootstrap(np.array(table), lambda means: end(means, times))
    gain, within, after = (_between(e, -1.0) for e in rest)
    return End(accuracy=_between(accuracy, 0.0), gain=gain, within=within, after=after)


def divergence_left(before: Values, left: Values) -> Estimate:
    """Share of the divergence that a pilot left, with an interval over the problems."""
    table = np.array([[before[key], left[key]] for key in before])
    return intervals.bootstrap(table, lambda means: _ratio(means[..., 1:], means[..., :1]))[0]


def end(means: Array, times: float) -> Array:
    """(..., 4) accuracy, gain over the untrained student, and what is left within and after N, from the (..., 8) means of
    student, teacher, `own`, `passed`, `before`, `left`, and of `reach` and the teacher where there is `reach` (else 0)."""
    student, teacher, own, passed, before, left, reach, beside = np.moveaxis(means, -1, 0)
    within = teacher - passed
    missing = within * _ratio(left, before).clip(0, 1) ** (times - 1)
    reached = own + (within - missing) * _ratio(reach, beside).clip(0, 1)
    return np.stack([reached, reached - student, missing, teacher - missing - reached], axis=-1)


def _between(e: Estimate, least: float) -> Estimate:
    """With an interval that ends at `least` and at 1."""
    return e.model_copy(update={"low": max(e.low, least), "high": min(e.high, 1.0)})


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 1 where b is not positive."""
    return np.divide(a, b, out=np.ones_like(a), where=b > 0)
