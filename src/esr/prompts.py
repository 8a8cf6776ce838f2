"""Problems to prompts: chat templates, system prompts, left-padded ids, and whether they fit a model."""

import json
import re
from collections.abc import Iterable, Sequence

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from esr.config import ModelConfig, TeacherConfig
from esr.errors import UserError
from esr.method.tensors import Prompts
from esr.models import template
from esr.records.problem import Problem


def render(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, question: str) -> list[int]:
    """The prompt's token ids, as this model expects a user's question.

    A template without a system role gets the system text at the head of the user turn; a tokenizer without a template
    gets plain text (system text, blank line, question, newline) after its own opening tokens. What people wrote is text:
    a control token's name in it does not become that token.
    """
    question = template.plain(tokenizer, question)
    system = template.plain(tokenizer, config.system_prompt) if config.system_prompt else None
    if not tokenizer.chat_template:
        text = f"{system}\n\n{question}\n" if system else f"{question}\n"
        return template.opening(tokenizer) + template.encode(tokenizer, text)
    if system and template.has_system_role(tokenizer, config):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    else:
        messages = [{"role": "user", "content": f"{system}\n\n{question}" if system else question}]
    try:
        text = template.render(tokenizer, config, messages)
    except template.ERRORS as error:
        raise UserError(f"{config.model}: its chat template fails ({' '.join(str(error).split())[:200]}).") from None
    return template.encode(tokenizer, text)


def ask(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, problem: Problem) -> list[int]:
    """The prompt with which a model takes part in training: a privileged teacher (`teacher.prompt`) sees more than the question."""
    shape = config.prompt if isinstance(config, TeacherConfig) and config.prompt else "{question}"
    shown = {"{question}": problem.question, "{answer}": problem.answer or ""}
    return render(tokenizer, config, re.sub(r"\{question\}|\{answer\}", lambda found: shown[found[0]], shape))


def describe(sides: Sequence[tuple[str, PreTrainedTokenizerBase, ModelConfig]]) -> list[str]:
    """Lines for people: one prompt of each side (name, tokenizer, configuration), and what of it deserves a look."""
    texts = {name: tokenizer.decode(render(tokenizer, config, "{question}")) for name, tokenizer, config in sides}
    if len(set(texts.values())) == 1:
        lines = [f"Both are prompted with {_short(next(iter(texts.values())))}"]
    else:
        lines = [f"The {name} is prompted with {_short(text)}" for name, text in texts.items()]
    ends = {name: template.thinking(text) for name, text in texts.items()}
    if len(set(ends.values())) > 1:
        told = ", ".join(f"the {name}'s in {end}" for name, end in ends.items())
        lines.append(
            f"Warning: the prompts end differently, {told}: one side expects to think where the other answers. "
            "Set chat_template_kwargs.enable_thinking alike on both sides."
        )
    for name, tokenizer, config in sides:
        if isinstance(config, TeacherConfig) and config.prompt:
            lines.append(
                f"Warning: in training the {name} is asked {_short(config.prompt)}. It sees more than the student, and ESR was made and "
                "measured with a plain teacher: whether and where to stop may be otherwise here."
            )
        if not tokenizer.chat_template:
            lines.append(f"The {name} has no chat template: it gets plain text.")
        elif template.writes_date(tokenizer) and "date_string" not in config.chat_template_kwargs:
            lines.append(f"The {name}'s template writes the date; it is always {template.DATE:%d %b %Y} here.")
    return lines


def _short(text: str) -> str:
    """Text on one line, its middle left out if it is long."""
    line = json.dumps(text, ensure_ascii=False)
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-200:]}"


def require_room(rows: Sequence[Sequence[int]], model: str, settings: PretrainedConfig, cap: int, key: str) -> None:
    """Raise `UserError` if a prompt holds a token without an embedding, or leaves too little of the context for `cap` tokens.

    `settings` is the model's own configuration, `key` the name of the cap's key.
    """
    text = settings.get_text_config()
    highest, longest = max(map(max, rows)), max(map(len, rows))
    if highest >= text.vocab_size:
        raise UserError(
            f"{model}: its tokenizer writes token {highest}, but the model has only {text.vocab_size} embeddings; "
            "resize the embeddings, or take the tokenizer that belongs to it."
        )
    window = _window(text)
    if window is not None and longest + cap > window:
        raise UserError(
            f"{model}: a prompt of {longest} tokens and {key} = {cap} exceed its context window of {window}; lower {key}."
        )


def _window(text: PretrainedConfig) -> int | None:
    """Positions that a model is made for; None if it has no limit."""
    window = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    scaled = (rope.get("factor") or 1) * (rope.get("original_max_position_embeddings") or 0)
    return max(int(window), int(scaled)) if window else None


def pad(rows: Sequence[Sequence[int]], pad_id: int = 0) -> Prompts:
    """Ragged ids as left-padded (B, P) prompts. The pad id is never attended to."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = True
    return Prompts(ids, mask)


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
        if all(len(ask(tokenizer, config, problem)) <= limit for tokenizer, config in sides):
            kept.append(problem)
        else:
            left_out += 1
    if not kept:
        raise UserError(f"data.max_prompt_tokens is {limit}, and all {left_out} prompts are longer; raise it.")
    return kept, left_out


def decode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Responses as text, special tokens left out."""
    return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
