"""Where the divergence lies by position, and what training changed inside and beyond its window.

The paper draws this from each model's own responses and from sampled log-probability gaps (its "cascading alignment").
Here it is the exact divergence, on the same fixed responses for both models as well as on each model's own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr import intervals, prompts
from esr.console import progress
from esr.decoding import decoding
from esr.divergence import forward_kl
from esr.events import EventSpace
from esr.metrics import BIN_EDGES
from esr.models import LM
from esr.results import Curve, Estimate, PositionBin, Problem, Profile
from esr.sampling import Noise, Sampler, sample
from esr.scoring import compare, hidden_states
from esr.tensors import PositionStats, Prompts, Rollout

BATCH = 16
"""Responses sampled and scored together."""


@dataclass(frozen=True)
class Scored:
    """A batch of responses with the statistics of student and teacher on them, (B, T)."""

    stats: PositionStats
    mask: Tensor


def compute(
    before: LM,
    after: LM,
    teacher: LM,
    problems: Sequence[Problem],
    sampler: Sampler,
    events: EventSpace,
    n: int,
    step: int,
    seed: int,
    source: str,
) -> Profile:
    """The profile of `problems` (one response each, at most `sampler.max_new_tokens`); `n` is the trained window."""
    start = time.perf_counter()
    scored: dict[tuple[str, str], list[Scored]] = {
        ("before", "common"): [],
        ("after", "common"): [],
        ("after", "own"): [],
    }
    with progress("Profile", len(problems), "problem") as advance:
        for first in range(0, len(problems), BATCH):
            batch = problems[first : first + BATCH]
            common, own = (respond(lm, batch, sampler, seed) for lm in (before, after))
            scored["before", "common"].append(score(before, teacher, batch, common, events))
            scored["after", "common"].append(score(after, teacher, batch, common, events))
            scored["after", "own"].append(score(after, teacher, batch, own, events))
            advance(len(batch))
    curves = [Curve(model=m, trajectories=t, bins=bins(parts)) for (m, t), parts in scored.items()]  # type: ignore[arg-type]
    curves.insert(1, Curve(model="before", trajectories="own", bins=curves[0].bins))
    pair = scored["before", "common"], scored["after", "common"]
    return Profile(
        step=step, trained_window=n, problems=len(problems), prompts=source, max_new_tokens=sampler.max_new_tokens, seed=seed,
        curves=curves, inside=change(*pair, 0, n), beyond=change(*pair, n, None), seconds=round(time.perf_counter() - start, 1),
    )  # fmt: skip


def respond(lm: LM, problems: Sequence[Problem], sampler: Sampler, seed: int) -> Rollout:
    """One response of `lm` to each problem."""
    lm.module.eval()
    rows = prompts.pad([prompts.render(lm.tokenizer, lm.config, p.question) for p in problems])
    with decoding(lm):
        return sample(lm, rows, sampler, Noise.of(seed, [p.id for p in problems]))


@torch.no_grad()
def score(student: LM, teacher: LM, problems: Sequence[Problem], rollout: Rollout, events: EventSpace) -> Scored:
    """Both KLs, entropies and agreement at every position of given responses, each side after its own prompt."""
    student.module.eval()
    sides: list[Prompts] = [
        prompts.pad([prompts.render(lm.tokenizer, lm.config, p.question) for p in problems]).to(lm.device)
        for lm in (student, teacher)
    ]
    hidden, hidden_t = (hidden_states(lm, side, rollout) for lm, side in zip((student, teacher), sides, strict=True))
    tokens = rollout.response_ids[rollout.response_mask]
    stats = compare(student, teacher, hidden, hidden_t, tokens, events, forward_kl)
    return Scored(stats.scatter(rollout.response_mask), rollout.response_mask)


def response_means(parts: Sequence[Scored], field: str, start: int, end: int | None) -> list[float | None]:
    """Each response's mean of a statistic over the positions [start, end); None if it is too short."""
    means: list[float | None] = []
    for part in parts:
        values, mask = getattr(part.stats, field)[:, start:end], part.mask[:, start:end]
        for row, inside in zip(values, mask, strict=True):
            means.append(float(row[inside].mean()) if bool(inside.any()) else None)
    return means


def bins(parts: Sequence[Scored]) -> list[PositionBin]:
    """The bins that at least two responses reach."""
    out = []
    for start, end in zip(BIN_EDGES, [*BIN_EDGES[1:], None], strict=True):

        def mean(field: str, start: int = start, end: int | None = end) -> Estimate:
            return intervals.mean([v for v in response_means(parts, field, start, end) if v is not None])

        reached = [v for v in response_means(parts, "reverse_kl", start, end) if v is not None]
        if len(reached) < 2:
            continue
        out.append(
            PositionBin(
                start=start,
                end=end,
                tokens=sum(int(p.mask[:, start:end].sum()) for p in parts),
                responses=len(reached),
                reverse_kl=mean("reverse_kl"),
                forward_kl=mean("divergence"),
                student_entropy=mean("student_entropy").value,
                teacher_entropy=mean("teacher_entropy").value,
                agreement=mean("agreement").value,
            )  # fmt: skip
        )
    return out


def change(before: Sequence[Scored], after: Sequence[Scored], start: int, end: int | None) -> Estimate | None:
    """Mean change of the reverse KL over [start, end) on the same responses; None if fewer than two get there."""
    sides = (response_means(side, "reverse_kl", start, end) for side in (before, after))
    moved = [a - b for b, a in zip(*sides, strict=True) if a is not None and b is not None]
    return intervals.mean(moved) if len(moved) > 1 else None
