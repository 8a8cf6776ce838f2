"""Responses to read, token by token, with what student and teacher thought of each token."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr import grading, prompts
from esr.analysis.responses import choices, chunks, one_each, rank, shared, token_text, training_sampler
from esr.analysis.subject import Subject
from esr.console import Advance, progress
from esr.method.divergence import entropy, reverse_kl
from esr.method.events import EventSpace
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.ranks import here
from esr.records.problem import Problem
from esr.records.rollouts import Rollouts, RolloutsSettings, RolloutView, TokenView
from esr.sampling.sampler import Sampler

TOP = 5
"""Most probable tokens shown of each model."""
LEAST = 0.001
"""A less probable one is left out, unless it is the first."""
LARGEST = 1_400_000
"""Characters of all views; problems that do not fit any more are left out."""
CHOOSE_FROM = 3
"""Problems sampled and graded for each one shown."""


@dataclass(frozen=True)
class Written:
    """One graded response."""

    problem: Problem
    rollout: Rollout
    """A single row, on the CPU."""
    right: bool | None


def compute(subject: Subject, settings: RolloutsSettings) -> Rollouts:
    """Views of the responses to some of the evaluation's problems, right and wrong ones of the untrained student in turn."""
    start, seed = time.perf_counter(), settings.seed
    problems, task, _ = subject.graded(CHOOSE_FROM * settings.count)
    sampler, events = training_sampler(subject, settings.max_new_tokens), subject.events
    asked = min(settings.count, len(problems))
    after: Sequence[Written | None] = [None] * asked
    with progress("Rollouts", len(problems) + (asked if subject.after else 0), "response") as advance:
        before = write(subject.before, problems, sampler, seed, advance)
        chosen = [before[i] for i in in_turn([w.right for w in before])[:asked]]
        if subject.after is not None:
            after = write(subject.after, [w.problem for w in chosen], sampler, seed, advance)
    views: list[RolloutView] = []
    shown = 0
    with progress("Token views", len(chosen), "problem") as advance:

        def both(pair: tuple[Written, Written | None]) -> list[RolloutView]:
            first, trained = pair
            found = [view("before", subject.before, subject.teacher, first, events)]
            if trained is not None and subject.after is not None:
                found.append(view("after", subject.after, subject.teacher, trained, events))
            return found

        for pair in here().dealt(list(zip(chosen, after, strict=True)), both):
            if views and size([*views, *pair]) > LARGEST:
                break
            views += pair
            shown += 1
            advance()
    return Rollouts(
        models=subject.references(),
        task=task,
        problems=shown,
        rollouts=views,
        seconds=round(time.perf_counter() - start, 1),
        settings={
            **choices(subject, sampler, seed),
            "chosen_from": len(problems),
            "asked_for": settings.count,
            "chosen": "right and wrong responses of the untrained student in turn, so their proportion tells nothing",
            "largest_file": LARGEST,
            "top": TOP,
            "least_probability": LEAST,
        },
    )


def write(lm: LM, problems: Sequence[Problem], sampler: Sampler, seed: int, advance: Advance) -> list[Written]:
    """One graded response of `lm` to each problem."""

    def answer(batch: Sequence[Problem]) -> list[Written]:
        rollout = one_each(lm, batch, sampler, seed).to(torch.device("cpu"))
        grades = grading.grade(batch, prompts.decode(lm.tokenizer, rollout.token_lists()))
        rows = [rollout.select(torch.tensor([i])) for i in range(len(batch))]
        return [Written(p, r, g.last) for p, r, g in zip(batch, rows, grades, strict=True)]

    return [written for made in shared(problems, answer, advance) for written in made]


def in_turn(right: Sequence[bool | None]) -> list[int]:
    """Indices, a right and a not right one in turn as long as there are both, each kind in its order."""
    kinds = [[i for i, r in enumerate(right) if bool(r) is wanted] for wanted in (True, False)]
    return [kind[i] for i in range(len(right)) for kind in kinds if i < len(kind)]


def size(views: Sequence[RolloutView]) -> int:
    """Characters that the views take in a record's file."""
    return len(json.dumps([[v.model_dump() for v in views]], indent=1, ensure_ascii=False))


def view(name: Literal["before", "after"], lm: LM, teacher: LM, written: Written, events: EventSpace) -> RolloutView:
    """A response with both models' view of each token, or of each chunk of tokens between places that are compared."""
    rollout = written.rollout.to(lm.device)
    read = events.read(rollout)
    tokens = rollout.response_ids[read.student_starts]
    views: list[TokenView] = []
    for part, (student, target) in chunks(lm, teacher, [written.problem], read, events):
        views += token_views(student, target, tokens[part], events, lm.tokenizer)
    spelled = zip(
        parts_of(read.student, read.student_starts, lm.tokenizer),
        parts_of(read.teacher, read.teacher_starts, teacher.tokenizer), strict=True,
    )  # fmt: skip
    views = [v.model_copy(update=as_chunk(*both)) for v, both in zip(views, spelled, strict=True)]
    return RolloutView(
        problem=written.problem.id,
        question=written.problem.conversation,
        model=name,
        right=written.right,
        finished=bool(written.rollout.finished[0]),
        tokens=views,
    )


def parts_of(rollout: Rollout, starts: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """The tokens of a single response, as text, from each start to the next."""
    texts = [token_text(tokenizer, t) for t in rollout.token_lists()[0]]
    first = starts[0].nonzero().squeeze(-1).tolist()
    return [texts[a:b] for a, b in zip(first, [*first[1:], None], strict=True)]


def as_chunk(student: list[str], teacher: list[str]) -> dict[str, object]:
    """What a view of more than one token for either side says besides: its text, and where each side's tokens end."""
    if len(student) == len(teacher) == 1:
        return {}
    return {"token": "".join(student), "student_parts": student, "teacher_parts": teacher}


def token_views(
    student: Tensor, teacher: Tensor, tokens: Tensor, events: EventSpace, tokenizer: PreTrainedTokenizerBase
) -> Iterator[TokenView]:
    """Views of m sampled `tokens` (m,) from (m, V) log-probabilities of events. Probabilities, nats: 4 decimals."""
    sampled = events.student.event_of(tokens)
    columns = (
        tokens,
        reverse_kl(student, teacher).clamp(min=0),
        entropy(student),
        entropy(teacher),
        rank(student, sampled),
        rank(teacher, sampled),
    )
    tops = [top_tokens(side, tokenizer) for side in (student, teacher)]
    for row in zip(*(c.tolist() for c in columns), *tops, strict=True):
        token, kl, student_entropy, teacher_entropy, student_rank, teacher_rank, student_top, teacher_top = row
        yield TokenView(
            token=token_text(tokenizer, token),
            reverse_kl=round(kl, 4),
            student_entropy=round(student_entropy, 4),
            teacher_entropy=round(teacher_entropy, 4),
            student_rank=student_rank,
            teacher_rank=teacher_rank,
            student_top=student_top,
            teacher_top=teacher_top,
        )


def top_tokens(log_probs: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[list[tuple[str, float]]]:
    """The most probable tokens and their probabilities at each row of (m, V) log-probabilities."""
    values, ids = log_probs.topk(min(TOP, log_probs.shape[-1]), dim=-1)
    return [
        [
            (token_text(tokenizer, t), round(p, 4))
            for n, (t, p) in enumerate(zip(i, v, strict=True))
            if n == 0 or p >= LEAST
        ]
        for i, v in zip(ids.tolist(), values.exp().tolist(), strict=True)
    ]
