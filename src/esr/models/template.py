"""A model's chat template: what may be passed to it, whether what is put in comes out, and text that stays text."""

import datetime
import difflib
import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import jinja2
from jinja2 import meta
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from esr.config import ModelConfig
from esr.errors import UserError

Turn = dict[str, Any]

DATE = datetime.datetime(2024, 7, 26)
"""Today, for templates that write the date: the one that Llama's templates fall back on."""
FIXED_DATE = (
    "{%- macro strftime_now(form) -%}{{ form"
    + "".join(f" | replace('%{code}', '{DATE.strftime('%' + code)}')" for code in "aAbBdeHIjmMpSyY")
    + " }}{%- endmacro -%}"
)
"""Stands before such a template and hides the clock that transformers offers to it."""
RESERVED = {*inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters, "messages", "strftime_now"}
"""Arguments that are not the template's, or that are set here."""
BREAK = "\ue000esr\ue001"
"""Stands inside the text of a control token where someone wrote that text: the two halves are tokenised apart."""
ERRORS = (jinja2.TemplateError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError)


def render(
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    messages: list[Turn],
    tools: Sequence[dict[str, Any]] = (),
    prompt: bool = True,
) -> str:
    """The conversation as text, up to the beginning of the assistant's turn if `prompt`. Raises what the template raises."""
    offered = list(tools) or None
    fixed = {"chat_template": FIXED_DATE + tokenizer.get_chat_template(tools=offered)} if writes_date(tokenizer) else {}
    return tokenizer.apply_chat_template(
        messages, tools=offered, tokenize=False, add_generation_prompt=prompt, **fixed, **config.chat_template_kwargs
    )


def writes_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template asks for today's date; it is then always told the same, so that prompts stay what they are."""
    return "strftime_now" in tokenizer.get_chat_template()


@functools.lru_cache
def variables(template: str) -> frozenset[str]:
    """The names that a template takes from outside. Raises `jinja2.TemplateError` if it cannot be parsed."""
    environment = chat_template_utils._compile_jinja_template(template).environment
    return frozenset(meta.find_undeclared_variables(environment.parse(template)))


def check(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
    """Raise `UserError` unless the template takes the given arguments and shows each role's text."""
    if not tokenizer.chat_template:
        if config.chat_template_kwargs:
            raise UserError(
                f"{config.model} has no chat template, so that chat_template_kwargs mean nothing; remove them."
            )
        return
    try:
        _check_arguments(tokenizer, config)
        text = render(tokenizer, config, [{"role": "user", "content": "esr-question-probe"}])
        turns = [
            {"role": "user", "content": "esr-question-probe"},
            {"role": "assistant", "content": "esr-answer-probe"},
        ]
        both = render(tokenizer, config, turns, prompt=False)
    except ERRORS as error:
        raise UserError(
            f"{config.model}: its chat template fails ({_line(error)}); correct it in the tokenizer's files."
        ) from None
    for probe, found, what in (
        ("question", text, "a question"),
        ("question", both, "a question"),
        ("answer", both, "an answer"),
    ):
        if f"esr-{probe}-probe" not in found:
            raise UserError(
                f"{config.model}: its chat template drops the text of {what} (it may be made for lists of parts, as "
                "multimodal models have them); give the tokenizer a template for text."
            )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _check_arguments(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
    free = (
        variables(tokenizer.get_chat_template()) - RESERVED - tokenizer.special_tokens_map.keys() - {"raise_exception"}
    )
    for name in config.chat_template_kwargs:
        if name in RESERVED:
            raise UserError(f"chat_template_kwargs.{name}: esr sets this itself; remove it.")
        if name not in free:
            near = difflib.get_close_matches(name, free, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(sorted(free)) or 'none'}"
            raise UserError(
                f"chat_template_kwargs.{name}: the chat template of {config.model} has no such variable ({hint})."
            )


def has_system_role(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> bool:
    """Whether the chat template puts a system message into the prompt (some refuse it, some drop it)."""
    messages = [{"role": "system", "content": "esr-system-probe"}, {"role": "user", "content": "esr-question-probe"}]
    try:
        text = render(tokenizer, config, messages)
    except ERRORS:
        return False
    return "esr-system-probe" in text and "esr-question-probe" in text


def require_place(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, roles: set[str], tools: bool) -> None:
    """Raise `UserError` if the template drops or refuses what a tool returned, or the functions that may be called."""
    messages: list[Turn] = [{"role": "user", "content": "esr-question-probe"}]
    function = {"name": "esr_tool_probe", "description": "-", "parameters": {"type": "object", "properties": {}}}
    offered = [{"type": "function", "function": function}]
    call = {"type": "function", "id": "000000001", "function": {"name": "esr_tool_probe", "arguments": {}}}
    if tools and "esr_tool_probe" not in _tried(tokenizer, config, messages, offered):
        raise UserError(
            f"{config.model}: its chat template has no place for functions to call; set the task's `tools` to prompt, which "
            "describes them in words."
        )
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "esr_tool_probe", "tool_call_id": "000000001", "content": "esr-result-probe"},
    ]
    if "tool" in roles and "esr-result-probe" not in _tried(tokenizer, config, messages, offered if tools else []):
        raise UserError(
            f"{config.model}: its chat template has no place for what a tool returned; leave those conversations out."
        )


def _tried(
    tokenizer: PreTrainedTokenizerBase, config: ModelConfig, messages: list[Turn], tools: list[dict[str, Any]]
) -> str:
    try:
        return render(tokenizer, config, messages, tools)
    except ERRORS:
        return ""


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the control tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return {i for i, token in added if token.special} | set(tokenizer.all_special_ids)


Written = TypeVar("Written")


def plain(tokenizer: PreTrainedTokenizerBase, written: Written) -> Written:
    """What someone wrote, with a `BREAK` in each control token's text, so that it is tokenised as text.

    `written` is text, or lists and objects that hold text.
    """
    tokens = [t for t in tokenizer.convert_ids_to_tokens(sorted(control_ids(tokenizer))) if len(t) > 1]
    pattern = re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))

    def broken(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda found: found[0][0] + BREAK + found[0][1:], value)
        if isinstance(value, dict):
            return {broken(key): broken(each) for key, each in value.items()}
        return list(map(broken, value)) if isinstance(value, (list, tuple)) else value

    return broken(written) if tokens else written  # type: ignore[no-any-return]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of rendered text, tokenised in pieces at each `BREAK`.

    Raises `UserError` if this tokenizer cannot do that without changing the text.
    """
    pieces = text.split(BREAK)
    ids = [i for piece in pieces for i in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    if len(pieces) > 1:
        whole = tokenizer("".join(pieces), add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids) != tokenizer.decode(whole):
            raise UserError(
                f"A question holds the text of a control token, which this tokenizer cannot write as plain text "
                f"({''.join(pieces)[-80:]!r}); leave that question out."
            )
    return ids


def opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the tokenizer puts before plain text. What it puts after it (an end token) belongs in no prompt."""
    framed, bare = tokenizer("x")["input_ids"], tokenizer("x", add_special_tokens=False)["input_ids"]
    starts = [i for i in range(len(framed) - len(bare) + 1) if framed[i : i + len(bare)] == bare]
    return framed[: starts[0]] if starts else []


def thinking(text: str) -> str:
    """How a rendered prompt ends: in an open think block, a closed one, or none."""
    if re.search(r"<think>\s*$", text):
        return "an open think block"
    return "a closed think block" if re.search(r"</think>\s*$", text) else "no think block"
