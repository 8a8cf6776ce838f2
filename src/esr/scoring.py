"""Two models' next-token distributions at the response positions, and nowhere else.

A model is run up to its last hidden states, on rows padded on the right and without a mask (`method.layout`); its head is
applied to chunks of positions, so that no (B, T, V) tensor is ever held.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from esr.memory import in_halves, out_of_memory
from esr.method.divergence import Divergence, entropy, reverse_kl
from esr.method.events import EventSpace, Side
from esr.method.events.positions import Positions
from esr.method.layout import Layout, SharedLayout, lay_out, lay_out_shared, same_prompt
from esr.method.tensors import PositionStats, Prompts, Rollout, concat_stats
from esr.method.top_k import completed
from esr.models.head import head
from esr.models.lm import LM, backbone_name
from esr.models.places import placement
from esr.models.sharded import sharded

R = TypeVar("R")
CHUNK_ELEMENTS = 2**24
"""Logits (positions x V) held at once for each model: 64 MiB in float32."""


def hidden_states(lm: LM, prompts: Prompts, rollout: Rollout, seeds: Tensor | None = None) -> Tensor:
    """(M, D) hidden states that predict the M real response tokens, in row-major order of `rollout.response_mask`.

    Gradient flows if the model is trained and gradients are enabled; (B, 2) `seeds` fix its dropout, row by row. Without
    gradients, what does not fit in memory is scored in halves. What a server gives instead may have other dimensions than D.
    """
    if lm.scorer is not None:
        return lm.scorer(prompts, rollout)
    if len(rollout) > 1 and not padding_is_exact(lm):
        rows = torch.arange(len(rollout), device=prompts.ids.device).split(1)
        return torch.cat(
            [hidden_states(lm, prompts.select(i), rollout.select(i), None if seeds is None else seeds[i]) for i in rows]
        )
    if not torch.is_grad_enabled() and not sharded(lm):  # which all ranks run equally often
        work = lambda i: _hidden_states(lm, prompts.select(i), rollout.select(i), None)  # noqa: E731
        return torch.cat(in_halves(work, torch.arange(len(rollout), device=prompts.ids.device), "scoring"))
    return _hidden_states(lm, prompts, rollout, seeds)


def _hidden_states(lm: LM, prompts: Prompts, rollout: Rollout, seeds: Tensor | None) -> Tensor:
    prompt_of = same_prompt(prompts, seeds)
    if int(prompt_of.max()) + 1 < len(prompts) and shares_prompts(lm):
        return _behind_shared_prompts(lm, lay_out_shared(prompts, rollout, prompt_of), seeds)
    return _row_by_row(lm, lay_out(prompts, rollout), seeds)


def _row_by_row(lm: LM, layout: Layout, seeds: Tensor | None) -> Tensor:
    """Each prompt with its response in a row of its own."""
    _drop(lm, layout, seeds)
    return last_hidden(lm, layout.ids).flatten(0, 1)[layout.predictors]


def _behind_shared_prompts(lm: LM, layout: SharedLayout, seeds: Tensor | None) -> Tensor:
    """Each prompt once; its keys and values, with their gradient, are expanded to the responses."""
    _drop(lm, layout.prompts, seeds)
    cache = DynamicCache()
    hidden = [last_hidden(lm, layout.prompts.ids, past_key_values=cache, use_cache=True)]
    if layout.responses.ids.shape[1]:
        _drop(lm, layout.responses, seeds)
        hidden.append(
            last_hidden(
                lm,
                layout.responses.ids,
                attention_mask=layout.mask,
                position_ids=layout.positions,
                past_key_values=_expanded(cache, layout.columns),
                use_cache=True,
            )
        )
    return torch.cat([h.flatten(0, 1) for h in hidden])[layout.responses.predictors]


def _expanded(cache: DynamicCache, columns: Tensor) -> DynamicCache:
    """Keys and values (Q, H, P, D) of the prompts in the (B, P) `columns` of the rows that share them."""
    expanded = DynamicCache()
    for number, layer in enumerate(cache.layers):
        keys, values = (
            states.transpose(1, 2)
            .flatten(0, 1)
            .index_select(0, columns.flatten().to(states.device))
            .unflatten(0, columns.shape)
            .transpose(1, 2)
            for states in (layer.keys, layer.values)
        )
        expanded.update(keys, values, number)
    return expanded


def _drop(lm: LM, layout: Layout, seeds: Tensor | None) -> None:
    """Tell the dropout which tokens come."""
    if lm.dropout is not None and seeds is not None:
        lm.dropout.set(seeds, layout)


def last_hidden(lm: LM, ids: Tensor, **cached: Any) -> Tensor:
    """(R, L, D) last hidden states of rows without padding on the left: no mask, causality alone, unless behind a cache."""
    with lm.running():
        backbone = getattr(lm.causal_lm, backbone_name(lm.causal_lm))
        inputs = {name: value.to(lm.device) if isinstance(value, Tensor) else value for name, value in cached.items()}
        found = backbone(input_ids=ids.to(lm.device), **(inputs or {"use_cache": False}))
        return found.last_hidden_state.to(ids.device)


def padding_is_exact(lm: LM) -> bool:
    """Whether what stands to the right of a row leaves its hidden states as they are, as causal attention does.

    Found out once for each model, by running it. A model for which it is not so is scored row by row.
    """
    if lm.module not in _EXACT:
        _EXACT[lm.module] = _probe_padding(lm)
    return _EXACT[lm.module]


_EXACT: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _probe_padding(lm: LM) -> bool:
    ids = torch.arange(1, 41, device=lm.device)[None] % lm.vocab_size
    training = lm.module.training
    lm.module.eval()
    try:
        alone, padded = last_hidden(lm, ids[:, :8]).float(), last_hidden(lm, ids)[:, :8].float()
    finally:
        lm.module.train(training)
    return bool((alone - padded).abs().max() <= 0.02 * alone.abs().max())


def shares_prompts(lm: LM) -> bool:
    """Whether responses can be scored behind one pass of their common prompt.

    Found out once for each model, by running it; those with states that no cache of keys and values holds cannot. Nor can
    one whose activations are computed again in the backward pass, as transformers then keeps no cache; one that is split over
    ranks, which run their layers equally often; one on a server; and one whose weights are moved for every pass gains nothing.
    """
    if lm.scorer is not None or sharded(lm) or placement(lm.config) == "offloaded":
        return False
    if lm.module.training and any(getattr(m, "gradient_checkpointing", False) for m in lm.causal_lm.modules()):
        return False
    if lm.module not in _SHARES:
        _SHARES[lm.module] = padding_is_exact(lm) and _probe_sharing(lm)
    return _SHARES[lm.module]


_SHARES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _probe_sharing(lm: LM) -> bool:
    """Two prompts of different lengths with two responses each. Attention in chunks would show only in longer rows."""
    if getattr(lm.causal_lm.config.get_text_config(), "attention_chunk_size", None):  # type: ignore[union-attr,operator]
        return False
    ids = torch.arange(1, 53, device=lm.device).view(4, 13) % lm.vocab_size
    mask, prompt_of = torch.ones(4, 8, dtype=torch.bool, device=lm.device), torch.tensor([0, 0, 1, 1], device=lm.device)
    mask[2:, :3] = False
    prompts = Prompts(ids[[0, 0, 2, 2], :8].masked_fill(~mask, 0), mask)
    rollout = Rollout(ids[:, 8:], torch.ones(4, 5, dtype=torch.bool, device=lm.device), prompt_of)
    training = lm.module.training
    lm.module.eval()
    try:
        alone = _row_by_row(lm, lay_out(prompts, rollout), None).float()
        shared = _behind_shared_prompts(lm, lay_out_shared(prompts, rollout, prompt_of), None).float()
    except Exception as error:  # whatever an architecture raises that has no such cache
        if out_of_memory(error):
            raise
        return False
    finally:
        lm.module.train(training)
    exact = (lm.autocast or next(lm.module.parameters()).dtype) == torch.float32
    tolerance = 1e-3 if exact else 0.02
    return bool((alone - shared).abs().max() <= tolerance * alone.abs().max())


def compare(
    student: LM,
    teacher: LM,
    hidden: Tensor,
    teacher_hidden: Tensor,
    tokens: Tensor,
    events: EventSpace,
    divergence: Divergence,
    of_logits: Divergence | None = None,
) -> PositionStats:
    """(M,) statistics of two models at M positions with (M, D) hidden states and `tokens` (M,) that the student sampled.

    `of_logits` takes the place of the `divergence` over `events`, which all other statistics are about. Heads and
    divergence run chunk by chunk; with gradients and more than one chunk, each chunk is computed again in the backward
    pass instead of being kept.
    """
    several = hidden.shape[0] > positions_at_once(student, teacher)

    def chunk(h: Tensor, th: Tensor, tok: Tensor) -> PositionStats:
        with torch.no_grad():
            target = head(teacher, th) if th.dim() == 2 else completed(th, head(student, h))
            t = events.teacher.log_probs(target)
        logits = head(student, h)
        s = events.student.log_probs(logits)
        stats = _stats(s, t, events.student.event_of(tok)[:, None], divergence)
        return stats if of_logits is None else replace(stats, divergence=of_logits(logits, target))

    def of(part: slice) -> PositionStats:
        own = hidden[part], teacher_hidden[part], tokens[part]
        again = several and torch.is_grad_enabled()
        return checkpoint(chunk, *own, use_reentrant=False) if again else chunk(*own)

    return concat_stats(in_chunks(of, len(tokens), student, teacher))


def positions_at_once(*models: LM) -> int:
    """Of which the logits of each of the models are held."""
    return max(1, CHUNK_ELEMENTS // max(lm.vocab_size for lm in models))


def in_chunks(work: Callable[[slice], R], count: int, student: LM, teacher: LM) -> list[R]:
    """`work` on chunks of `count` positions, whose logits are held chunk by chunk.

    Without gradients, what does not fit in memory is done in halves; not where weights are split, as all ranks run equally often.
    """

    def of(rows: Tensor) -> R:
        return work(slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0))

    chunks = torch.arange(count).split(positions_at_once(student, teacher))  # on the CPU, as the numbers are read
    if torch.is_grad_enabled() or sharded(student) or sharded(teacher):
        return [of(rows) for rows in chunks]
    return [found for rows in chunks for found in in_halves(of, rows, "comparing", "position")]


def at(hidden: Tensor, rollout: Rollout, where: Tensor) -> Tensor:
    """The rows of (M, D) `hidden`, which belong to the rollout's real tokens, that `where` (B, T) marks."""
    return hidden[where[rollout.response_mask]]


def chunk_rest(
    student: LM, teacher: LM, hidden: Tensor, teacher_hidden: Tensor, positions: Positions, events: EventSpace
) -> Tensor:
    """(M,) log p_student - log p_teacher of the rest of each of M chunks, given its first event; 0 for one token a side.

    `hidden` and `teacher_hidden` belong to all real tokens of both sides.
    """
    with torch.no_grad():
        theirs = _rest(
            teacher, events.teacher, teacher_hidden, positions.teacher, positions.teacher_starts, positions.teacher_long
        )
    ours = _rest(student, events.student, hidden, positions.student, positions.student_starts, positions.student_long)
    return ours - theirs


def _rest(lm: LM, side: Side, hidden: Tensor, rollout: Rollout, starts: Tensor, long: Tensor) -> Tensor:
    """(M,) log-probability of the rest of each chunk under one model."""
    width = positions_at_once(lm)
    tokens, first = rollout.response_ids[long], starts[long].float()

    def piece(h: Tensor, token: Tensor, first: Tensor) -> Tensor:
        logp = side.token_log_probs(head(lm, h))
        event = side.events(logp).gather(-1, side.event_of(token)[:, None])
        return (logp.gather(-1, token[:, None]) - event * first[:, None]).squeeze(-1)

    def once(*parts: Tensor) -> Tensor:
        if len(tokens) > width and torch.is_grad_enabled():
            return checkpoint(piece, *parts, use_reentrant=False, preserve_rng_state=False)
        return piece(*parts)

    parts = (x.split(width) for x in (at(hidden, rollout, long), tokens, first))
    pieces = torch.cat([once(*part) for part in zip(*parts, strict=True)])
    chunk = (starts.flatten().cumsum(0) - 1).view_as(starts)[long]
    sizes = torch.bincount(chunk, minlength=int(starts.sum())).tolist()
    return nn.utils.rnn.pad_sequence(pieces.split(sizes), batch_first=True).sum(1)


def _stats(student: Tensor, teacher: Tensor, sampled: Tensor, divergence: Divergence) -> PositionStats:
    """Statistics of (M, V) log-probabilities and (M, 1) sampled events."""
    value = divergence(student, teacher)
    with torch.no_grad():
        s = student.detach()
        return PositionStats(
            divergence=value,
            reverse_kl=value.detach() if divergence is reverse_kl else reverse_kl(s, teacher),
            student_entropy=entropy(s),
            teacher_entropy=entropy(teacher),
            agreement=(s.argmax(-1) == teacher.argmax(-1)).float(),
            student_logp=s.gather(-1, sampled).squeeze(-1),
            teacher_logp=teacher.gather(-1, sampled).squeeze(-1),
        )
