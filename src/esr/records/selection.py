"""What a selection keeps of full rollouts: `analysis/selection.json`."""

from typing import Literal

from pydantic import Field

from esr.records.base import Estimate, Record
from esr.records.finding import Finding
from esr.records.settings import Settings


class SelectionSettings(Settings):
    """Responses, and how many positions of each a selection keeps."""

    problems: int = Field(96, ge=2)
    """Held-out prompts."""
    k: int | None = Field(None, ge=1)
    """Positions kept of each response; default: the run's N."""
    max_new_tokens: int = Field(640, ge=2)
    """Length cap of the responses."""
    seed: int = 1
    """Seed of the responses."""

    QUICK = {"problems": 24}


class TokenCount(Record):
    """How often a token occurs among selected positions, and what share of all its positions was selected."""

    token: str
    count: int
    share: float


class Selected(Record):
    """What one selection keeps of full rollouts at K positions a response."""

    by: str
    k: int
    positions: int
    share_of_kl: Estimate
    """Kept reverse KL over all of it, by response."""
    mean_kl: float
    """Nats at the kept positions."""
    mean_position: float
    """0 is the first token of a response."""
    overlap: dict[str, float]
    """Of the positions kept, the share that each other selection keeps too."""
    tokens: list[TokenCount]
    """The most frequent kept tokens."""
    example: list[tuple[str, bool]]
    """One response: its tokens, and which of them are kept."""


class SelectionShares(Finding):
    """Is it position, or the largest signal? `analysis/selection.json`."""

    kind: Literal["selection"] = "selection"
    max_new_tokens: int
    responses: int
    selections: list[Selected]
