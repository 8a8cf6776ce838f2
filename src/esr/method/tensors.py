"""The frozen tensor records that pass between stages.

Dimension letters, everywhere: B sequences, P prompt length, T response length, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence


class StopReason(IntEnum):
    """Why a response ended."""

    TERMINATOR = 0
    LENGTH = 1


@dataclass(frozen=True)
class Prompts:
    """Rendered prompts, padded on the left."""

    ids: Tensor
    """(B, P) token ids."""
    mask: Tensor
    """(B, P) bool, False on padding."""

    def __len__(self) -> int:
        return self.ids.shape[0]

    def repeat(self, times: int) -> "Prompts":
        """Every row `times` times, copies of a row side by side."""
        return Prompts(self.ids.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def select(self, rows: Tensor) -> "Prompts":
        """The given rows, without padding that none of them needs."""
        mask = self.mask[rows]
        start = int(self.ids.shape[1] - mask.sum(1).max())
        return Prompts(self.ids[rows, start:], mask[:, start:])

    def to(self, device: torch.device) -> "Prompts":
        return Prompts(self.ids.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Rollout:
    """Responses that a model sampled, padded on the right."""

    response_ids: Tensor
    """(B, T) token ids."""
    response_mask: Tensor
    """(B, T) bool: True up to and including the terminator, False after it. Made once, by the sampler."""
    stop_reason: Tensor
    """(B,) `StopReason` values."""

    def __len__(self) -> int:
        return self.response_ids.shape[0]

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens in each response, terminator included."""
        return self.response_mask.sum(1)

    @property
    def finished(self) -> Tensor:
        """(B,) bool: ended with a terminator."""
        return self.stop_reason == StopReason.TERMINATOR

    def select(self, rows: Tensor) -> "Rollout":
        """The given rows, without columns that none of them needs."""
        mask = self.response_mask[rows]
        width = int(mask.sum(1).max())
        return Rollout(self.response_ids[rows, :width], mask[:, :width], self.stop_reason[rows])

    def truncate(self, n: int) -> "Rollout":
        """What an early stop after `n` tokens would have left of the same responses."""
        cut = self.lengths > n
        reason = torch.where(cut, torch.full_like(self.stop_reason, StopReason.LENGTH), self.stop_reason)
        return Rollout(self.response_ids[:, :n], self.response_mask[:, :n], reason)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | Tensor], finished: Sequence[bool]) -> "Rollout":
        """Ragged lists of ids as responses, on the CPU."""
        ids = pad_sequence([torch.as_tensor(row, dtype=torch.long) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
        reasons = [StopReason.TERMINATOR if ended else StopReason.LENGTH for ended in finished]
        return cls(ids, mask, torch.tensor(reasons))

    @classmethod
    def join(cls, parts: Sequence["Rollout"]) -> "Rollout":
        """The rows of several rollouts, one after the other."""
        width = max(part.response_ids.shape[1] for part in parts)
        wide = [pad(part.response_ids, (0, width - part.response_ids.shape[1])) for part in parts]
        masks = [pad(part.response_mask, (0, width - part.response_mask.shape[1])) for part in parts]
        return cls(torch.cat(wide), torch.cat(masks), torch.cat([part.stop_reason for part in parts]))

    def token_lists(self) -> list[list[int]]:
        """The responses as ragged lists of ids."""
        return [ids[mask].tolist() for ids, mask in zip(self.response_ids, self.response_mask, strict=True)]

    def to(self, device: torch.device) -> "Rollout":
        return Rollout(self.response_ids.to(device), self.response_mask.to(device), self.stop_reason.to(device))


@dataclass(frozen=True)
class PositionStats:
    """What two models say at each response position, in one event space. Each field is (B, T), or (M,) over positions."""

    divergence: Tensor
    """The training divergence in nats; the only field that carries a gradient."""
    reverse_kl: Tensor
    """KL(student || teacher) in nats."""
    student_entropy: Tensor
    """In nats."""
    teacher_entropy: Tensor
    """In nats."""
    agreement: Tensor
    """1.0 where both have the same most probable event, else 0.0."""
    student_logp: Tensor
    """Student's log-probability of the sampled event."""
    teacher_logp: Tensor
    """Teacher's log-probability of the sampled event."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.__dataclass_fields__:
            yield name, getattr(self, name)

    def detach(self) -> "PositionStats":
        return PositionStats(**{name: value.detach() for name, value in self.tensors()})

    def cpu(self) -> "PositionStats":
        return PositionStats(**{name: value.cpu() for name, value in self.tensors()})

    def scatter(self, mask: Tensor) -> "PositionStats":
        """Lay (M,) fields out on a (B, T) mask with M true entries; zero elsewhere."""
        laid = {
            n: torch.zeros(mask.shape, dtype=v.dtype, device=v.device).masked_scatter(mask, v)
            for n, v in self.tensors()
        }
        return PositionStats(**laid)


def concat_stats(parts: list[PositionStats]) -> PositionStats:
    """Join (M,) statistics of successive chunks."""
    return PositionStats(**{name: torch.cat([getattr(p, name) for p in parts]) for name, _ in parts[0].tensors()})
