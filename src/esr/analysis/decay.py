"""Teacher decay: how far does the teacher follow the student astray?

Each problem gets one response of the student. It is cut after k tokens, and the teacher continues it from there, several
times; prefix and continuation are graded together (arXiv:2605.27028, where k is 100, 200 and 300). Added here: the
teacher alone on the same problems (k = 0) as the reference of a paired change, two controls (the student continues its
own prefix; the student continues the teacher's), and the split by whether the student's full response, of which the
prefix is the beginning, was right. A prefix whose response had already ended can be continued by nobody: it says how
short responses are, not how well the teacher goes on, and is counted apart.

Limits: this measures the end of a response whose beginning is fixed, not the teacher's scores of single tokens; and there
is one prefix a problem, so pass@k is over its continuations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from esr.analysis import continuation
from esr.analysis.continuation import Continuations, Graded, Grades, Head, accuracy, difference, numbers
from esr.analysis.subject import Subject
from esr.config import EvalConfig
from esr.console import progress
from esr.errors import UserError
from esr.models.lm import LM
from esr.pair import Who
from esr.records.base import Estimate
from esr.records.decay import Decay, DecayPoint, DecaySeries, DecaySettings, Recommendation

Subset = Literal["all", "right", "wrong"]

PAIRS: tuple[tuple[Who, Who], ...] = (("student", "teacher"), ("student", "student"), ("teacher", "student"))
"""Who wrote the prefix, who goes on: decay, control, reverse control."""
MARGIN = 0.05
"""A loss of accuracy up to which a prefix is still called safe."""
FEWEST = 10
"""Problems that a change must rest on to count in the recommendation."""


@dataclass(frozen=True)
class AtLength:
    """One series at one k."""

    k: int
    prefixes: int
    """That were continued."""
    ended: int
    """That had ended within k tokens."""
    continued: Graded
    finished: Graded
    """Own grades of those that had ended."""

    @property
    def everything(self) -> Graded:
        """Continued and finished prefixes together, as published."""
        return self.continued | self.finished


def compute(subject: Subject, settings: DecaySettings) -> Decay:
    """The record of the evaluation's problems. Raises `UserError` if a length leaves nothing to continue."""
    problems, task, how = subject.graded(settings.problems)
    lengths, text = settings.below(how.max_new_tokens), settings.protocol == "paper"
    chosen, stages = choices(settings, lengths, how), plan(lengths)
    student, reference = student_of(subject, settings)
    lms: dict[Who, LM] = {"student": student, "teacher": subject.teacher}
    models = {"student": reference, "teacher": subject.config.teacher.model}
    depends = {**chosen, "models": models, "task": task, "batch": how.batch, "ids": [p.id for p in problems]}
    kept = continuation.opened(subject.directory, "decay" + settings.variant(), depends)
    before = continuation.done(kept, stages, len(problems), how.batch)
    with progress("Teacher decay", len(stages) * len(problems), "case", before) as advance:
        work = Continuations(problems, how, settings.seed, kept, advance)
        heads = {side: work.heads(writing(side), lm, how.max_new_tokens, 1) for side, lm in lms.items()}
        tails = {
            (writer, side, k): work.tails(
                stage(writer, side, k),
                lms[side],
                heads[writer],
                k,
                settings.samples,
                carrying(subject, lms, writer, side, text),
            )
            for writer, side in PAIRS
            for k in lengths
        }
    ids = [p.id for p in problems]
    curves: dict[tuple[Who, Who, Subset], list[AtLength]] = {}
    for writer, side in PAIRS:
        for subset in subsets(writer, side):
            inside = [h for h in heads[writer] if subset == "all" or h.right is (subset == "right")]
            curves[writer, side, subset] = [measured(k, inside, tails[writer, side, k], ids) for k in lengths]
    return Decay(
        models=models,
        task=task,
        problems=len(problems),
        settings=chosen,
        samples=settings.samples,
        seconds=continuation.seconds(kept),
        series=[
            DecaySeries(prefix=w, continued_by=c, subset=s, points=points(curve)) for (w, c, s), curve in curves.items()
        ],
        recommendation=recommend(losses(curves["student", "teacher", "all"], published=text), text),
    )


def carrying(
    subject: Subject, lms: Mapping[Who, LM], writer: Who, side: Who, text: bool
) -> Callable[[list[int]], list[int]]:
    """How a prefix passes from its writer to the side that continues it: as tokens, or as `text`."""
    if text:
        return lambda ids: continuation.again(lms[writer], lms[side], ids)
    return subject.pair.carry(writer, side)


def student_of(subject: Subject, settings: DecaySettings) -> tuple[LM, str]:
    """The student that writes, and its reference."""
    if settings.step is None:
        return subject.before, subject.references()["student"]
    if subject.asked != settings.step:
        raise UserError(f"The student of step {settings.step} is to write; open the subject with that step.")
    return subject.trained("--step names a checkpoint of a run."), subject.references()["after"]


def choices(settings: DecaySettings, lengths: Sequence[int], how: EvalConfig) -> dict[str, Any]:
    """Everything that the numbers depend on besides models and problems, for the record."""
    passed = {"ours": "as token ids", "paper": "as text, without special tokens, tokenised again"}
    return {
        "protocol": settings.protocol,
        "prefixes_pass": passed[settings.protocol],
        "lengths": list(lengths),
        "samples": settings.samples,
        "seed": settings.seed,
        "max_new_tokens": how.max_new_tokens,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "right_and_wrong": "by the writer's full response, of which the prefix is the beginning",
    }


def subsets(writer: Who, side: Who) -> tuple[Subset, ...]:
    """Which prefixes a pair's curves are drawn over."""
    return ("all", "right", "wrong") if (writer, side) == ("student", "teacher") else ("all",)


def writing(side: Who) -> str:
    """The stage in which a side writes its responses."""
    return f"{side} writes"


def stage(writer: Who, side: Who, k: int) -> str:
    """The stage of a series at k. Without a prefix it does not matter who wrote it."""
    return f"{side} after {k} tokens of {writer}" if k else f"{side} alone"


def plan(lengths: Sequence[int]) -> list[str]:
    """All stages, each once."""
    stages = [writing("student"), writing("teacher")] + [stage(w, c, k) for w, c in PAIRS for k in lengths]
    return list(dict.fromkeys(stages))


def measured(k: int, heads: Sequence[Head], tails: Sequence[Grades], ids: Sequence[str]) -> AtLength:
    """Grades at k over `heads`, one a problem; `tails` and `ids` are those of all problems."""
    live = [head for head in heads if not head.ended(k)]
    over = [head for head in heads if head.ended(k)]
    return AtLength(
        k,
        len(live),
        len(over),
        {ids[h.problem]: numbers(tails[h.problem]) for h in live},
        {ids[h.problem]: numbers([h.right]) for h in over},
    )


def points(curve: Sequence[AtLength]) -> list[DecayPoint]:
    """The record of a curve whose first point is k = 0."""
    return [
        DecayPoint(
            k=at.k,
            continued=at.prefixes,
            finished=at.ended,
            avg=accuracy(at.continued),
            pass_at_k=accuracy({i: [max(g)] for i, g in at.continued.items() if g}),
            with_finished=accuracy(at.everything),
            change=difference(at.continued, curve[0].continued) if at.k else None,
        )
        for at in curve
    ]


def losses(curve: Sequence[AtLength], published: bool) -> list[tuple[int, Estimate | None]]:
    """(k, change against k = 0) at each k > 0; `published` counts finished prefixes with their own grade."""
    alone = curve[0].continued
    return [(at.k, difference(at.everything if published else at.continued, alone)) for at in curve if at.k]


def recommend(changes: Sequence[tuple[int, Estimate | None]], published: bool = False) -> Recommendation:
    """The N that changes at ascending k suggest: the rule is in the record."""
    usable = [(k, change) for k, change in changes if change is not None and change.n >= FEWEST]
    at_most = next((k for k, change in usable if change.high < 0), None)
    risky = next((k for k, change in usable if change.low <= -MARGIN), None)
    counted = "counted with their own grade" if published else "left out"
    rule = (
        f"n is the longest measured prefix up to which the accuracy against k = 0, paired by problem, may not have fallen "
        f"(each 95% interval reaches 0); surely: up to which each interval stays above -{100 * MARGIN:g} points; at_most: the "
        f"shortest whose interval is below 0. Prefixes that had finished are {counted}; "
        f"lengths with fewer than {FEWEST} problems to compare are skipped."
    )
    if not usable:
        rule += " Here no length had that many, so nothing is recommended."
    return Recommendation(
        n=_last_before(usable, at_most), surely=_last_before(usable, risky), at_most=at_most, margin=MARGIN, rule=rule
    )


def _last_before(usable: Sequence[tuple[int, Estimate]], end: int | None) -> int | None:
    return max((k for k, _ in usable if end is None or k < end), default=None)
