"""Rows of a table as problems: the part that files and hub data sets share."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from esr.config import TaskConfig
from esr.errors import UserError
from esr.records.problem import Message, Problem
from esr.tasks import forms
from esr.tasks.cells import Unusable, answer, cell, missing
from esr.tasks.forms import Asked, Form, Tool

Row = tuple[str, dict[str, Any] | str]  # where it stands ("line 3"), and its cells, or what is wrong with it

MOST_LEFT_OUT = 0.5
"""Share of rows without a usable problem from which a data set is refused."""
UNGRADED = "none"
"""The grader of problems without a reference: nobody judges the responses to them."""
IN_WORDS = """These functions can be called, described in JSON:
{functions}

{question}

Answer only with the calls that are needed, as a list in Python's notation, every argument by name: \
[first_function(a=1, b="text"), second_function(c=[2.5])]"""
"""How functions are offered to a model whose template has no place for them."""


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


@dataclass
class LazyProblems(Sequence[Problem]):
    """Problems that are built when they are asked for: a million rows are two lists of text until then."""

    source: str
    grader: str
    places: list[int] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    """Empty if there are none."""
    more: dict[int, tuple[tuple[Message, ...], tuple[Tool, ...]]] = field(default_factory=dict)
    """Context and functions, by position, of the problems that are more than a question."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows that are no problems."""
    forms: Counter[str] = field(default_factory=Counter)
    """Rows that were recognised by their columns, by the name of the form."""

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        context, tools = self.more.get(i, ((), ()))
        return Problem(
            id=problem_id(self.source, self.places[i], self.conversation(i)), question=self.questions[i], context=context, tools=tools,
            answer=self.answers[i] if self.answers else None, grader=self.grader,
        )  # fmt: skip

    def conversation(self, i: int) -> str:
        """See `Problem.conversation`."""
        return Asked(self.questions[i], *self.more[i]).conversation if i in self.more else self.questions[i]

    def add(self, index: int, asked: Asked, reference: str | None) -> None:
        """Add what row `index` asks."""
        if asked.context or asked.tools:
            self.more[len(self.questions)] = asked.context, asked.tools
        self.places.append(index)
        self.questions.append(asked.question)
        self.answers.append(reference)


def problem_id(source: str, index: int, question: str) -> str:
    """Unique by the index, and never the same for another question: `gsm8k-00012-1f3a9c20`."""
    return f"{source}-{index:05d}-{hashlib.sha256(question.encode('utf-8', 'replace')).hexdigest()[:8]}"


def to_problems(rows: Iterable[Row], where: str, source: str, task: TaskConfig, need_answer: bool) -> LazyProblems:
    """A problem for each usable row, from the columns that the task names or, without them, by the form that is recognised.

    Without a grader's name and any reference, the problems are `UNGRADED`. Raises `UserError` for no rows, for a column that
    no row has, and where half of the rows or more cannot be used.
    """
    table = LazyProblems(source, task.grader or "answers")
    reader = _Reader(task, need_answer and task.grader != UNGRADED)
    index, bare = -1, dict[int, str]()
    for index, (place, row) in enumerate(rows):
        try:
            asked, reference = reader.read(row, index)
        except Unusable as trouble:
            table.left_out.add(str(trouble), place)
            continue
        if reader.answers and reference is None:
            bare[len(table)] = place
        table.add(index, asked, reference)
    if index < 0:
        raise UserError(f"{where} has no rows; give a data set with at least one problem.")
    table.forms = reader.forms
    if bare:
        table = _without(table, bare, task)
    if not reader.answers:
        table.answers = []
    for column, key in ((task.question, "question"), (task.answer, "answer")):
        if table.left_out[missing(column)] >= MOST_LEFT_OUT * (index + 1):
            first, names = (
                table.left_out.first[missing(column)],
                ", ".join(map(repr, list(reader.there)[:30])) or "none",
            )
            raise UserError(
                f"{where}, {first}: {missing(column)}; set the task's `{key}` to one of the columns there ({names})."
            )
    table.left_out.refuse_most(where, index + 1)
    return table


class _Reader:
    """Reads rows of one task, and remembers which columns and forms it met."""

    def __init__(self, task: TaskConfig, answers: bool):
        self.task, self.answers = task, answers
        self.there: Counter[str] = Counter()
        self.forms: Counter[str] = Counter()

    def read(self, row: dict[str, Any] | str, index: int) -> tuple[Asked, str | None]:
        """What a row asks, and its reference; None if it has none. Raises `Unusable`."""
        if isinstance(row, str):
            raise Unusable(row)
        if index < 100:
            self.there.update(map(str, row))
        form = self._form(row)
        asked = form.read(row) if form else forms.asked(row, self.task.question)
        if form:
            self.forms[form.name] += 1
        reference = self._reference(row, asked, form) if self.answers else None
        if asked.tools and self.task.tools == "prompt":
            asked = in_words(asked)
        return asked, reference

    def _form(self, row: dict[str, Any]) -> Form | None:
        known = self.task.question != forms.PLAIN or forms.PLAIN in row
        return None if known else forms.recognise(tuple(row))

    def _reference(self, row: dict[str, Any], asked: Asked, form: Form | None) -> str | None:
        """From the answer's column; else from the row's form, where that is an answer or the task names who judges."""
        try:
            return answer(cell(row, self.task.answer), self.task.answer)
        except Unusable as trouble:
            if str(trouble) != missing(self.task.answer):
                raise
        usable = asked.reference is not None and (self.task.grader or (form and form.answers))
        return answer(asked.reference, "reference") if usable else None


def _without(table: LazyProblems, bare: dict[int, str], task: TaskConfig) -> LazyProblems:
    """The table, once it is known which problems have no reference (`bare`: their position, and where they stand).

    If none has one and the task names neither a column nor a grader that needs it, all stay; else those are left out.
    """
    if (task.grader or "").startswith("python:"):
        return table
    if len(bare) == len(table) and task.answer == forms.ANSWER and task.grader is None:
        table.grader, table.answers = UNGRADED, []
        return table
    kept = LazyProblems(table.source, table.grader, left_out=table.left_out, forms=table.forms)
    for i in range(len(table)):
        if i in bare:
            kept.left_out.add(missing(task.answer), bare[i])
        else:
            kept.add(table.places[i], Asked(table.questions[i], *table.more.get(i, ((), ()))), table.answers[i])
    return kept


def in_words(asked: Asked) -> Asked:
    """The functions described in the question's text, for any template."""
    functions = json.dumps([tool["function"] for tool in asked.tools], ensure_ascii=False)
    question = IN_WORDS.format(functions=functions, question=asked.question)
    return Asked(question, asked.context, (), asked.reference)


def batched(columns: Iterable[dict[str, Any]], start: int = 1) -> Iterator[Row]:
    """Rows with their numbers."""
    for number, row in enumerate(columns, start):
        yield f"row {number}", row
