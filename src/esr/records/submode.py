"""Commitment to a secondary mode of the teacher: `analysis/submode.json`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class SubModeSettings(Settings):
    """Responses, and which of their positions are looked at."""

    problems: int = Field(96, ge=2)
    """Held-out prompts."""
    trajectories: Literal["own", "shared"] = "own"
    """Each model on its own responses, or all on the untrained student's."""
    decile: Literal["per-model", "shared"] = "per-model"
    """Each model's own tenth of positions, or the untrained student's for all."""
    divergence: Literal["reverse_kl", "forward_kl"] = "reverse_kl"
    """What the tenth is chosen by."""
    max_new_tokens: int = Field(640, ge=1)
    """Length cap of the responses."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"problems": 24}

    @model_validator(mode="after")
    def _shared_positions_are_of_shared_responses(self) -> Self:
        if self.decile == "shared" and self.trajectories == "own":
            raise ValueError(
                "Shared positions need shared responses: add --trajectories shared, or leave out --decile shared"
            )
        return self


class SubModeRow(Record):
    """How a model commits at the positions of largest divergence from the teacher."""

    model: str
    """`before`, `after`, the name of another run, or `teacher` (the teacher at the untrained student's positions)."""
    positions: int
    threshold: float
    """Nats: the least divergence among them."""
    top1: Estimate
    """Probability of the model's own most probable event; the interval's unit is a response."""
    rank_1: Estimate
    """Share of positions at which that event is the teacher's first choice."""
    rank_2_5: Estimate
    rank_beyond: Estimate


class Candidate(Record):
    """One token and its probability under both models."""

    token: str
    student: float
    teacher: float


class BimodalPosition(Record):
    """A position at which the teacher has two modes."""

    problem: str
    position: int
    context: str
    """The response up to this position (its end)."""
    reverse_kl: float
    candidates: list[Candidate]
    """Most probable first, by the teacher; the student before training."""
    after: list[Candidate]
    """The same tokens with the trained student; empty without one."""


class SubMode(Finding):
    """Does the student commit to a secondary mode of the teacher? `analysis/submode.json`."""

    kind: Literal["submode"] = "submode"
    trajectories: Literal["own", "shared"]
    """On each model's own responses, or on the untrained student's for all."""
    decile: Literal["per-model", "shared"]
    """The top tenth by divergence of each model's own positions, or the untrained student's positions for all."""
    divergence: Literal["reverse_kl", "forward_kl"]
    rows: list[SubModeRow]
    bimodal: list[BimodalPosition]
    bimodal_share: float | None
    """Share of the untrained student's positions at which the teacher is bimodal by the rule in `settings`; None without a
    position."""
