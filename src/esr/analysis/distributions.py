"""Next-token distributions of several models at the same response positions, chunk by chunk, and tokens as text."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr import prompts
from esr.analysis.profile import BATCH, respond
from esr.analysis.subject import Subject
from esr.method.events import EventSpace
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.records.problem import Problem
from esr.sampling.sampler import Sampler
from esr.scoring import CHUNK_ELEMENTS, head, hidden_states


@torch.no_grad()
def chunks(
    lms: Sequence[LM], problems: Sequence[Problem], rollout: Rollout, events: EventSpace
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Event log-probabilities of each model at the M real positions of a rollout, each after its own prompt.

    Yields (positions, one (m, V) tensor for each model) in row-major order of `rollout.response_mask`, with m so small
    that no more than `CHUNK_ELEMENTS` of a model are held.
    """
    hidden = [hidden_states(lm, _prompts(lm, problems), rollout) for lm in lms]
    width = max(1, CHUNK_ELEMENTS // max(lm.vocab_size for lm in lms))
    for start in range(0, int(rollout.response_mask.sum()), width):
        part = slice(start, start + width)
        yield part, [events.student.log_probs(head(lm, h[part])) for lm, h in zip(lms, hidden, strict=True)]


def _prompts(lm: LM, problems: Sequence[Problem]) -> prompts.Prompts:
    lm.module.eval()
    return prompts.pad([prompts.render(lm.tokenizer, lm.config, p.question) for p in problems]).to(lm.device)


def batches(
    lm: LM, problems: Sequence[Problem], sampler: Sampler, seed: int
) -> Iterator[tuple[Sequence[Problem], Rollout]]:
    """One response of `lm` to each problem, some problems at a time."""
    for first in range(0, len(problems), BATCH):
        batch = problems[first : first + BATCH]
        yield batch, respond(lm, batch, sampler, seed)


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


def choices(subject: Subject, sampler: Sampler, seed: int) -> dict[str, Any]:
    """The settings that responses and their comparison depend on, for a record."""
    return {
        "max_new_tokens": sampler.max_new_tokens, "temperature": sampler.temperature, "top_p": sampler.top_p,
        "top_k": sampler.top_k, "seed": seed, "merge_terminators": subject.config.loss.merge_terminators,
    }  # fmt: skip
