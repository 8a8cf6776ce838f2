"""A check at work: its problems, who writes what on them, and what is known already."""

from collections.abc import Sequence
from dataclasses import dataclass

from esr.analysis.continuation import Continuations, Cut, Grades, Head, opened
from esr.analysis.models import Models
from esr.analysis.subject import Subject
from esr.config import EvalConfig
from esr.console import Advance
from esr.errors import UserError
from esr.models.lm import LM
from esr.pair import Who
from esr.records.fit import FitSettings
from esr.records.problem import Problem
from esr.runs.checked import trained_with
from esr.runs.parts import Known
from esr.runs.rundir import RunDir

ROUNDS = 8
"""Blocks of problems that a budget may buy."""
PROBED = 24
"""Problems on which the student continues the teacher."""


@dataclass(frozen=True)
class Check:
    """The same problems with the same random numbers for everybody, one response each, so that differences are paired.

    Parts are kept as they are known, pilots train in run directories beside them: a check that was stopped goes on.
    """

    subject: Subject
    settings: FitSettings
    problems: Sequence[Problem]
    block: int
    """Problems in the first round, and in each block that a budget buys; whole batches."""
    how: EvalConfig
    kept: Known

    @property
    def models(self) -> Models:
        return self.subject.models

    @property
    def lengths(self) -> list[int]:
        """The N that leave something to continue."""
        return [n for n in self.settings.lengths if n < self.how.max_new_tokens]

    @property
    def steps(self) -> int:
        """Of a pilot."""
        return self.settings.steps(self.subject.config.optim.steps)

    def lm(self, side: Who) -> LM:
        """The untrained student, or the teacher."""
        return self.models.before if side == "student" else self.models.teacher

    def work(self, count: int, advance: Advance) -> Continuations:
        """On the first `count` problems."""
        return Continuations(self.problems[:count], self.how, self.settings.seed, self.kept, advance)

    def own(self, work: Continuations, side: Who) -> list[Head]:
        """A side's whole responses."""
        return work.heads(writing(side), self.lm(side), self.how.max_new_tokens, 1)

    def few(self, advance: Advance) -> Continuations:
        """On the first `PROBED` problems."""
        return self.work(min(PROBED, self.block), advance)

    def handed_over(
        self, work: Continuations, side: Who, begun: Sequence[Head], lengths: Sequence[int]
    ) -> list[list[Grades]]:
        """`side`, untrained, goes on after the first k tokens of `begun`, which is the other's, for each k of `lengths`."""
        carry = self.subject.pair.carry("student" if side == "teacher" else "teacher", side)
        return work.tails_of(self.lm(side), [Cut(going_on(side, k), begun, k) for k in lengths], carry=carry)

    def folder(self, name: str = "") -> RunDir:
        """Where a pilot trains, until the record is made."""
        return RunDir(self.subject.directory.path / "pilots" / name)


def writing(name: str) -> str:
    """The stage in which somebody writes whole responses."""
    return f"{name} writes"


def going_on(side: Who, k: int) -> str:
    """The stage in which a side, untrained, goes on after the other's first k tokens."""
    return f"{side} after {k} tokens of the other"


def begin(subject: Subject, settings: FitSettings) -> tuple[Check, bool]:
    """The check, with what an earlier session has measured; and whether its problems are apart from the evaluation's."""
    how = subject.evaluation()
    if settings.pilot and min(settings.lengths) >= how.max_new_tokens:
        raise UserError(
            f"eval.max_new_tokens={how.max_new_tokens} leaves nothing after N = {min(settings.lengths)}: give smaller --lengths, "
            "or longer responses."
        )
    how = how.model_copy(update={"batch_size": min(how.batch, settings.problems)})
    block = -(-settings.problems // how.batch) * how.batch
    problems, apart = subject.apart(block * (ROUNDS if settings.budget else 1))
    depends = {
        **settings.model_dump(exclude={"budget"}),
        "eval": how.settings(),
        "config": trained_with(subject.config),
        "ids": [p.id for p in problems[:block]],
    }
    kept = opened(subject.directory, "fit", depends)
    return Check(subject, settings, problems, min(block, len(problems)), how, kept), apart
