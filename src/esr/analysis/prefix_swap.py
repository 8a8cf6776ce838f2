"""The prefix swap: does the gain of training sit in the first n tokens of a response, or behind them?

Both students, untrained (`before`) and trained (`after`), begin each response; both continue each beginning. So there are
four conditions, of which (before, before) and (after, after) are the two students themselves. The share of the gain that
(after, before) keeps is what the better beginning alone brings. All conditions use the same random numbers for their
tails, and each sample has its own beginning.
"""

from collections.abc import Mapping
from typing import Any, Literal

from esr import intervals
from esr.analysis import continuation
from esr.analysis.continuation import Continuations, Graded, with_finished
from esr.analysis.subject import Subject
from esr.config import EvalConfig
from esr.console import progress
from esr.errors import UserError
from esr.models.lm import LM
from esr.records.prefix_swap import PrefixSwap, PrefixSwapSettings, SwapCondition

Student = Literal["before", "after"]
CONDITIONS: tuple[tuple[Student, Student], ...] = (
    ("before", "before"), ("before", "after"), ("after", "before"), ("after", "after"),
)  # fmt: skip
"""Who writes the prefix, who the tail."""


def compute(subject: Subject, settings: PrefixSwapSettings) -> PrefixSwap:
    """The record of the evaluation's problems. Raises `UserError` if the student was not trained, or no tail fits."""
    problems, task, how = subject.graded(settings.problems)
    n = settings.n or subject.n
    chosen = choices(settings, n, how)
    after = subject.trained("the prefix swap needs one that was trained.")
    lms: dict[Student, LM] = {"before": subject.before, "after": after}
    stages = [writing(side) for side in lms] + [stage(*condition) for condition in CONDITIONS]
    models = subject.references("student", "after")
    depends = {**chosen, "models": models, "task": task, "batch": how.batch, "ids": [p.id for p in problems]}
    kept = continuation.opened(subject.directory, "prefix-swap", depends)
    done = continuation.done(kept, stages, len(problems), how.batch)
    with progress("Prefix swap", len(stages) * len(problems), "case", done) as advance:
        work = Continuations(problems, how, settings.seed, kept, advance)
        heads = {side: work.heads(writing(side), lm, n, settings.samples) for side, lm in lms.items()}
        graded = {
            (prefix, tail): with_finished(
                heads[prefix], work.tails(stage(prefix, tail), lms[tail], heads[prefix], n, 1), problems
            )
            for prefix, tail in CONDITIONS
        }
    return PrefixSwap(
        models=models,
        task=task,
        problems=len(problems),
        settings=chosen,
        n=n,
        samples=settings.samples,
        seconds=continuation.seconds(kept),
        finished={side: sum(head.ended(n) for head in found) for side, found in heads.items()},
        conditions=conditions(graded),
        share_in_prefix=share(graded),
    )


def choices(settings: PrefixSwapSettings, n: int, how: EvalConfig) -> dict[str, Any]:
    """Everything that the numbers depend on besides models and problems. Raises `UserError` if no tail fits."""
    if n >= how.max_new_tokens:
        raise UserError(
            f"The prefix has {n} tokens and eval.max_new_tokens is {how.max_new_tokens}, so there is no room for a tail; "
            "choose a smaller --n."
        )
    return {
        "n": n,
        "samples": settings.samples,
        "seed": settings.seed,
        "max_new_tokens": how.max_new_tokens,
        "temperature": how.temperature,
        "top_p": how.top_p,
    }


def writing(side: Student) -> str:
    """The stage in which a student begins its responses."""
    return f"{side} begins"


def stage(prefix: Student, tail: Student) -> str:
    """The stage of a condition."""
    return f"{tail} continues {prefix}"


def conditions(graded: Mapping[tuple[Student, Student], Graded]) -> list[SwapCondition]:
    """Accuracy of each condition, and its change against the untrained student alone."""
    alone = graded["before", "before"]
    return [
        SwapCondition(
            prefix=prefix,
            tail=tail,
            avg=intervals.accuracy(list(grades.values())),
            change=None if grades is alone else intervals.paired_difference(grades, alone),
        )
        for (prefix, tail), grades in graded.items()
    ]


def share(graded: Mapping[tuple[Student, Student], Graded]) -> float | None:
    """Gain of (after, before) over gain of (after, after); None if the latter's interval does not lie above zero."""
    alone = graded["before", "before"]
    whole = intervals.paired_difference(graded["after", "after"], alone)
    if whole.low <= 0:
        return None
    return intervals.paired_difference(graded["after", "before"], alone).value / whole.value
