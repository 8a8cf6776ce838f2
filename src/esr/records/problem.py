"""A question, and what is needed to check an answer to it."""

from typing import Any

from esr.records.base import Record


class Problem(Record):
    """One question, and what is needed to check an answer to it."""

    id: str
    """Unique in its task and stable between runs: statistics pair by it."""
    question: str
    answer: str | None = None
    """Reference answer; None where only prompts are needed."""
    grader: str = "answers"
    """How a response is checked: a row of `esr.grading.GRADERS`, with its arguments after a colon."""
    data: dict[str, Any] = {}
    """What the grader needs besides the answer."""
