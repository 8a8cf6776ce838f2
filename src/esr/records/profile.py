"""Divergence by position, before and after training: `analysis/profile.json`."""

from typing import Any, Literal

from pydantic import Field

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class ProfileSettings(Settings):
    """Responses of the profile, and how it is read."""

    problems: int = Field(64, ge=2)
    """Held-out prompts."""
    protocol: Literal["ours", "paper"] = "ours"
    """`paper`: own responses at temperature 0.7, log-probability gaps of sampled tokens."""
    max_new_tokens: int = Field(640, ge=1)
    """Length cap of the responses."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"problems": 24}
    PAPER = {"max_new_tokens": 1024}
    """Length cap of the authors' `kl_analysis_v3.py`."""


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


class Profile(Finding):
    """Divergence by position before and, if the student was trained, after training: `analysis/profile.json`."""

    models: dict[str, str] = {}
    """Empty in older records; likewise the next two."""
    task: str = ""
    """The same as `prompts`."""
    settings: dict[str, Any] = {}
    kind: Literal["profile"] = "profile"
    protocol: Literal["ours", "paper"] = "ours"
    """`ours`: sampled as in training, common and own responses. `paper`: own responses at temperature 0.7, top-p 1, to
    be read by `sampled_gap`; kept in `analysis/profile-paper.json`."""
    step: int
    """0: the student is untrained, and there is one curve."""
    trained_window: int
    """N of the run."""
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
