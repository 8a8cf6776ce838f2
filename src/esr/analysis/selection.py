"""Is it position, or the largest signal? What each selection of K positions keeps of full rollouts.

The paper trains on such selections (token-selection baselines, K = 100); its first drafts also tell the share of the
KL that each keeps. This measures that share, and where and on which tokens the kept positions lie.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr import intervals
from esr.analysis.responses import choices, one_each, score, shared, token_text, training_sampler
from esr.analysis.subject import Subject
from esr.config import SelectionKind
from esr.console import progress
from esr.errors import UserError
from esr.method import selection
from esr.records.base import Estimate
from esr.records.problem import Problem
from esr.records.selection import Selected, SelectionSettings, SelectionShares, TokenCount
from esr.sampling.noise import Noise

KINDS = tuple(kind for kind in get_args(SelectionKind) if kind != "all")
TOKENS = 12
"""Frequent tokens shown."""
EXAMPLE = 160
"""Tokens of the example response."""
NO_KL = 1e-6
"""Nats a token: a response with less in all has no KL to share."""


@dataclass(frozen=True)
class KeptTokens:
    """One response of T tokens and what the selections keep of it."""

    tokens: Tensor
    """(T,) ids."""
    kl: Tensor
    """(T,) reverse KL in nats, at least 0."""
    kept: dict[str, Tensor]
    """(T,) bool of each selection."""


def compute(subject: Subject, settings: SelectionSettings) -> SelectionShares:
    """Selections of K positions of the untrained student's responses, one to each prompt. Raises `UserError` for a K that
    keeps everything.
    """
    start, seed, k = time.perf_counter(), settings.seed, settings.k or subject.n
    if k >= settings.max_new_tokens:
        raise UserError(
            f"K = {k} keeps all of a response of at most {settings.max_new_tokens} tokens; choose a smaller --k."
        )
    problems, task = subject.held_out(settings.problems)
    sampler, events = training_sampler(subject, settings.max_new_tokens), subject.events

    def select(batch: Sequence[Problem]) -> list[KeptTokens]:
        rollout = one_each(subject.before, batch, sampler, seed)
        scored = score(subject.before, subject.teacher, batch, rollout, events)
        drawn = Noise.of(seed, [p.id for p in batch], stream="selection").table(scored.mask.shape[1])
        weights = {by: selection.weights(by, k, scored.mask, scored.stats, drawn) for by in KINDS}
        return [
            KeptTokens(
                rollout.response_ids[i].cpu()[inside],
                scored.stats.reverse_kl[i][inside].clamp(min=0),
                {by: w[i][inside] > 0 for by, w in weights.items()},
            )
            for i, inside in enumerate(scored.mask)
        ]

    with progress("Selection", len(problems), "problem") as advance:
        responses = [response for made in shared(problems, select, advance) for response in made]
    example = next((r for r in responses if len(r.tokens) > k), responses[0])
    return SelectionShares(
        models=subject.references(),
        task=task,
        problems=len(problems),
        max_new_tokens=sampler.max_new_tokens,
        settings={
            "k": k,
            **choices(subject, sampler, seed),
            "kl": "reverse, exact, nats",
            "responses_longer_than_k": sum(len(r.tokens) > k for r in responses),
            "share_of_kl": f"mean over responses; one with less than {NO_KL:g} nats a token is left out",
            "example": f"the first response longer than k, its first {EXAMPLE} tokens",
        },
        responses=len(responses),
        selections=[describe(by, k, responses, example, subject.before.tokenizer) for by in KINDS],
        seconds=round(time.perf_counter() - start, 1),
    )


def describe(
    by: str, k: int, responses: Sequence[KeptTokens], example: KeptTokens, tokenizer: PreTrainedTokenizerBase
) -> Selected:
    """What the selection `by` keeps of all responses together."""
    kept = torch.cat([r.kept[by] for r in responses])
    kl = torch.cat([r.kl for r in responses])
    position = torch.cat([torch.arange(len(r.tokens)) for r in responses])
    others = {other: torch.cat([r.kept[other] for r in responses]) for other in KINDS if other != by}
    return Selected(
        by=by,
        k=k,
        positions=int(kept.sum()),
        share_of_kl=share_of_kl(by, responses),
        mean_kl=float(kl[kept].mean()),
        mean_position=float(position[kept].float().mean()),
        overlap={other: float(theirs[kept].float().mean()) for other, theirs in others.items()},
        tokens=frequent(torch.cat([r.tokens for r in responses]), kept, tokenizer),
        example=[
            (token_text(tokenizer, t), bool(f))
            for t, f in zip(example.tokens.tolist()[:EXAMPLE], example.kept[by], strict=False)
        ],
    )


def share_of_kl(by: str, responses: Sequence[KeptTokens]) -> Estimate:
    """Mean over responses of kept KL over all KL. Without any KL the share is unknown: 0, from 0 to 1, of n = 0."""
    some = [r for r in responses if float(r.kl.sum()) > NO_KL * len(r.kl)]
    if not some:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    mean = intervals.mean([float(r.kl[r.kept[by]].sum() / r.kl.sum()) for r in some])
    return Estimate(value=mean.value, low=max(mean.low, 0.0), high=min(mean.high, 1.0), n=mean.n)


def frequent(tokens: Tensor, kept: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[TokenCount]:
    """The most frequent of the `kept` (M,) among `tokens` (M,), with the share of each token's positions kept."""
    every, some = Counter(tokens.tolist()), Counter(tokens[kept].tolist())
    return [
        TokenCount(token=token_text(tokenizer, t), count=n, share=n / every[t]) for t, n in some.most_common(TOKENS)
    ]
