"""What lies within reach of N, and what after it: from a pilot to the accuracy that is expected.

A pilot splits the gap in two: `within` is what the teacher alone has over its continuations of the pilot's first N tokens,
`after` what those have over the pilot's own. Training is taken to teach what lies within N. A response that begins as the
teacher's do is then taken to be right as often, beside the teacher's, as the untrained student is after the teacher's own
first tokens, N or fewer, whichever it can carry on best: more of a right beginning makes the rest no harder, and where it
throws the untrained student off, it is by a style that training teaches. What is missing lies after N.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from esr import intervals
from esr.analysis.continuation import Graded
from esr.records.base import Estimate
from esr.records.fit import End

Array = NDArray[np.float64]


def at_the_end(student: Graded, teacher: Graded, own: Graded, passed: Graded, reach: Sequence[Graded]) -> End:
    """What is expected when training has taught what lies within N, with intervals over the problems that all but `reach` have.

    `own` are the pilot's responses, `passed` the teacher's continuations of their first N tokens, `reach` the untrained
    student's continuations of the teacher's first tokens, for each number of them up to N, on some of the problems.
    """
    everywhere = (student, teacher, own, passed)
    common = [key for key in own if all(source.get(key) for source in everywhere)]
    beside = [{key: teacher[key] for key in common if some.get(key)} for some in reach]
    sources = [*everywhere, *reach, *beside]
    table = [[float(np.mean(source.get(key) or 0)) for source in sources] for key in common]
    accuracy, gain, after = intervals.bootstrap(np.array(table), end)
    return End(accuracy=_between(accuracy, 0.0), gain=_between(gain, -1.0), after=_between(after, -1.0))


def end(means: Array) -> Array:
    """(..., 3) accuracy, gain over the untrained student, and what lies after N, from the (..., 4 + 2 k) means of student,
    teacher, `own`, `passed`, of k `reach`, and of the teacher where there is each of them (else 0)."""
    student, teacher, own, passed = np.moveaxis(means[..., :4], -1, 0)
    reach, beside = np.split(means[..., 4:], 2, axis=-1)
    reached = own + (teacher - passed) * _best(reach, beside)
    return np.stack([reached, reached - student, teacher - reached], axis=-1)


def _between(e: Estimate, least: float) -> Estimate:
    """With an interval that ends at `least` and at 1."""
    return e.model_copy(update={"low": max(e.low, least), "high": min(e.high, 1.0)})


def _best(reach: Array, beside: Array) -> Array:
    """(...) the largest of the (..., k) ratios, in [0, 1]; one without anything right beside it says nothing. 1 if none says anything:
    nothing was left to carry on."""
    known = beside > 0
    ratios = np.divide(reach, beside, out=np.full_like(reach, -1.0), where=known).clip(max=1).max(-1, initial=-1.0)
    return np.where(known.any(-1), ratios, 1.0)
