"""How the next token is drawn from logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

NUCLEUS = 1024
"""Candidates among which a nucleus is sought before the whole vocabulary is sorted."""


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn and when a response ends."""

    max_new_tokens: int
    """N."""
    terminators: tuple[int, ...]
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""


def choose(logits: Tensor, uniform: Tensor, sampler: Sampler) -> Tensor:
    """(B,) token ids from (B, V) logits by inverting the cumulative distribution at `uniform` (B,) in [0, 1).

    The nucleus is the smallest set of most probable tokens whose mass reaches `top_p`; top-k applies first.
    """
    token, enough = draw(logits, uniform, sampler)
    return token if bool(enough.all()) else draw(logits, uniform, sampler, wide=True)[0]


def draw(logits: Tensor, uniform: Tensor, sampler: Sampler, wide: bool = False) -> tuple[Tensor, Tensor]:
    """`choose` without a look at the numbers, so that a device need not wait: (B,) ids, and whether each is right.

    One is not where the nucleus is wider than the `NUCLEUS` candidates; `wide` sorts the whole vocabulary.
    """
    right = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if sampler.temperature == 0:
        return logits.argmax(-1), right
    logits = logits.float() / sampler.temperature
    if sampler.top_k == 0 and sampler.top_p == 1:
        return _invert(torch.softmax(logits, -1), uniform), right
    total = logits.logsumexp(-1, keepdim=True)
    width = min(sampler.top_k or NUCLEUS, logits.shape[-1])
    if wide and not sampler.top_k:
        top, index = logits.sort(dim=-1, descending=True)
    else:
        top, index = logits.topk(width, dim=-1)
    probs = (top - total).exp()
    if sampler.top_k:
        probs = probs / probs.sum(-1, keepdim=True)
    elif not wide and width < logits.shape[-1]:
        right = probs.sum(-1) >= sampler.top_p
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= sampler.top_p, 0.0)
    return index.gather(-1, _invert(probs, uniform)[:, None]).squeeze(-1), right


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """(B,) index where the cumulative (unnormalised) `probs` (B, K) first exceed `uniform` times their sum."""
    cumulative = probs.cumsum(-1)
    target = uniform[:, None].to(probs.dtype) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    last = probs.shape[-1] - 1 - (probs > 0).flip(-1).int().argmax(-1)
    return torch.minimum(index, last)
