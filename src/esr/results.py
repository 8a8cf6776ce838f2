"""The records that reach the disk, each with a format version. No torch here."""

import math
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

FORMAT_VERSION = 1


class Record(BaseModel):
    """A frozen piece of a result file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Problem(Record):
    """One question, and what is needed to check an answer to it."""

    id: str
    """Unique in its task and stable between runs: statistics pair by it."""
    question: str
    answer: str | None = None
    """Reference answer; None where only prompts are needed."""
    grader: str = "math"
    """`math`, `reasoning_gym` or `lab`: how a response is checked (esr.grading)."""
    data: dict[str, Any] = {}
    """What the grader needs besides the answer."""


class Estimate(Record):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float
    n: int
    """Independent units behind the interval (problems, not samples)."""

    @field_validator("low", "high", mode="before")
    @classmethod
    def _without_end(cls, value: Any, info: ValidationInfo) -> Any:
        """JSON has no infinity: an end that was written as null is none."""
        return (-math.inf if info.field_name == "low" else math.inf) if value is None else value


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
    strategy: bool | None = None
    """Lab only: whether the response committed to the right strategy."""


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
    if model == "step-000000":
        return "before"
    return f"step {int(model[5:])}" if model[5:].isdigit() else model


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
    """avg@k by the last answer."""
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
    """Grades by problem, 1 or 0 by the last answer; responses that the grader failed on are left out."""
    by_problem: dict[str, list[float]] = {}
    for s in samples:
        if s.grade.last is not None:
            by_problem.setdefault(s.problem, []).append(float(s.grade.last))
    return by_problem


class Difference(Record):
    """A paired difference between two evaluations on the same problems."""

    format_version: int = FORMAT_VERSION
    kind: Literal["difference"] = "difference"
    name: str
    reference: str
    avg: Estimate


class PositionBin(Record):
    """Means over the response positions of one bin; the interval's unit is a response."""

    start: int
    end: int | None
    """Exclusive; None: open."""
    tokens: int
    responses: int
    reverse_kl: Estimate
    """Nats."""
    forward_kl: Estimate
    """Nats."""
    student_entropy: float
    teacher_entropy: float
    agreement: float
    """Share of positions with the same most probable event."""
    top_k_overlap: float | None = None
    """Mean share of the student's 8 most probable events that are among the teacher's 8. None in older records."""
    sampled_gap: float | None = None
    """Mean of |log p_s - log p_t| at the sampled token, nats: what the paper's curve shows. None in older records."""
    few: bool = False
    """Fewer than 10 responses get here: whoever is left is no fair sample, so no trend should be read into it."""


class Curve(Record):
    """One model's profile on one set of responses."""

    model: Literal["before", "after"]
    trajectories: Literal["common", "own"]
    """`common`: responses of the untrained student, the same for both models; `own`: the model's own responses."""
    bins: list[PositionBin]


class Profile(Record):
    """Divergence by position before and, if the student was trained, after training: `analysis/profile.json`."""

    format_version: int = FORMAT_VERSION
    kind: Literal["profile"] = "profile"
    protocol: Literal["ours", "paper"] = "ours"
    """`ours`: sampled as in training, common and own responses. `paper`: own responses at temperature 0.7, top-p 1, to
    be read by `sampled_gap`; kept in `analysis/profile-paper.json`."""
    step: int
    """0: the student is untrained, and there is one curve."""
    trained_window: int
    """N of the run."""
    problems: int
    prompts: str
    """Where the held-out prompts come from."""
    max_new_tokens: int
    seed: int
    curves: list[Curve]
    inside: Estimate | None
    """Change (after minus before, nats) on common responses inside the trained window, paired by response."""
    beyond: Estimate | None
    """The same beyond it."""
    share_first: dict[str, float] = {}
    """Share of the untrained student's summed reverse KL that lies in the first 10, 25, 50, 100, 200 positions (keys)."""
    first_to_rest: float | None = None
    """Mean reverse KL of the untrained student's first `trained_window` positions over the mean of all later ones.

    The authors' go/no-go heuristic, drawn from three pairs: 2.8 and 2.5 worked, 1.15 did not. None if nothing is later.
    """
    seconds: float


class CurvePoint(Record):
    """A student's accuracy after some training."""

    step: int
    seconds: float
    """Training time, evaluations left out."""
    tokens: int
    """Generated so far."""
    avg: Estimate


NOT_RUN = "not run yet"


class ArmSeed(Record):
    """One run of a study."""

    seed: int
    run: str
    """Directory, relative to the study's runs."""
    error: str | None
    """Why there is no result; then all numbers below are empty."""
    avg: Estimate | None = None
    before: Estimate | None = None
    teacher: Estimate | None = None
    finish_rate: Estimate | None = None
    avg_first: Estimate | None = None
    avg_any: Estimate | None = None
    repetition_rate: Estimate | None = None
    strategy_rate: Estimate | None = None
    tokens: dict[str, float] = {}
    """Response length at the end: p10, p50, p90, mean."""
    steps: int = 0
    seconds: float = 0.0
    """Training, evaluations left out."""
    generated: int = 0
    peak_memory_gib: float = 0.0
    curve: list[CurvePoint] = []


class Arm(Record):
    """One training setting, over its seeds."""

    name: str
    overrides: dict[str, Any]
    n: int
    """`rollout.max_new_tokens`."""
    student: str
    teacher_model: str
    seeds: list[ArmSeed]
    avg: Estimate | None
    """Pooled; its interval covers problems and seeds."""
    gain: Estimate | None
    """Against the untrained student, paired by problem and seed."""
    reference: str | None = None
    """The arm that this one is compared with; None for a reference itself."""
    difference: Estimate | None
    """Against the reference arm, paired by problem and seed."""
    to_teacher: Estimate | None
    """Against the teacher, paired."""
    before: Estimate | None
    teacher: Estimate | None
    marks: list[str]
    """`exceeds teacher`, `collapsed`, `worse than untrained`, by the rules in `Study.rules`."""
    steps: float
    seconds: float
    """Training seconds, mean over seeds; likewise the rest."""
    seconds_per_step: float
    generated: float
    peak_memory_gib: float


class Study(Record):
    """Arms compared: `study.json`."""

    format_version: int = FORMAT_VERSION
    kind: Literal["study"] = "study"
    name: str
    question: str
    rule: Literal["updates", "tokens", "seconds"]
    """What all arms have in common: optimiser steps, generated tokens, or training seconds."""
    reference: str
    """The reference arm, or several, joined by commas."""
    task: str
    problems: int
    samples: int
    seeds: list[int]
    base: dict[str, Any]
    """The configuration that arms override."""
    rules: dict[str, str]
    """What each mark means."""
    arms: list[Arm]
    environment: dict[str, Any]
    command: str
    seconds: float
    """Of all runs together, evaluations included."""
