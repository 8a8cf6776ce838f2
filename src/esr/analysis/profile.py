"""Where the divergence lies by position, and what training changed inside and beyond its window.

The paper draws this ("cascading alignment") from each model's own responses and from log-probability gaps of sampled
tokens; `protocol="paper"` does the same. Otherwise it is the exact divergence, on the same fixed responses for both
models as well as on each model's own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from esr import intervals, prompts
from esr.console import progress
from esr.method.divergence import forward_kl
from esr.method.events import EventSpace
from esr.method.metrics import BIN_EDGES
from esr.method.tensors import PositionStats, Prompts, Rollout
from esr.models.lm import LM
from esr.records.base import Estimate
from esr.records.problem import Problem
from esr.records.profile import Curve, PositionBin, Profile
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding
from esr.sampling.sampler import Sampler
from esr.scoring import CHUNK_ELEMENTS, compare, head, hidden_states

BATCH = 16
"""Responses sampled and scored together."""
TOP_K = 8
"""Events of each side in `PositionBin.top_k_overlap`."""
FEW = 10
"""A bin that fewer responses reach is marked (`PositionBin.few`)."""
FIRST = (10, 25, 50, 100, 200)
"""Windows of `Profile.share_first`."""
PAPER_CAP = 1024
"""Length cap of the authors' `kl_analysis_v3.py`; its other sampling settings are in `paper_sampler`."""


@dataclass(frozen=True)
class Scored:
    """A batch of responses with the statistics of student and teacher on them, (B, T)."""

    stats: PositionStats
    overlap: Tensor
    """Share of the student's top events among the teacher's."""
    mask: Tensor

    def values(self, field: str) -> Tensor:
        """(B, T) values of a field of `stats`, of `overlap`, or of `gap`: |log p_s - log p_t| at the sampled token."""
        if field == "gap":
            return (self.stats.student_logp - self.stats.teacher_logp).abs()
        return self.overlap if field == "overlap" else getattr(self.stats, field)


def compute(
    before: LM,
    after: LM | None,
    teacher: LM,
    problems: Sequence[Problem],
    sampler: Sampler,
    events: EventSpace,
    n: int,
    step: int,
    seed: int,
    source: str,
    protocol: Literal["ours", "paper"] = "ours",
) -> Profile:
    """The profile of `problems` (one response each, at most `sampler.max_new_tokens`); `n` is the trained window.

    Without a trained student (`after`) there is one curve, `before`. `paper` leaves out the common responses.
    """
    start = time.perf_counter()
    shared = protocol == "ours"
    first: list[Scored] = []
    moved: list[Scored] = []
    own: list[Scored] = []
    with progress("Profile", len(problems), "problem") as advance:
        for i in range(0, len(problems), BATCH):
            batch = problems[i : i + BATCH]
            common = respond(before, batch, sampler, seed)
            first.append(score(before, teacher, batch, common, events))
            if after is not None:
                own.append(score(after, teacher, batch, respond(after, batch, sampler, seed), events))
                if shared:
                    moved.append(score(after, teacher, batch, common, events))
            advance(len(batch))
    return Profile(
        protocol=protocol, step=step, trained_window=n, problems=len(problems), prompts=source,
        max_new_tokens=sampler.max_new_tokens, seed=seed, curves=curves(first, moved, own, shared),
        inside=change(first, moved, 0, n), beyond=change(first, moved, n, None),
        share_first=share_first(first), first_to_rest=first_to_rest(first, n),
        seconds=round(time.perf_counter() - start, 1),
    )  # fmt: skip


def curves(first: Sequence[Scored], moved: Sequence[Scored], own: Sequence[Scored], shared: bool) -> list[Curve]:
    """The untrained student's curve (its responses are both its own and the common ones), then the trained one's."""
    before = bins(first)
    found = [Curve(model="before", trajectories="common", bins=before)] if shared else []
    if own or not shared:
        found.append(Curve(model="before", trajectories="own", bins=before))
    if moved:
        found.append(Curve(model="after", trajectories="common", bins=bins(moved)))
    if own:
        found.append(Curve(model="after", trajectories="own", bins=bins(own)))
    return found


def paper_sampler(max_new_tokens: int, terminators: tuple[int, ...]) -> Sampler:
    """Sampling of the authors' profile: temperature 0.7 without a nucleus."""
    return Sampler(max_new_tokens, terminators, temperature=0.7, top_p=1.0)


def respond(lm: LM, problems: Sequence[Problem], sampler: Sampler, seed: int) -> Rollout:
    """One response of `lm` to each problem."""
    lm.module.eval()
    rows = prompts.pad([prompts.render(lm.tokenizer, lm.config, p.question) for p in problems])
    with decoding(lm):
        return sample(lm, rows, sampler, Noise.of(seed, [p.id for p in problems]))


@torch.no_grad()
def score(student: LM, teacher: LM, problems: Sequence[Problem], rollout: Rollout, events: EventSpace) -> Scored:
    """Both KLs, entropies, agreement and overlap at every position of given responses, each side after its own prompt."""
    student.module.eval()
    sides: list[Prompts] = [
        prompts.pad([prompts.render(lm.tokenizer, lm.config, p.question) for p in problems]).to(lm.device)
        for lm in (student, teacher)
    ]
    hidden, hidden_t = (hidden_states(lm, side, rollout) for lm, side in zip((student, teacher), sides, strict=True))
    mask = rollout.response_mask
    stats = compare(student, teacher, hidden, hidden_t, rollout.response_ids[mask], events, forward_kl)
    overlap = torch.zeros(mask.shape, device=mask.device)
    overlap = overlap.masked_scatter(mask, top_k_overlap(student, teacher, hidden, hidden_t, events))
    return Scored(stats.scatter(mask), overlap, mask)


@torch.no_grad()
def top_k_overlap(student: LM, teacher: LM, hidden: Tensor, teacher_hidden: Tensor, events: EventSpace) -> Tensor:
    """(M,) share of the student's `TOP_K` most probable events that are among the teacher's, from (M, D) hidden states."""
    width = max(1, CHUNK_ELEMENTS // max(student.vocab_size, teacher.vocab_size))
    k = min(TOP_K, events.size)
    shares = []
    for h, th in zip(hidden.split(width), teacher_hidden.split(width), strict=True):
        s = events.student.log_probs(head(student, h)).topk(k, dim=-1).indices
        t = events.teacher.log_probs(head(teacher, th)).topk(k, dim=-1).indices
        shares.append((s[:, :, None] == t[:, None, :]).any(-1).float().mean(-1))
    return torch.cat(shares)


def response_means(parts: Sequence[Scored], field: str, start: int, end: int | None) -> list[float | None]:
    """Each response's mean of a statistic over the positions [start, end); None if it is too short."""
    means: list[float | None] = []
    for part in parts:
        values, mask = part.values(field)[:, start:end], part.mask[:, start:end]
        for row, inside in zip(values, mask, strict=True):
            means.append(float(row[inside].mean()) if bool(inside.any()) else None)
    return means


def bins(parts: Sequence[Scored]) -> list[PositionBin]:
    """The bins that at least two responses reach."""
    out = []
    for start, end in zip(BIN_EDGES, [*BIN_EDGES[1:], None], strict=True):

        def mean(field: str, start: int = start, end: int | None = end) -> Estimate:
            return intervals.mean([v for v in response_means(parts, field, start, end) if v is not None])

        reached = sum(int(p.mask[:, start:end].any(1).sum()) for p in parts)
        if reached < 2:
            continue
        out.append(
            PositionBin(
                start=start,
                end=end,
                tokens=sum(int(p.mask[:, start:end].sum()) for p in parts),
                responses=reached,
                reverse_kl=mean("reverse_kl"),
                forward_kl=mean("divergence"),
                student_entropy=mean("student_entropy").value,
                teacher_entropy=mean("teacher_entropy").value,
                agreement=mean("agreement").value,
                top_k_overlap=mean("overlap").value,
                sampled_gap=mean("gap").value,
                few=reached < FEW,
            )  # fmt: skip
        )
    return out


def change(before: Sequence[Scored], after: Sequence[Scored], start: int, end: int | None) -> Estimate | None:
    """Mean change of the reverse KL over [start, end) on the same responses; None if fewer than two get there."""
    if not after:
        return None
    sides = (response_means(side, "reverse_kl", start, end) for side in (before, after))
    moved = [a - b for b, a in zip(*sides, strict=True) if a is not None and b is not None]
    return intervals.mean(moved) if len(moved) > 1 else None


def summed(parts: Sequence[Scored], start: int, end: int | None) -> tuple[float, int]:
    """Reverse KL summed over all real positions in [start, end), nats, and their number."""
    kept = [p.values("reverse_kl")[:, start:end][p.mask[:, start:end]] for p in parts]
    return float(sum(k.double().sum() for k in kept)), sum(k.numel() for k in kept)


def share_first(parts: Sequence[Scored]) -> dict[str, float]:
    """Share of the summed reverse KL in the first n positions, n as in `FIRST`; empty if there is no divergence at all."""
    total, tokens = summed(parts, 0, None)
    if total <= 1e-6 * tokens:
        return {}
    return {str(n): summed(parts, 0, n)[0] / total for n in FIRST}


def first_to_rest(parts: Sequence[Scored], n: int) -> float | None:
    """Mean reverse KL of the first `n` positions over the mean of all later ones, by position; None without later ones."""
    (head_sum, head_count), (rest_sum, rest_count) = summed(parts, 0, n), summed(parts, n, None)
    if rest_count == 0 or rest_sum <= 1e-6 * rest_count:
        return None
    return (head_sum / head_count) / (rest_sum / rest_count)
