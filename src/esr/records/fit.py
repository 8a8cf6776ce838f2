"""Does ESR fit a pair, and at which N: `analysis/fit.json`."""

from typing import Any, Literal

from pydantic import Field, field_validator

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.profile import PositionBin
from esr.records.settings import Settings

SHARE = 4
"""A pilot has at most one step in so many of the run's own."""
Answer = Literal["fits", "does not fit", "cannot tell"]
Better = Literal["full rollouts", "supervised warm-up", "another teacher"]


class FitSettings(Settings):
    """What the check measures before any money is spent."""

    problems: int = Field(48, ge=2)
    """Problems, apart from those of the evaluation where the task can make others."""
    lengths: tuple[int, ...] = (50, 100, 200)
    """Values of N, in tokens: each is trained for `pilot` steps, and is a prefix length of the probe."""
    pilot: int = Field(16, ge=0)
    """Steps of ESR at each N, at most a quarter of the run's, whose result is not kept; 0: no pilot, and so no verdict."""
    budget: float | None = Field(None, gt=0)
    """Minutes. While they last, more problems are measured where the verdict is least certain."""
    seed: int = 1
    """Seed of the responses."""

    def steps(self, run: int) -> int:
        """Of each pilot of a run of `run` steps."""
        return min(self.pilot, max(1, run // SHARE))

    QUICK = {"problems": 24, "lengths": (50, 100), "pilot": 5}

    @field_validator("lengths", mode="before")
    @classmethod
    def _ascending(cls, given: Any) -> tuple[int, ...]:
        """Ascending; `50,100` will do."""
        words = [word.strip() for word in given.split(",")] if isinstance(given, str) else [str(n) for n in given]
        if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
            raise ValueError("give numbers of tokens above 0, separated by commas, such as 50,100")
        return tuple(sorted({int(word) for word in words}))


class Handover(Record):
    """Accuracy when one side goes on after the other's first k tokens."""

    k: int
    continued: int
    finished: int
    """Responses that had ended within k tokens: their writer's work, left out of the accuracies."""
    avg: Estimate | None
    """Of those that were continued."""
    gain: Estimate | None
    """`avg` minus what the side that goes on reaches alone, paired on the continued problems."""


class Cost(Record):
    """What a step of training took."""

    n: int
    seconds: float
    peak_gib: float
    """Peak memory: of the accelerator, or of the whole process on a CPU."""


class End(Record):
    """What is expected when training has taught what lies within N."""

    accuracy: Estimate
    gain: Estimate
    """Over the untrained student."""
    after: Estimate
    """What the teacher then still has over it. It lies after N: only longer rollouts reach it."""


class Pilot(Record):
    """A few steps of ESR at one N, and what the teacher makes of their result."""

    n: int
    steps: int
    last: Estimate
    """Accuracy after all of them."""
    gain: Estimate
    """`last` minus the untrained student, paired by problem."""
    after: Estimate
    """What the teacher gains over the pilot's student when it continues that one's first N tokens: it lies after N."""
    within: Estimate
    """What the teacher alone has over that: it lies within N."""
    end: End
    cost: Cost


class FitVerdict(Record):
    """What follows from the numbers."""

    answer: Answer
    n: int | None
    """The shortest N that keeps all but `spare` of the best expected gain; None where there is nothing to recommend."""
    end: End | None
    """What is expected at that N."""
    faster: float | None
    """Seconds of a step with full rollouts over those of one at N."""
    smaller: float | None
    """Peak memory with full rollouts over that at N."""
    better: Better | None
    """What would be better than ESR, or after it."""
    reasons: list[str]
    """Sentences, each with the number behind it."""
    spare: float
    """Share of the best gain that a shorter N may lose."""


class Fit(Finding):
    """Does ESR fit this pair, at which N, and what is out of its reach: `analysis/fit.json`."""

    kind: Literal["fit"] = "fit"
    apart: bool
    """Whether these problems are others than those of the evaluation."""
    student: Estimate
    """Accuracy of the untrained student."""
    teacher: Estimate
    gap: Estimate
    """Teacher minus student, paired by problem."""
    decay: list[Handover]
    """The teacher after the student's first k tokens."""
    reach: list[Handover]
    """The student after the teacher's first k tokens. By itself it does not foretell what training reaches."""
    bins: list[PositionBin]
    """Divergence by position on the untrained student's responses."""
    share_first: dict[str, float]
    """Share of the summed divergence in the first positions (keys)."""
    tokens: dict[str, dict[str, float]]
    """Response lengths of `student` and `teacher`: p50, p90."""
    full: Cost | None
    """Of full rollouts; None without a pilot."""
    pilots: list[Pilot]
    verdict: FitVerdict
