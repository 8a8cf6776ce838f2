"""The records that reach the disk, each with a format version. No torch here."""

from collections.abc import Iterable
from typing import Any, Literal

from esr.records.base import FORMAT_VERSION, Estimate, Record
from esr.records.steps import step_of


class Grade(Record):
    """How one response was judged. None: the grader failed or ran out of time, which is not the same as wrong."""

    first: bool | None
    """By the first answer in the response."""
    last: bool | None
    """By the last answer in the response; this one is the headline."""
    any: bool | None
    """By the best of all answers in the response."""
    answer: str | None = None
    """The last answer, normalised for voting; None if the response has none."""
    answers: int = 0
    """Answers found in the response."""
    score: float | None = None
    """In [0, 1], from a grader that gives one (by the last answer); right is a score of 1."""
    note: str | None = None
    """What went wrong in the grader, or the remarks of a user's own."""
    strategy: bool | None = None
    """Lab only: whether the response committed to the right strategy."""

    @property
    def points(self) -> float:
        """What the response counts in avg@k: its score, or 1 if it is right."""
        return float(bool(self.last)) if self.score is None else self.score


class Sample(Record):
    """One graded response."""

    problem: str
    sample: int
    text: str
    tokens: int
    finished: bool
    """Ended with a terminator, not by the length cap."""
    repetitive: bool
    grade: Grade


def label(name: str) -> str:
    """How people call an evaluation: `before`, `step 200`, `teacher`; a mark of other settings (`@...`) is left out."""
    model = name.partition("@")[0]
    step = step_of(model)
    return model if step is None else f"step {step}" if step else "before"


class Evaluation(Record):
    """The result of one evaluation: `evals/NAME.json`; its samples lie beside it in `NAME.jsonl`."""

    format_version: int = FORMAT_VERSION
    kind: Literal["evaluation"] = "evaluation"
    name: str
    """Who was evaluated: `student`, `teacher`, `step-000200`."""
    model: str
    task: str
    settings: dict[str, Any]
    """The `eval` section, and the run's seed."""
    problems: int
    samples: int
    """Responses to each problem (k)."""
    avg: Estimate
    """avg@k by the last answer; the mean score, where the grader gives scores."""
    maj: Estimate
    """maj@k: the most frequent answer is right; ties count in parts."""
    pass_at_k: Estimate
    avg_first: Estimate
    avg_any: Estimate
    finish_rate: Estimate
    avg_given_finish: Estimate | None
    repetition_rate: Estimate
    strategy_rate: Estimate | None = None
    tokens: dict[str, float]
    """Response length: p10, p50, p90, mean."""
    grader_failures: int
    seconds: float


def grades(samples: Iterable[Sample]) -> dict[str, list[float]]:
    """Grades by problem, 1 or 0 by the last answer or its score; responses that the grader failed on are left out."""
    by_problem: dict[str, list[float]] = {}
    for s in samples:
        if s.grade.last is not None:
            by_problem.setdefault(s.problem, []).append(s.grade.points)
    return by_problem


class Difference(Record):
    """A paired difference between two evaluations on the same problems."""

    format_version: int = FORMAT_VERSION
    kind: Literal["difference"] = "difference"
    name: str
    reference: str
    avg: Estimate
