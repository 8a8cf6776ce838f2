"""What a selection keeps of full rollouts: `analysis/selection.json`."""

from typing import Literal

from esr.records.base import Estimate, Record
from esr.records.finding import Finding


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
