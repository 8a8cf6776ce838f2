"""Rows of a table as problems: the part that files and hub data sets share."""

import hashlib
from collections.abc import Iterable
from typing import Any

from esr.errors import UserError
from esr.foreign import control_character
from esr.records.problem import Problem

Row = tuple[str, dict[str, Any]]  # where it stands ("line 3"), and its cells


def problem_id(source: str, index: int, question: str) -> str:
    """Unique by the index, and never the same for another question: `gsm8k-00012-1f3a9c20`."""
    return f"{source}-{index:05d}-{hashlib.sha256(question.encode('utf-8', 'replace')).hexdigest()[:8]}"


def to_problems(rows: Iterable[Row], where: str, source: str, question: str, answer: str | None) -> list[Problem]:
    """A problem for each row, from the columns `question` and `answer` (None: not read).

    Of a worked solution that ends in "#### 42", as in GSM8K, the reference is what follows the mark. Raises `UserError`
    for no rows, a missing column, or a cell that is no text.
    """
    problems: list[Problem] = []
    for index, (place, row) in enumerate(rows):
        text = _cell(row, question, "question", f"{where}, {place}")
        if not isinstance(text, str):
            raise UserError(f"{where}, {place}: {question!r} is {_kind(text)}, but a question must be text.")
        if trouble := control_character(text):
            raise UserError(f"{where}, {place}: {question!r} holds {trouble}.")
        reference = None
        if answer is not None:
            reference = _answer(_cell(row, answer, "answer", f"{where}, {place}"), answer, f"{where}, {place}")
        problems.append(Problem(id=problem_id(source, index, text), question=text, answer=reference))
    if not problems:
        raise UserError(f"{where} has no rows; give a data set with at least one problem.")
    return problems


def _cell(row: dict[str, Any], column: str, key: str, place: str) -> Any:
    if column not in row:
        there = ", ".join(map(repr, row)) or "none"
        raise UserError(f"{place}: no column {column!r}; set the task's `{key}` to one of the columns there ({there}).")
    value = row[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError(f"{place}: {column!r} is empty; fill it in or remove the row.")
    return value


def _answer(value: Any, column: str, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"{place}: {column!r} is {_kind(value)}, but an answer must be text or a number.")
    return str(value).rpartition("####")[2].strip()


def _kind(value: Any) -> str:
    return {list: "a list", dict: "an object", bool: "true or false"}.get(type(value), f"{value!r}"[:40])
