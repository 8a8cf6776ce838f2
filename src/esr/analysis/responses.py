"""Responses and what a pair of models says at their positions: what several analyses build on."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr.analysis.subject import Subject
from esr.console import Advance
from esr.evaluation.closeness import hidden
from esr.method.divergence import forward_kl
from esr.method.events import EventSpace
from esr.method.events.positions import Positions
from esr.method.tensors import PositionStats, Rollout
from esr.models.head import head
from esr.models.lm import LM
from esr.ranks import here
from esr.records.problem import Problem
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond
from esr.sampling.sampler import Sampler
from esr.scoring import at, compare, in_chunks, positions_at_once

BATCH = 16
"""Responses sampled and scored together."""
TOP_K = 8
"""Events of each side in `Scored.overlap`."""

T = TypeVar("T")
ResponseBatch = tuple[Sequence[Problem], Rollout]
"""Some problems, and one response to each."""


def training_sampler(subject: Subject, max_new_tokens: int) -> Sampler:
    """Sampling as the pair was, or would be, trained: `rollout` settings with this cap."""
    rollout = subject.config.rollout
    return Sampler(max_new_tokens, subject.pair.terminators, rollout.temperature, rollout.top_p, rollout.top_k)


def choices(subject: Subject, sampler: Sampler, seed: int) -> dict[str, Any]:
    """The settings that responses and their comparison depend on, for a record."""
    return {
        "max_new_tokens": sampler.max_new_tokens,
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "top_k": sampler.top_k,
        "seed": seed,
        "merge_terminators": subject.config.loss.merge_terminators,
    }


def one_each(lm: LM, problems: Sequence[Problem], sampler: Sampler, seed: int) -> Rollout:
    """One response of `lm` to each problem."""
    return respond(lm, rendered(lm, problems), sampler, Noise.of(seed, [p.id for p in problems]))


def shared(
    problems: Sequence[Problem], work: Callable[[Sequence[Problem]], T], advance: Advance, size: int = BATCH
) -> Iterator[T]:
    """`work` of every `size` problems, in their order: the ranks share them, and all get all. Its tensors are on the CPU."""
    batches = [problems[first : first + size] for first in range(0, len(problems), size)]
    for batch, made in zip(batches, here().dealt(batches, work), strict=True):
        yield made
        advance(len(batch))


@torch.no_grad()
def chunks(
    student: LM, teacher: LM | None, problems: Sequence[Problem], positions: Positions, events: EventSpace
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Event log-probabilities of one model or both at the M positions that are compared, each after its own prompt.

    Yields (positions, one (m, V) tensor for each model) in row-major order of `positions.student_starts`, with m so small
    that no more than `scoring.CHUNK_ELEMENTS` of a model are held.
    """
    sides = [(student, events.student, positions.student, positions.student_starts)]
    if teacher is not None:
        sides.append((teacher, events.teacher, positions.teacher, positions.teacher_starts))
    states = [at(hidden(lm, problems, rollout), rollout, starts) for lm, _, rollout, starts in sides]
    width = positions_at_once(*(lm for lm, *_ in sides))
    for start in range(0, len(states[0]), width):
        part = slice(start, start + width)
        yield part, [side.log_probs(head(lm, h[part])) for (lm, side, *_), h in zip(sides, states, strict=True)]


@dataclass(frozen=True)
class Scored:
    """A batch of responses with the statistics of student and teacher on them, (B, T), on the CPU."""

    stats: PositionStats
    overlap: Tensor
    """Share of the student's top events among the teacher's."""
    mask: Tensor
    """Positions that are compared."""

    def values(self, field: str) -> Tensor:
        """(B, T) values of a field of `stats`, of `overlap`, or of `gap`: |log p_s - log p_t| at the sampled token."""
        if field == "gap":
            return (self.stats.student_logp - self.stats.teacher_logp).abs()
        return self.overlap if field == "overlap" else getattr(self.stats, field)


@torch.no_grad()
def score(student: LM, teacher: LM, problems: Sequence[Problem], rollout: Rollout, events: EventSpace) -> Scored:
    """Both KLs, entropies, agreement and overlap wherever the two can be compared, each side after its own prompt."""
    positions = events.read(rollout)
    mask = positions.student_starts
    ours = at(hidden(student, problems, rollout), rollout, mask)
    theirs = at(hidden(teacher, problems, positions.teacher), positions.teacher, positions.teacher_starts)
    stats = compare(student, teacher, ours, theirs, rollout.response_ids[mask], events, forward_kl)
    overlap = torch.zeros(mask.shape, device=mask.device)
    overlap = overlap.masked_scatter(mask, top_k_overlap(student, teacher, ours, theirs, events))
    return Scored(stats.scatter(mask).cpu(), overlap.cpu(), mask.cpu())


@torch.no_grad()
def top_k_overlap(student: LM, teacher: LM, hidden: Tensor, teacher_hidden: Tensor, events: EventSpace) -> Tensor:
    """(M,) share of the student's `TOP_K` most probable events that are among the teacher's, from (M, D) hidden states."""
    k = min(TOP_K, events.size)

    def share(part: slice) -> Tensor:
        s = events.student.log_probs(head(student, hidden[part])).topk(k, dim=-1).indices
        t = events.teacher.log_probs(head(teacher, teacher_hidden[part])).topk(k, dim=-1).indices
        return (s[:, :, None] == t[:, None, :]).any(-1).float().mean(-1)

    return torch.cat(in_chunks(share, len(hidden), student, teacher))


def rank(log_probs: Tensor, event: Tensor) -> Tensor:
    """(M,) ranks of `event` (M,) under (M, V) log-probabilities; 1 is the most probable, ties get the best rank."""
    return (log_probs > log_probs.gather(-1, event[:, None])).sum(-1) + 1


@functools.lru_cache(maxsize=2**16)
def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token to read: its text with spaces and newlines; its name if it is special or has no text of its own."""
    name = tokenizer.convert_ids_to_tokens(token)
    text = tokenizer.decode([token])
    if name and name.startswith("▁") and not text.startswith(" "):
        text = " " + text  # SentencePiece drops the space of a first word
    if not text or "\ufffd" in text or token in tokenizer.all_special_ids:
        return name or f"<{token}>"
    return text
