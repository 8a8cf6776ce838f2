"""One sampler: the student's rollouts, a continuation from a prefix, and evaluation, all with one stop rule.

A response ends at the first terminator or after `max_new_tokens`. Randomness is a table: each sequence has its own
uniform numbers, drawn from (seed, problem, sample), and token t uses the t-th of them. So a response does not depend on
the batch it is sampled in, and a response stopped at N is exactly the head of the same response stopped later.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from esr.models import LM
from esr.tensors import Prompts, Rollout, StopReason

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


@dataclass(frozen=True)
class Noise:
    """A table of uniform numbers in [0, 1): one row for each response, one column for each token, computed on demand."""

    rows: tuple[tuple[int, int, int], ...]
    """Seed, problem digest and sample number of each row. Equal rows give equal numbers."""

    BLOCK = 128

    @classmethod
    def of(cls, seed: int, keys: Sequence[str], samples: int = 1) -> "Noise":
        """`samples` rows to each key, side by side."""
        digests = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") for key in keys]
        return cls(tuple((seed, digest, i) for digest in digests for i in range(samples)))

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, number: int) -> Tensor:
        """(rows, BLOCK) numbers of columns `number * BLOCK` onwards."""
        table = np.stack([np.random.default_rng((*row, number)).random(self.BLOCK) for row in self.rows])
        return torch.from_numpy(table).float()

    def table(self, columns: int) -> Tensor:
        """The first `columns` columns."""
        blocks = [self.block(i) for i in range(-(-columns // self.BLOCK))]
        return torch.cat(blocks, dim=1)[:, :columns]


def sample(
    lm: LM, prompts: Prompts, sampler: Sampler, noise: Noise, progress: Callable[[int], None] | None = None
) -> Rollout:
    """Sample responses to (B, P) prompts; `len(noise)` must be a multiple of B: several samples share one prefill.

    Returns a `Rollout` on the model's device, rows in the order of `noise`. To continue from a prefix, append it to the
    prompts first (`esr.prompts.append`). Finished sequences leave the batch and cost nothing. `progress` is told
    at each token how many sequences are still being written. Inside `esr.decoding.decoding(lm)` it gives the same, faster.
    """
    with torch.no_grad(), lm.running():
        return _sample(lm, prompts.to(lm.device), sampler, noise, progress or (lambda n: None))


def _sample(lm: LM, prompts: Prompts, sampler: Sampler, noise: Noise, progress: Callable[[int], None]) -> Rollout:
    rows, limit, device = len(noise), sampler.max_new_tokens, prompts.ids.device
    stops = torch.tensor(sampler.terminators, device=device)
    ids = torch.zeros(rows, limit, dtype=torch.long, device=device)
    lengths = torch.full((rows,), limit, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)

    cache = _cache(lm, prompts.ids.shape[1] + limit)
    logits = _forward(lm, prompts.ids, prompts.mask, cache)
    times = rows // len(prompts)
    live = torch.arange(rows, device=device)
    if times > 1:
        cache.reorder_cache(live // times)
    logits, mask = logits[live // times], prompts.mask[live // times]

    for t in range(limit):
        if t % Noise.BLOCK == 0:
            uniform = noise.block(t // Noise.BLOCK).to(device)
        token = choose(logits, uniform[live, t % Noise.BLOCK], sampler)
        ids[live, t] = token
        progress(len(live))
        stopped = torch.isin(token, stops)
        lengths[live[stopped]] = t + 1
        ended[live[stopped]] = True
        if t + 1 == limit or bool(stopped.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        if bool(stopped.any()):
            going = (~stopped).nonzero().squeeze(1)
            live, token, mask = live[going], token[going], mask[going]
            cache.reorder_cache(going)
        logits = _forward(lm, token[:, None], mask, cache)

    width = int(lengths.max())
    response_mask = torch.arange(width, device=device) < lengths[:, None]
    reason = torch.where(ended, int(StopReason.TERMINATOR), int(StopReason.LENGTH))
    return Rollout(ids[:, :width], response_mask, reason)


def choose(logits: Tensor, uniform: Tensor, sampler: Sampler) -> Tensor:
    """(B,) token ids from (B, V) logits by inverting the cumulative distribution at `uniform` (B,) in [0, 1).

    The nucleus is the smallest set of most probable tokens whose mass reaches `top_p`; top-k applies first.
    """
    if sampler.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / sampler.temperature
    if sampler.top_k == 0 and sampler.top_p == 1:
        return _invert(torch.softmax(logits, -1), uniform)
    total = logits.logsumexp(-1, keepdim=True)
    width = min(sampler.top_k or NUCLEUS, logits.shape[-1])
    top, index = logits.topk(width, dim=-1)
    probs = (top - total).exp()
    if sampler.top_k:
        probs = probs / probs.sum(-1, keepdim=True)
    elif bool((probs.sum(-1) < sampler.top_p).any()):
        top, index = logits.sort(dim=-1, descending=True)
        probs = (top - total).exp()
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= sampler.top_p, 0.0)
    return index.gather(-1, _invert(probs, uniform)[:, None]).squeeze(-1)


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """(B,) index where the cumulative (unnormalised) `probs` (B, K) first exceed `uniform` times their sum."""
    cumulative = probs.cumsum(-1)
    target = uniform[:, None].to(probs.dtype) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    last = (probs > 0).long().cumsum(-1).argmax(-1)
    return torch.minimum(index, last)


def _forward(lm: LM, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """(B, V) logits after the last of `ids` (B, S); `mask` (B, cached + S) covers everything so far."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    out = lm.causal_lm(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1]


def _cache(lm: LM, capacity: int) -> DynamicCache:
    """The model's own cache, with room reserved in its plain attention layers."""
    cache = DynamicCache(config=lm.causal_lm.config)
    cache.layers = [Reserved(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class Reserved(DynamicLayer):
    """A growing key-value cache that writes into reserved room instead of copying itself at each token."""

    STEP = 256
    is_initialized: bool
    room_k: Tensor
    room_v: Tensor

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (B, H, S, D) states; returns all states so far, as views."""
        length = self.get_seq_length()
        needed = length + key_states.shape[2]
        if not self.is_initialized or needed > self.room_k.shape[2]:
            self._grow(key_states, value_states, needed)
        self.room_k[:, :, length:needed] = key_states
        self.room_v[:, :, length:needed] = value_states
        self.keys, self.values = self.room_k[:, :, :needed], self.room_v[:, :, :needed]
        return self.keys, self.values

    def _grow(self, key_states: Tensor, value_states: Tensor, needed: int) -> None:
        room = min(max(self.capacity, needed), needed + self.STEP)
        old_k, old_v, length = self.keys, self.values, self.get_seq_length()
        self.room_k = key_states.new_empty(*key_states.shape[:2], room, key_states.shape[3])
        self.room_v = value_states.new_empty(*value_states.shape[:2], room, value_states.shape[3])
        if length:
            self.room_k[:, :, :length], self.room_v[:, :, :length] = old_k, old_v
        self.is_initialized, self.dtype, self.device = True, key_states.dtype, key_states.device

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep or repeat the given rows."""
        length = self.get_seq_length()
        self.room_k, self.room_v = self.room_k.index_select(0, beam_idx), self.room_v.index_select(0, beam_idx)
        self.keys, self.values = self.room_k[:, :, :length], self.room_v[:, :, :length]
