"""One sampler: the student's rollouts, a continuation from a prefix, and evaluation, all with one stop rule.

A response ends at the first terminator or after `max_new_tokens`. Randomness is a table: each sequence has its own
uniform numbers, drawn from (seed, problem, sample), and token t uses the t-th of them. So a response does not depend on
the batch it is sampled in, and a response stopped at N is exactly the head of the same response stopped later.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from esr.memory import in_halves
from esr.method.tensors import Prompts, Rollout, StopReason
from esr.models.lm import LM
from esr.sampling.cache import new_cache
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler, choose


def sample(
    lm: LM, prompts: Prompts, sampler: Sampler, noise: Noise, progress: Callable[[int], None] | None = None
) -> Rollout:
    """Sample responses to (B, P) prompts; `len(noise)` must be a multiple of B: several samples share one prefill.

    Returns a `Rollout` on the model's device, rows in the order of `noise`. To continue from a prefix, put it behind
    the prompt first. Finished sequences leave the batch and cost nothing; what does not fit in memory is sampled in halves.
    `progress` is told at each token how many sequences are still being written. Inside `sampling.packed.decoding(lm)` it
    gives the same, faster.
    """
    if lm.writer is not None:
        rows = [ids[mask].tolist() for ids, mask in zip(prompts.ids, prompts.mask, strict=True)]
        return as_rollout([*lm.writer(rows, sampler, noise)]).to(lm.device)
    prompts, times = prompts.to(lm.device), len(noise) // len(prompts)

    def work(rows: Tensor) -> Rollout:
        whole = len(rows) == len(noise)
        their_prompts = prompts if whole else prompts.select((rows // times).to(lm.device))
        their_noise = noise if whole else Noise(tuple(noise.rows[i] for i in rows.tolist()))
        return _sample(lm, their_prompts, sampler, their_noise, progress or (lambda n: None))

    with torch.no_grad(), lm.running():
        return Rollout.join(in_halves(work, torch.arange(len(noise)), "sampling"))


def _sample(lm: LM, prompts: Prompts, sampler: Sampler, noise: Noise, progress: Callable[[int], None]) -> Rollout:
    rows, limit, device = len(noise), sampler.max_new_tokens, prompts.ids.device
    stops = torch.tensor(sampler.terminators, device=device)
    ids = torch.zeros(rows, limit, dtype=torch.long, device=device)
    lengths = torch.full((rows,), limit, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)

    cache = new_cache(lm, prompts.ids.shape[1] + limit)
    logits = forward(lm, prompts.ids, prompts.mask, cache)
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
        logits = forward(lm, token[:, None], mask, cache)

    width = int(lengths.max())
    response_mask = torch.arange(width, device=device) < lengths[:, None]
    reason = torch.where(ended, int(StopReason.TERMINATOR), int(StopReason.LENGTH))
    return Rollout(ids[:, :width], response_mask, reason)


def as_rollout(responses: Sequence[tuple[list[int], bool]]) -> Rollout:
    """Responses (token ids, and whether a terminator ended them), padded on the right."""
    ids = pad_sequence([torch.tensor(found) for found, _ in responses], batch_first=True)
    lengths = torch.tensor([len(found) for found, _ in responses])
    reasons = [StopReason.TERMINATOR if ended else StopReason.LENGTH for _, ended in responses]
    return Rollout(ids, torch.arange(ids.shape[1]) < lengths[:, None], torch.tensor(reasons))


def forward(lm: LM, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
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
