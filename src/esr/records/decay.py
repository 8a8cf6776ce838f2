"""How far the teacher follows the student astray: `analysis/decay.json`."""

from typing import Literal

from esr.records.base import Estimate, Record
from esr.records.finding import Finding


class DecayPoint(Record):
    """Accuracy when a model goes on after the first k tokens of another's response."""

    k: int
    """Tokens of the prefix; 0 is the model alone."""
    continued: int
    """Prefixes that were still going on, so that somebody could continue them."""
    finished: int
    """Prefixes whose response had ended within k tokens. They are counted here and left out of `avg`."""
    avg: Estimate | None
    """Accuracy of prefix and continuation, over the continued prefixes; None if there are fewer than two."""
    pass_at_k: Estimate | None
    with_finished: Estimate | None
    """As published: finished prefixes count with their own grade."""
    change: Estimate | None
    """`avg` minus the same series at k = 0, paired on the problems that both have."""


class DecaySeries(Record):
    """One curve: who wrote the prefix, who goes on, and of which prefixes."""

    prefix: Literal["student", "teacher"]
    continued_by: Literal["student", "teacher"]
    subset: Literal["all", "right", "wrong"]
    """`right` and `wrong`: by whether the writer's own completion of that prefix was right."""
    points: list[DecayPoint]


class Recommendation(Record):
    """The N that the decay curve suggests."""

    n: int | None
    """The longest measured prefix up to which no loss against k = 0 was found; None: even the shortest one loses."""
    surely: int | None
    """The longest prefix up to which a loss of more than `margin` can be ruled out."""
    at_most: int | None
    """The shortest prefix at which a loss is certain; None: none was found."""
    margin: float
    rule: str
    """The rule in words."""


class Decay(Finding):
    """How far the teacher follows the student astray: `analysis/decay.json`."""

    kind: Literal["decay"] = "decay"
    samples: int
    """Continuations of each prefix."""
    series: list[DecaySeries]
    recommendation: Recommendation
