"""Forms in which data sets write what is asked: plain columns, lists of messages, and those of well-known sets."""

import functools
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from esr.records.problem import Message, conversation
from esr.tasks.cells import Cells, Unusable, cell, kind, text

PLAIN, ANSWER = "question", "answer"
"""The columns' names if the task gives no others. Without the former, a known form is looked for; without the latter, no answers."""
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "model": "assistant", "function_call": "assistant", "tool": "tool", "function": "tool",
    "observation": "tool", "tool_response": "tool",
}  # fmt: skip
"""The role of a turn, by how data sets call it."""

Tool = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a row asks, and its reference as it stands (None: it has none)."""

    question: str
    context: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    reference: Any = None

    @property
    def conversation(self) -> str:
        """See `Problem.conversation`."""
        return conversation(self.question, self.context, self.tools)


@dataclass(frozen=True)
class Form:
    """A form of rows: the columns that it is known by, those that it may have besides, and how a row is read."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[Cells], Asked]
    more: tuple[str, ...] = ("system", "tools")
    answers: bool = False
    """Whether its reference is an answer; what an assistant said is a reference only for a grader that the task names."""


# Cells


# Conversations


def asked(row: Cells, column: str) -> Asked:
    """What a column asks, as text or as a list of messages, with the row's own `system` text and `tools`."""
    value = cell(row, column)
    found = messages(value, column) if isinstance(value, list) else Asked(text(value, column))
    context = found.context
    if row.get("system") and column != "system" and not any(m.role == "system" for m in context):
        context = (Message(role="system", content=text(row["system"], "system", "a system text")), *context)
    return Asked(found.question, context, tools(row.get("tools")), found.reference)


def messages(turns: list[Any], column: str) -> Asked:
    """A list of turns (`role` and `content`, or `from` and `value`) up to the last one of the user, which is the question.

    What the assistant says next is the reference.
    """
    read = [_message(turn, column) for turn in turns]
    last = max((i for i, m in enumerate(read) if m.role == "user"), default=None)
    if last is None:
        raise Unusable(f"{column!r} has no turn of the user")
    if not read[last].content.strip():
        raise Unusable(f"the last turn of the user in {column!r} is empty")
    if any(m.role == "system" for m in read[1:last]):
        raise Unusable(f"{column!r} has a system text that is not the first turn")
    reply = next((m.content for m in read[last + 1 : last + 2] if m.role == "assistant" and m.content.strip()), None)
    return Asked(read[last].content, tuple(read[:last]), reference=reply)


def _message(turn: Any, column: str) -> Message:
    if not isinstance(turn, dict):
        raise Unusable(f"a turn in {column!r} is {kind(turn)}, not an object with role and content")
    name = turn.get("role", turn.get("from"))
    if name not in ROLES:
        raise Unusable(f"a turn in {column!r} has the role {str(name)[:40]!r}")
    calls = tuple(map(_call, turn.get("tool_calls") or ()))
    content = turn.get("content", turn.get("value"))
    if content is None and calls:
        content = ""
    if isinstance(content, list):
        content = "".join(_part(part, column) for part in content)
    if content is None:
        raise Unusable(f"a turn in {column!r} is empty")
    return Message(role=ROLES[name], content=text(content, column, "a turn"), tool_calls=calls)  # type: ignore[arg-type]


def _call(call: Any) -> dict[str, Any]:
    """A call as chat templates take it: its arguments are an object, which OpenAI's form has as text."""
    call = _without_none(call)
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unusable("a call in 'tool_calls' has no name")
    arguments = function.get("arguments") or {}
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        raise Unusable("the arguments of a call in 'tool_calls' are no JSON") from None
    return {**call, "type": "function", "function": {**function, "arguments": arguments}}


def _part(part: Any, column: str) -> str:
    """A part of a turn's content, which must be text."""
    if isinstance(part, str):
        return part
    what = part.get("type", "text") if isinstance(part, dict) else kind(part)
    if what != "text" or not isinstance(part.get("text"), str):
        raise Unusable(f"a turn in {column!r} has a part of the type {what!s:.40}, but only text can be read")
    return str(part["text"])


def tools(value: Any) -> tuple[Tool, ...]:
    """Functions as chat templates take them, from a list of JSON schemas, bare or in `{"type": "function"}`, or its text."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable("'tools' is no JSON") from None
    if value is None:
        return ()
    described = [_without_none(each) for each in (value if isinstance(value, list) else [value])]
    functions = [each.get("function", each) if isinstance(each, dict) else None for each in described]
    if not all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in functions):
        raise Unusable("'tools' has a function without a name")
    return tuple({"type": "function", "function": f} for f in functions)


def _without_none(value: Any) -> Any:
    """Without the nulls with which tables fill what a nested object lacks."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


# Known forms


def _alpaca(row: Cells) -> Asked:
    question, more = text(cell(row, "instruction"), "instruction"), row.get("input")
    if isinstance(more, str) and more.strip():
        question = f"{question}\n\n{text(more, 'input')}"
    return Asked(question, asked(row, "instruction").context, reference=row.get("output"))


def _prompt(row: Cells) -> Asked:
    """TRL's `prompt`, as text or messages; what it calls `completion` is the reference."""
    found, completion = asked(row, "prompt"), row.get("completion")
    if isinstance(completion, list):
        completion = next((_message(turn, "completion").content for turn in completion), None)
    return Asked(found.question, found.context, found.tools, completion or found.reference)


def _numina(row: Cells) -> Asked:
    """The reference is the last box of the solution."""
    from esr.grading.find import boxes  # the graders import the lab's task

    solution = row.get("solution")
    found = boxes(solution) if isinstance(solution, str) else []
    return Asked(text(cell(row, "problem"), "problem"), reference=found[-1][2] if found else None)


_TURN = re.compile(r"^\s*(USER|ASSISTANT|FUNCTION RESPONSE): ?", re.MULTILINE)


def _glaive(row: Cells) -> Asked:
    """glaive-function-calling-v2: a system text that ends in functions, one JSON object after the other, and a chat as text.

    Of a dialogue only what leads to the user's last turn before the first call, or to the last turn if there is no call.
    """
    system = text(cell(row, "system"), "system", "a system text").removeprefix("SYSTEM:").strip()
    said, functions = _objects(system)
    parts = _TURN.split(text(cell(row, "chat"), "chat"))[1:]
    turns = [
        {"role": {"USER": "user", "ASSISTANT": "assistant"}.get(who, "tool"), "content": _said(what)}
        for who, what in zip(parts[::2], parts[1::2], strict=True)
    ]
    call = next((i for i, t in enumerate(turns) if t["content"].startswith("<functioncall>")), len(turns))
    found = messages(turns[: call + 1], "chat")
    head = (Message(role="system", content=said),) if said else ()
    return Asked(found.question, (*head, *found.context), tools(functions), found.reference)


def _said(turn: str) -> str:
    return turn.replace("<|endoftext|>", "").strip()


def _objects(system: str) -> tuple[str, list[Any]]:
    """The text before the first JSON object, and the objects."""
    start = system.find("{")
    said, found = (system if start < 0 else system[:start]).strip(), []
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(system, start)
        except (ValueError, RecursionError):
            raise Unusable("the functions in 'system' are no JSON") from None
        found.append(value)
        start = system.find("{", end)
    return said.rstrip(" -") if found else said, found


FORMS = (
    Form("glaive-function-calling-v2 (system, chat)", ("system", "chat"), _glaive, ()),
    Form("NuminaMath (problem, solution)", ("problem", "solution"), _numina, (), answers=True),
    Form("CodeUltraFeedback (instruction, chosen, rejected)", ("instruction", "chosen", "rejected"), _alpaca, ("system",)),
    Form("OpenAI messages (messages)", ("messages",), lambda row: asked(row, "messages")),
    Form("ShareGPT (conversations)", ("conversations",), lambda row: asked(row, "conversations")),
    Form("prompts (prompt)", ("prompt",), _prompt, ("system", "tools", "completion")),
    Form("Alpaca (instruction, input, output)", ("instruction",), _alpaca, ("system", "input", "output")),
)  # fmt: skip
"""In the order in which they are tried."""


@functools.lru_cache(maxsize=256)
def recognise(columns: tuple[str, ...]) -> Form | None:
    """The form that rows with these columns have, or None."""
    return next((form for form in FORMS if set(form.columns) <= set(columns)), None)


def needed(there: Collection[str], question: str, answer: str | None) -> Iterator[str]:
    """Which columns of a table have to be read for a question and an answer (None: no answer).

    All of them where a column is missing that should be there, so that the message can name what is.
    """
    form = recognise(tuple(there)) if question == PLAIN and PLAIN not in there else None
    wanted = {*form.columns, *form.more} if form else {question, question.split(".")[0], "system", "tools"}
    lacks = not form and not {question, question.split(".")[0]}.intersection(there)
    if answer is not None:
        wanted |= {answer, answer.split(".")[0]}
        lacks |= answer != ANSWER and not {answer, answer.split(".")[0]}.intersection(there)
    return (name for name in there if lacks or name in wanted)
