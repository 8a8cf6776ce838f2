"""From a pilot to the end of training: what a student reaches after all steps, and where the rest of the gap lies.

A pilot splits the gap in two: `within` is what the teacher alone has over its continuations of the pilot's first N tokens,
`after` what those have over the pilot's own. ESR teaches what lies within N: every pilot's length of steps is taken to leave
the same share of it as the first one did. A response that begins as the teacher's do, from then on, is taken to be right as
often, beside the teacher's, as the untrained student is after the teacher's own first N tokens; what is missing lies after N.
"""

import numpy as np
from numpy.typing import NDArray

from esr import intervals
from esr.analysis.continuation import Graded
from esr.records.base import Estimate
from esr.records.fit import End

Array = NDArray[np.float64]


def at_the_end(
    student: Graded, teacher: Graded, begun: Graded, own: Graded, passed: Graded, reach: Graded, times: float
) -> End:
    """What is expected after `times` as many steps as a pilot had, with intervals over the problems that all but `reach` have.

    `begun` and `passed` are the teacher's continuations of the first N tokens of the untrained student and of the pilot,
    `own` the pilot's responses, `reach` the untrained student's continuations of the teacher's, on some of the problems.
    """
    everywhere = (student, teacher, begun, own, passed)
    common = [key for key in own if all(source.get(key) for source in everywhere)]
    beside = {key: teacher[key] for key in common if reach.get(key)}
    table = [[float(np.mean(source.get(key) or 0)) for source in (*everywhere, reach, beside)] for key in common]
    accuracy, *rest = intervals.bootstrap(np.array(table), lambda means: end(means, times))
    gain, within, after = (_between(e, -1.0) for e in rest)
    return End(accuracy=_between(accuracy, 0.0), gain=gain, within=within, after=after)


def end(means: Array, times: float) -> Array:
    """(..., 4) accuracy, gain over the untrained student, and what is left within and after N, from the (..., 7) means of
    student, teacher, `begun`, `own`, `passed`, and of `reach` and the teacher where there is `reach` (else 0)."""
    student, teacher, begun, own, passed, reach, beside = np.moveaxis(means, -1, 0)
    first, within = teacher - begun, teacher - passed
    share = _ratio(within, first).clip(0, 1)
    left = within * share ** (times - 1)
    reached = own + (within - left) * _ratio(reach, beside).clip(0, 1)
    return np.stack([reached, reached - student, left, teacher - left - reached], axis=-1)


def _between(e: Estimate, least: float) -> Estimate:
    """With an interval that ends at `least` and at 1."""
    return e.model_copy(update={"low": max(e.low, least), "high": min(e.high, 1.0)})


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 1 where b is not positive."""
    return np.divide(a, b, out=np.ones_like(a), where=b > 0)
