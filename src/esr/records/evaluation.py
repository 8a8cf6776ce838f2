"""The records that reach the disk, each with a format version. No torch here."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from pydantic import model_validator

from esr.records.base import FORMAT_VERSION, Estimate, Record
from esr.records.steps import step_name, step_of

T = TypeVar("T")


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


UNGRADED = Grade(first=None, last=None, any=None, note="no reference")
"""Of a response to a problem without a reference."""


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
    closeness: dict[str, float] = {}
    """Of a response that nobody grades: divergence and agreement (`records.closeness.MEASURES`)."""
    token_ids: list[int] | None = None
    """Kept of the untrained student's responses that nobody grades: later steps are measured on them too."""


class Evaluated(Record):
    """Whose responses an evaluation judged, and whether under the run's own settings."""

    who: Literal["student", "teacher"]
    step: int | None = None
    """Training steps that the student has had; None for the teacher."""
    variant: str = ""
    """Mark of settings that are not the run's own; part of the file's name."""

    @classmethod
    def named(cls, name: str) -> "Evaluated":
        """The reverse of `name`."""
        return Evaluated(**_fields(name))

    @property
    def name(self) -> str:
        """`step-000200`, `teacher`, `teacher@MARK`: the file's name."""
        model = "teacher" if self.step is None else step_name(self.step)
        return f"{model}@{self.variant}" if self.variant else model

    @property
    def label(self) -> str:
        """How people call it: `before`, `step 200`, `teacher`."""
        return "teacher" if self.step is None else f"step {self.step}" if self.step else "before"


def _fields(name: str) -> dict[str, Any]:
    model, _, variant = name.partition("@")
    step = step_of(model)
    return {"who": "teacher" if step is None else "student", "step": step, "variant": variant}


class Evaluation(Evaluated):
    """The result of one evaluation: `evals/NAME.json`; its responses lie beside it in `NAME.jsonl`.

    A rate that nothing was measured for, because the grader failed on every response, is None.
    """

    format_version: int = FORMAT_VERSION
    kind: Literal["evaluation"] = "evaluation"
    model: str
    task: str
    settings: dict[str, Any]
    """The `eval` section, and the run's seed."""
    problems: int
    samples: int
    """Responses to each problem (k)."""
    avg: Estimate | None
    """avg@k by the last answer; the mean score, where the grader gives scores."""
    maj: Estimate | None
    """maj@k: the most frequent answer is right; ties count in parts."""
    pass_at_k: Estimate | None
    """pass@k for the k responses that there are: one of them is right."""
    pass_at: dict[str, Estimate] = {}
    """pass@j for every j up to k, by j: the unbiased estimator from k responses (arXiv:2107.03374, equation 1)."""
    avg_first: Estimate | None
    avg_any: Estimate | None
    finish_rate: Estimate
    avg_given_finish: Estimate | None
    repetition_rate: Estimate
    strategy_rate: Estimate | None = None
    tokens: dict[str, float]
    """Response length: p10, p50, p90, mean."""
    grader_failures: int
    """Responses without a verdict: their checker broke off or was late. No rate of right answers has them."""
    failures: dict[str, int] = {}
    """The same, by reason."""
    avg_at_least: Estimate | None = None
    """avg@k with each of them taken for wrong; None without one."""
    closeness: dict[str, Estimate] = {}
    """Of a task without references: the mean of each of `records.closeness.MEASURES`."""
    left_out: dict[str, int] = {}
    """Rows of the task that are no problems here, by reason."""
    seconds: float

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, data: Any) -> Any:
        """Older records have a `name` for who, step and variant."""
        if not isinstance(data, dict) or "name" not in data:
            return data
        return _fields(str(data["name"])) | {k: v for k, v in data.items() if k != "name"}


def comparable(a: Evaluation, b: Evaluation) -> bool:
    """Whether two evaluations measure the same: the same task under the same settings.

    The seed of sampling may differ, as it does between runs with other training seeds, and the engine that wrote: both
    estimate the same accuracy, and differences between them are still paired by problem.
    """
    return _measured(a) == _measured(b)


NEWER: dict[str, Any] = {"tools": "template", "protocol": None, "prompt": None, "system_prompt": None, "stop": []}
"""Settings that older records lack, as they were then."""


def _measured(e: Evaluation) -> tuple[str, dict[str, Any]]:
    return e.task, NEWER | {k: v for k, v in e.settings.items() if k not in ("seed_sampling", "writer")}


def grouped(items: Iterable[T], evaluation: Callable[[T], Evaluation]) -> list[list[T]]:
    """Items whose evaluations are comparable, together, in the order of each group's first."""
    groups: list[list[T]] = []
    for item in items:
        group = next((g for g in groups if comparable(evaluation(g[0]), evaluation(item))), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    return groups


def by_progress(e: Evaluated) -> tuple[bool, int, str]:
    """A key that sorts evaluations: before, later steps, the teacher last."""
    return e.step is None, e.step or 0, e.variant


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
    avg: Estimate | None
    """None without a problem that both graded."""
    closeness: dict[str, Estimate] = {}
    """Of a task without references: the paired change of each of `records.closeness.MEASURES`."""
