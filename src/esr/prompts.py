"""Problems to prompts: chat templates, system prompts, left-padded ids, and the tokens that end a turn."""

from collections.abc import Iterable, Sequence

import jinja2
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from esr.config import ModelConfig
from esr.errors import UserError
from esr.method.tensors import Prompts
from esr.records.problem import Problem


def render(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, question: str) -> list[int]:
    """The prompt's token ids, as this model expects a user's question.

    A template without a system role gets the system text at the head of the user turn; a tokenizer without a template
    gets plain text (system text, blank line, question, newline) with its own special tokens.
    """
    system = config.system_prompt
    if not tokenizer.chat_template:
        return tokenizer(f"{system}\n\n{question}\n" if system else f"{question}\n")["input_ids"]
    if system and has_system_role(tokenizer, config):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    else:
        messages = [{"role": "user", "content": f"{system}\n\n{question}" if system else question}]
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False, **config.chat_template_kwargs
    )


def has_system_role(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> bool:
    """Whether the chat template puts a system message into the prompt (some refuse it, some drop it)."""
    messages = [{"role": "system", "content": "esr-system-probe"}, {"role": "user", "content": "x"}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **config.chat_template_kwargs)
    except (jinja2.TemplateError, ValueError):
        return False
    return "esr-system-probe" in text


def terminators(
    tokenizer: PreTrainedTokenizerBase, config: ModelConfig, generation: GenerationConfig | None
) -> tuple[int, ...]:
    """Every token that ends this model's turn, ascending.

    The tokenizer's end token, the generation config's end tokens, and the special token that the chat template writes
    after an assistant's message. Raises `UserError` if there is none: nothing could then end a response.
    """
    found = {tokenizer.eos_token_id}
    eos = generation.eos_token_id if generation else None
    found |= set(eos) if isinstance(eos, list) else {eos}
    found |= {_turn_end(tokenizer, config)}
    ids = tuple(sorted(int(i) for i in found if i is not None))
    if not ids:
        raise UserError(
            f"{config.model}: no end-of-turn token in its tokenizer or generation config; set `eos_token` there."
        )
    return ids


def _turn_end(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> int | None:
    """The special token right after an assistant's message in the chat template."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "esr-turn-probe"}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **config.chat_template_kwargs)
    except (jinja2.TemplateError, ValueError):
        return None
    tail = text.rpartition("esr-turn-probe")[2].lstrip()
    after = tokenizer(tail, add_special_tokens=False)["input_ids"]
    added = {i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    return after[0] if after and after[0] in added | set(tokenizer.all_special_ids) else None


def pad(rows: Sequence[Sequence[int]], pad_id: int = 0) -> Prompts:
    """Ragged ids as left-padded (B, P) prompts. The pad id is never attended to."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = True
    return Prompts(ids, mask)


def append(prompts: Prompts, continuation: Sequence[Sequence[int]]) -> Prompts:
    """Prompts with a prefix of the response after them, padded anew: what a continuation is conditioned on."""
    rows = [
        ids[mask].tolist() + list(tail) for ids, mask, tail in zip(prompts.ids, prompts.mask, continuation, strict=True)
    ]
    return pad(rows)


def keep_short(
    problems: Iterable[Problem], sides: Sequence[tuple[PreTrainedTokenizerBase, ModelConfig]], limit: int, needed: int
) -> tuple[list[Problem], int]:
    """The first `needed` problems whose prompt fits `limit` tokens for every model, and how many were left out on the way.

    Nothing is cut. Raises `UserError` if no prompt fits.
    """
    kept: list[Problem] = []
    left_out = 0
    for problem in problems:
        if len(kept) == needed:
            break
        if all(len(render(tokenizer, config, problem.question)) <= limit for tokenizer, config in sides):
            kept.append(problem)
        else:
            left_out += 1
    if not kept:
        raise UserError(f"data.max_prompt_tokens is {limit}, and all {left_out} prompts are longer; raise it.")
    return kept, left_out


def decode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Responses as text, special tokens left out."""
    return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
