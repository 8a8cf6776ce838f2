"""Responses to read, token by token: `analysis/rollouts.json`."""

from typing import Literal

from pydantic import Field

from esr.records.base import Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class RolloutsSettings(Settings):
    """Which responses are kept to be read."""

    count: int = Field(12, ge=1)
    """Problems to show."""
    max_new_tokens: int = Field(640, ge=1)
    """Length cap of the responses."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"count": 6}


class TokenView(Record):
    """One token of a response with what both models thought of it."""

    token: str
    reverse_kl: float
    student_entropy: float
    teacher_entropy: float
    student_rank: int
    """1: the student's own first choice."""
    teacher_rank: int
    student_top: list[tuple[str, float]]
    """Five most probable tokens and their probabilities."""
    teacher_top: list[tuple[str, float]]
    student_parts: list[str] = []
    """With two tokenizers: the tokens of a chunk that is longer than one token for either side."""
    teacher_parts: list[str] = []
    """The same chunk in the teacher's tokens."""


class RolloutView(Record):
    """One response, token by token."""

    problem: str
    question: str
    model: Literal["before", "after"]
    """Who wrote it; `student_*` fields of its tokens are this model's."""
    right: bool | None
    finished: bool
    tokens: list[TokenView]


class Rollouts(Finding):
    """Responses to read: `analysis/rollouts.json`."""

    kind: Literal["rollouts"] = "rollouts"
    rollouts: list[RolloutView]
