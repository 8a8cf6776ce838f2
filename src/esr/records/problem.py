"""A question with what was said before it, and what is needed to check an answer to it."""

import json
from typing import Any, Literal

from esr.records.base import Record


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Calls of an assistant's turn, as chat templates take them: `{"type": "function", "function": {...}}`."""


class Problem(Record):
    """A user's turn that a response answers, and what is needed to check it.

    A plain question is a conversation of one turn; what a conversation has more is `context` and `tools`.
    """

    id: str
    """Unique in its task and stable between runs: statistics pair by it."""
    question: str
    """The user's last turn."""
    context: tuple[Message, ...] = ()
    """The turns before it. A system text of its own, first among them, takes the place of `system_prompt`, empty or not."""
    tools: tuple[dict[str, Any], ...] = ()
    """Functions that may be called, as chat templates take them: `{"type": "function", "function": {...}}`."""
    answer: str | None = None
    """Reference answer; None where only prompts are needed."""
    grader: str = "answers"
    """How a response is checked: a row of `esr.grading.GRADERS`, with its arguments after a colon."""
    data: dict[str, Any] = {}
    """What the grader needs besides the answer."""

    @property
    def conversation(self) -> str:
        """All that is asked, as text to read and to compare: `conversation` of it."""
        return conversation(self.question, self.context, self.tools)


def conversation(question: str, context: tuple[Message, ...], tools: tuple[dict[str, Any], ...]) -> str:
    """A plain question as it is; else the functions, and every turn after its role."""
    if not context and not tools:
        return question
    functions = [f"functions: {json.dumps(tools, ensure_ascii=False)}"] if tools else []
    turns = [
        " ".join((f"{m.role}:", m.content, *(json.dumps(call, ensure_ascii=False) for call in m.tool_calls)))
        for m in context
    ]
    return "\n\n".join((*functions, *turns, f"user: {question}"))
