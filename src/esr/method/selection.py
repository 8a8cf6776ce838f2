"""Which response positions carry loss weight. Weights are the only channel: nothing here touches sampling.

A selection returns (B, T) weights, 0 or 1. All but `all` keep min(k, length) positions of each response, so the number
kept is known before anything is scored (`kept`).
"""

import torch
from torch import Tensor

from esr.method.tensors import PositionStats

Signal = Tensor
SIGNALS = {
    "top_kl": lambda s: s.reverse_kl,
    "top_student_entropy": lambda s: s.student_entropy,
    "top_teacher_entropy": lambda s: s.teacher_entropy,
    "top_kl_student_entropy": lambda s: s.reverse_kl.clamp(min=0) * s.student_entropy,
    "top_student_teacher_entropy": lambda s: s.student_entropy * s.teacher_entropy,
    "top_kl_student_teacher_entropy": lambda s: s.reverse_kl.clamp(min=0) * s.student_entropy * s.teacher_entropy,
}
"""The signals whose largest values a selection can keep (paper, token-selection baselines)."""


def weights(by: str, k: int, mask: Tensor, stats: PositionStats, noise: Tensor) -> Tensor:
    """(B, T) float weights of the selection `by`.

    `mask` (B, T) marks response positions; `noise` (B, T) is uniform and decides `random`; `stats` the `top_*` kinds,
    without gradient. Ties are broken by position, earlier first.
    """
    if by == "all":
        return mask.float()
    position = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape).float()
    if by == "first":
        signal = -position
    elif by == "last":
        signal = position
    elif by == "random":
        signal = noise
    else:
        signal = SIGNALS[by](stats).detach()
    return largest(signal, mask, k)


def largest(signal: Tensor, mask: Tensor, k: int) -> Tensor:
    """(B, T) weights: 1.0 on the `k` largest values of `signal` in each row of `mask`, or on all of a shorter row."""
    order = signal.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    )
    return ((rank < k) & mask).float()


def kept(by: str, k: int, lengths: Tensor) -> Tensor:
    """(B,) positions that the selection keeps of responses with these lengths."""
    return lengths if by == "all" else lengths.clamp(max=k)


def by_position(shape: str, scale: int, mask: Tensor) -> Tensor:
    """(B, T) factors on the loss weights: a soft stop instead of a hard one. `scale` is in tokens, t counts from 0.

    `flat`: 1. `linear`: max(0, 1 - t / scale). `exponential`: exp(-t / scale). `rising`: min(1, (t + 1) / scale).
    """
    t = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
    factors = {
        "flat": torch.ones_like(t),
        "linear": (1 - t / scale).clamp(min=0),
        "exponential": torch.exp(-t / scale),
        "rising": ((t + 1) / scale).clamp(max=1),
    }
    return factors[shape] * mask
