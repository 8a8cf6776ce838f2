"""Rows of a table as problems: the part that files and hub data sets share."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from esr.errors import UserError
from esr.foreign import control_character
from esr.records.problem import Problem

Row = tuple[str, dict[str, Any] | str]  # where it stands ("line 3"), and its cells, or what is wrong with it

MOST_LEFT_OUT = 0.5
"""Share of rows without a usable problem from which a data set is refused."""
LONGEST = 1_000_000
"""Characters of a question; no model reads more."""


class LeftOut(Counter[str]):
    """Rows that are left out, by reason, and where the first of each stands."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}

    def add(self, reason: str, place: str, count: int = 1) -> None:
        """Count a row."""
        self.first.setdefault(reason, place)
        self[reason] += count

    def describe(self) -> str:
        """`line 3: 'question' is empty; 2 more`."""
        parts = [
            f"{self.first[reason]}: {reason}" + (f", {count:,} rows" if count > 1 else "")
            for reason, count in self.most_common(4)
        ]
        return "; ".join(parts) + (f"; {len(self) - 4} more reasons" if len(self) > 4 else "")

    def refuse_most(self, where: str, total: int) -> None:
        """Raise `UserError` if half of the rows or more are left out."""
        if self.total() >= MOST_LEFT_OUT * total > 0:
            raise UserError(f"{where}: {self.total():,} of {total:,} rows cannot be used ({self.describe()}).")


@dataclass(frozen=True)
class Table(Sequence[Problem]):
    """Problems that are built when they are asked for: a million rows are two lists of text until then."""

    source: str
    grader: str
    places: list[int]
    questions: list[str]
    answers: list[str] | None
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows that are no problems."""

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        text = self.questions[i]
        return Problem(
            id=problem_id(self.source, self.places[i], text), question=text,
            answer=self.answers[i] if self.answers is not None else None, grader=self.grader,
        )  # fmt: skip


def problem_id(source: str, index: int, question: str) -> str:
    """Unique by the index, and never the same for another question: `gsm8k-00012-1f3a9c20`."""
    return f"{source}-{index:05d}-{hashlib.sha256(question.encode('utf-8', 'replace')).hexdigest()[:8]}"


def to_problems(
    rows: Iterable[Row], where: str, source: str, question: str, answer: str | None, grader: str = "answers"
) -> Table:
    """A problem for each usable row, from the columns `question` and `answer` (None: not read; `a.b` is b inside a).

    Of a worked solution that ends in "#### 42", as in GSM8K, the reference is what follows the mark. Raises `UserError`
    for no rows, for a column that no row has, and where half of the rows or more cannot be used.
    """
    table = Table(source, grader, [], [], None if answer is None else [])
    index, there = -1, Counter[str]()
    for index, (place, row) in enumerate(rows):
        try:
            if isinstance(row, str):
                raise Unusable(row)
            if index < 100:
                there.update(map(str, row))
            text = _question(_cell(row, question), question)
            reference = None if answer is None else _answer(_cell(row, answer), answer)
        except Unusable as trouble:
            table.left_out.add(str(trouble), place)
            continue
        table.places.append(index)
        table.questions.append(text)
        if table.answers is not None and reference is not None:
            table.answers.append(reference)
    if index < 0:
        raise UserError(f"{where} has no rows; give a data set with at least one problem.")
    for column, key in ((question, "question"), (answer, "answer")):
        if column and table.left_out[_missing(column)] >= MOST_LEFT_OUT * (index + 1):
            first, names = table.left_out.first[_missing(column)], ", ".join(map(repr, list(there)[:30])) or "none"
            raise UserError(
                f"{where}, {first}: {_missing(column)}; set the task's `{key}` to one of the columns there ({names})."
            )
    table.left_out.refuse_most(where, index + 1)
    return table


class Unusable(Exception):
    """Why a row is no problem."""


def _missing(column: str) -> str:
    return f"no column {column!r}"


def _cell(row: dict[str, Any], column: str) -> Any:
    value: Any = row
    for part in [column] if column in row else column.split("."):
        if not isinstance(value, dict) or part not in value:
            raise Unusable(_missing(column))
        value = value[part]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unusable(f"{column!r} is empty")
    return value


def _question(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"{column!r} is {_kind(value)}, but a question must be text")
    if len(value) > LONGEST:
        raise Unusable(f"{column!r} has more than {LONGEST:,} characters")
    return _text(value, column)


def _answer(value: Any, column: str) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Unusable(f"{column!r} is {_kind(value)}, but an answer must be text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{column!r} is no number (NaN or infinite)")
    text = _text(str(value), column).rpartition("####")[2].strip()
    if not text:
        raise Unusable(f"{column!r} has nothing after ####")
    return text


def _text(value: str, column: str) -> str:
    if trouble := control_character(value):
        raise Unusable(f"{column!r} holds {trouble}")
    return value


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {
        list: "a list",
        dict: "an object",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def batched(columns: Iterable[dict[str, Any]], start: int = 1) -> Iterator[Row]:
    """Rows with their numbers."""
    for number, row in enumerate(columns, start):
        yield f"row {number}", row
