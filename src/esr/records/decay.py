"""How far the teacher follows the student astray: `analysis/decay.json`."""

from typing import Any, Literal

from pydantic import Field, field_validator

from esr.errors import UserError
from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class DecaySettings(Settings):
    """Problems, prefixes and continuations of teacher decay."""

    problems: int = Field(200, ge=2)
    """Problems, from those of the evaluation."""
    samples: int = Field(4, ge=1)
    """Continuations of each prefix."""
    lengths: tuple[int, ...] = (0, 10, 25, 50, 100, 200, 300)
    """Prefix lengths in tokens; those of the protocols are cut to what fits `eval.max_new_tokens`."""
    protocol: Literal["ours", "paper"] = "ours"
    """`paper`: prefixes pass as text, finished ones count as they are."""
    step: int | None = None
    """Let the student of this checkpoint write; default: the untrained one."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"problems": 40, "samples": 2, "lengths": (0, 10, 25, 50, 100)}
    PAPER = {"lengths": (0, 100, 200, 300)}

    @field_validator("lengths", mode="before")
    @classmethod
    def _ascending(cls, given: Any) -> tuple[int, ...]:
        """Ascending, 0 always among them; `25,50` will do."""
        words = given.split(",") if isinstance(given, str) else [str(k) for k in given]
        words = [word.strip() for word in words]
        if not all(word.isascii() and word.isdigit() for word in words):
            raise ValueError("give numbers of tokens separated by commas, such as 0,10,25")
        lengths = tuple(sorted({0, *map(int, words)}))
        if lengths == (0,):
            raise ValueError("give at least one length above 0")
        return lengths

    def below(self, cap: int) -> tuple[int, ...]:
        """The lengths that leave something to continue below `cap` tokens. Raises `UserError` if one's own do not."""
        fitting = tuple(k for k in self.lengths if k < cap)
        protocols = (values["lengths"] for values in (self.QUICK, self.PAPER))
        if fitting != self.lengths and self.lengths not in (type(self)().lengths, *protocols):
            raise UserError(
                f"--lengths: {self.lengths[-1]} leaves nothing to continue, because eval.max_new_tokens is {cap}."
            )
        return fitting


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
    """How far the teacher follows the student astray: `analysis/decay.json`, `analysis/decay-paper.json`."""

    kind: Literal["decay"] = "decay"
    samples: int
    """Continuations of each prefix."""
    series: list[DecaySeries]
    recommendation: Recommendation
