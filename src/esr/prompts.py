"""Problems to prompts: chat templates, system prompts, left-padded ids, and whether they fit a model."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from esr.config import ModelConfig, TeacherConfig
from esr.errors import UserError
from esr.method.tensors import Prompts
from esr.models import template
from esr.records.problem import Message, Problem
from esr.tasks.rows import MOST_LEFT_OUT

REFUSED = 100
"""Prompts that a template refuses before any other, after which the data is given up."""
PLACEHOLDER = Problem(id="", question="{question}")


def of(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, problem: Problem) -> list[int]:
    """The prompt's token ids for a problem: `render` of what it asks."""
    return render(tokenizer, config, problem.question, problem.context, problem.tools)


def render(
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    question: str,
    context: Sequence[Message] = (),
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """The prompt's token ids, as this model expects a user's question after some turns, with functions that it may call.

    A system text that leads `context` takes the place of the model's. A template without a system role gets it at the head
    of the first user turn; a tokenizer without a template gets plain text (system text, blank line, question, newline) after
    its own opening tokens. What people wrote is text: a control token's name in it does not become that token. Raises
    `UserError` where the template has no place for a turn or for functions.
    """
    own = bool(context) and context[0].role == "system"
    system, turns = (context[0].content if own else config.system_prompt), context[own:]
    if not tokenizer.chat_template:
        if turns or tools:
            what = "functions to call" if tools else "a conversation of several turns"
            raise UserError(f"{config.model} has no chat template, so it cannot be given {what}; choose a chat model.")
        text = f"{system}\n\n{question}\n" if system else f"{question}\n"
        return template.opening(tokenizer) + template.encode(tokenizer, template.plain(tokenizer, text))
    messages: list[template.Turn] = [*map(_as_dict, turns), {"role": "user", "content": question}]
    if system and template.has_system_role(tokenizer, config):
        messages.insert(0, {"role": "system", "content": system})
    elif system:
        first = next(m for m in messages if m["role"] == "user")
        first["content"] = f"{system}\n\n{first['content']}"
    template.require_place(tokenizer, config, {m["role"] for m in messages}, bool(tools))
    try:
        text = template.render(tokenizer, config, *template.plain(tokenizer, (messages, tools)))
    except template.ERRORS as error:
        raise UserError(f"{config.model}: its chat template fails ({' '.join(str(error).split())[:200]}).") from None
    return template.encode(tokenizer, text)


def ask(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, problem: Problem) -> list[int]:
    """The prompt with which a model takes part in training: a privileged teacher (`teacher.prompt`) sees more than the question."""
    shape = config.prompt if isinstance(config, TeacherConfig) and config.prompt else "{question}"
    shown = {"{question}": problem.question, "{answer}": problem.answer or ""}
    question = re.sub(r"\{question\}|\{answer\}", lambda found: shown[found[0]], shape)
    return of(tokenizer, config, problem.model_copy(update={"question": question}))


def _as_dict(message: Message) -> template.Turn:
    return message.model_dump(exclude_defaults=True)


def describe(
    sides: Sequence[tuple[str, PreTrainedTokenizerBase, ModelConfig]], problems: Sequence[Problem] = ()
) -> list[str]:
    """Lines for people: one prompt of each side (name, tokenizer, configuration), and what of it deserves a look.

    It is that of a problem that is more than a question, if there is one among the first hundred.
    """
    example = next((p for p in problems[:100] if p.context or p.tools), PLACEHOLDER)
    texts = {name: tokenizer.decode(of(tokenizer, config, example)) for name, tokenizer, config in sides}
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
) -> tuple[list[Problem], Counter[str]]:
    """The first `needed` problems whose prompt fits `limit` tokens for every model, and those left out on the way, by reason.

    Nothing is cut. A prompt that a template refuses is left out too. Raises `UserError` if no prompt fits, and if templates
    refuse half of them or more, or the first hundred.
    """
    kept: list[Problem] = []
    long, refused = 0, Counter[str]()
    for problem in problems:
        if len(kept) == needed or (not kept and refused.total() == REFUSED):
            break
        try:
            fits = all(len(ask(tokenizer, config, problem)) <= limit for tokenizer, config in sides)
        except UserError as error:
            refused[str(error)] += 1
            continue
        if fits:
            kept.append(problem)
        else:
            long += 1
    if refused.total() and refused.total() >= MOST_LEFT_OUT * (len(kept) + long + refused.total()):
        raise UserError(refused.most_common(1)[0][0])
    if not kept:
        raise UserError(f"data.max_prompt_tokens is {limit}, and all {long} prompts are longer; raise it.")
    return kept, refused + Counter({f"longer than {limit} tokens": long} if long else {})


CALL_MARKS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "<|python_tag|>", "<tool_call>", "</tool_call>")
"""Tokens that say where a function call is, which some tokenizers count among the special ones."""


def decode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Responses as text, special tokens left out but those that mark a function call."""
    control = sorted(template.control_ids(tokenizer))
    names = dict(zip(control, tokenizer.convert_ids_to_tokens(control), strict=True))
    if not set(names.values()).intersection(CALL_MARKS):
        return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    return [tokenizer.decode([i for i in row if i not in names or names[i] in CALL_MARKS]) for row in rows]
