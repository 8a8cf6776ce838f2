"""One event space for student and teacher: what a "next event" is, so that their distributions can be compared.

An event is a token, with two amendments. Vocabularies that agree but for padding are cut to the common size and
renormalised. All tokens that end a turn, for either model, are one event (*merged terminators*): a base student that
stops with one token and a teacher that stops with another mean the same thing, and a plain KL would punish every stop
with tens of nats.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = -1e4
"""Log-probability of an event that no longer exists: finite, and exactly zero as a float32 probability."""


@dataclass(frozen=True)
class EventSpace:
    """Which columns of the logits are compared, and which of them are one event."""

    size: int
    """Columns that both models have (the smaller V)."""
    terminators: tuple[int, ...] = ()
    """Token ids that are one event; the first of them stands for all. Fewer than two: nothing is merged."""

    def log_probs(self, logits: Tensor) -> Tensor:
        """(..., V) logits to (..., size) log-probabilities of events, in float32 (float64 stays).

        A merged event's probability is the sum of its members' (a logsumexp); the other members become `IMPOSSIBLE`.
        """
        logits = logits[..., : self.size]
        logp = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
        if len(self.terminators) < 2:
            return logp
        ids = torch.tensor(self.terminators, device=logits.device)
        stop = logp.index_select(-1, ids).logsumexp(-1, keepdim=True)
        return logp.index_fill(-1, ids[1:], IMPOSSIBLE).index_copy(-1, ids[:1], stop)

    def event_of(self, token_ids: Tensor) -> Tensor:
        """The event that each token id belongs to (same shape)."""
        if len(self.terminators) < 2:
            return token_ids
        stop = torch.isin(token_ids, torch.tensor(self.terminators, device=token_ids.device))
        return torch.where(stop, self.terminators[0], token_ids)
