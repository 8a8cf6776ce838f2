"""Where problems come from: files, hub data sets, generators, the lab. No torch here."""

import difflib
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from esr.config import EvalConfig, TaskConfig
from esr.console import say
from esr.errors import UserError
from esr.records.problem import Problem
from esr.tasks import calls, code, files, generated, hub
from esr.tasks.rows import LazyProblems, LeftOut

Purpose = Literal["train", "eval"]


@dataclass(frozen=True)
class Loaded:
    """Problems of a task, and what was left out on the way."""

    problems: Sequence[Problem]
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows without a usable problem, by reason."""
    repeated: int = 0
    """Rows whose question had occurred before; an evaluation has each question once."""


def load(task: TaskConfig, purpose: Purpose, need_answer: bool) -> Loaded:
    """The problems of a task in their own order, cut down to `task.limit` of them drawn with `task.seed`.

    Ids are unique and stable between runs: source, position, hash of the question. Generated evaluation problems come
    from other random states than training prompts (`disjoint` removes equal questions). Files and hub data sets need,
    and give, answers only with `need_answer`. What is left out is said. Raises `UserError` if the source cannot be read,
    has no problem, or half of its rows or more cannot be used.
    """
    problems = _read(task, purpose, need_answer)
    left_out = problems.left_out if isinstance(problems, LazyProblems) else LeftOut()
    if left_out:
        say(f"{describe(task)}: {left_out.total():,} rows cannot be used and are left out ({left_out.describe()}).")
    for form, count in problems.forms.most_common() if isinstance(problems, LazyProblems) else ():
        say(f"{describe(task)}: {count:,} rows are read as {form}.")
    asked = map(squeezed, conversations(problems))
    places: Sequence[int] = range(len(problems))
    if purpose == "eval":
        first: dict[str, int] = {}
        for i, conversation in enumerate(asked):
            first.setdefault(conversation, i)
        places, repeated = list(first.values()), len(problems) - len(first)
        if repeated:
            say(f"{describe(task)}: {repeated:,} of {len(problems):,} questions occur again and are left out.")
    else:
        repeated = len(problems) - len(set(asked))
    if task.limit is not None and task.limit < len(places):
        drawn = random.Random(task.seed).sample(range(len(places)), task.limit)
        places = [places[i] for i in sorted(drawn)]
    whole = isinstance(places, range)
    return Loaded(problems if whole else [problems[i] for i in places], Counter(left_out), repeated)


def conversations(problems: Sequence[Problem]) -> Iterator[str]:
    """All that each problem asks; those of a table are not built for it."""
    if isinstance(problems, LazyProblems):
        return (problems.conversation(i) for i in range(len(problems)))
    return (problem.conversation for problem in problems)


def squeezed(conversation: str) -> str:
    """What is asked as it is compared with others: spaces do not count."""
    return " ".join(conversation.split())


def is_remote(task: TaskConfig) -> bool:
    """Whether problems have to be fetched from the hub, or looked for in its cache."""
    local = ":" in task.source or task.source in code.NAMED or files.is_file(task.source)
    return not local


def describe(task: TaskConfig) -> str:
    """A short name of the task for records: `gsm8k`, `owner/name/subset/split`, a file's name, `reasoning_gym:TASK`."""
    if files.is_file(task.source):
        return Path(task.source).name
    return "/".join(part for part in (task.source, task.subset, task.split) if part)


def settings(task: EvalConfig) -> dict[str, Any]:
    """What an evaluation's numbers depend on; local files by what they hold, so that a project may be moved."""
    source = files.identity(task.source) if files.is_file(task.source) else task.source
    return {**task.settings(), "source": source}


def disjoint(train: Sequence[Problem], evaluation: Sequence[Problem]) -> tuple[list[Problem], int]:
    """The evaluation problems that are no training prompt, and the number left out: whole conversations are compared."""
    seen = set(map(squeezed, conversations(train)))
    kept = [problem for problem in evaluation if squeezed(problem.conversation) not in seen]
    return kept, len(evaluation) - len(kept)


def _read(task: TaskConfig, purpose: Purpose, need_answer: bool) -> Sequence[Problem]:
    kind, colon, name = task.source.partition(":")
    if kind == "lab" and colon:
        from esr.tasks.lab import problems

        return problems(name, dict(task.params), task.size, task.seed, purpose)
    if kind == "reasoning_gym" and colon:
        return generated.problems(name, task, purpose)
    if kind == "bfcl" and colon:
        return calls.problems(name, task)
    if task.source in code.NAMED:
        return code.problems(task, unsafe=getattr(task, "unsafe_code", False))
    if files.is_file(task.source):
        return files.problems(task, need_answer)
    if task.source in hub.NAMED or re.fullmatch(r"[\w.-]+/[\w.-]+", task.source):
        return hub.problems(task, purpose, need_answer)
    near = difflib.get_close_matches(task.source, hub.NAMED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(
        f"Task source {task.source!r} is unknown{hint}: give a hub data set as owner/name, a data file (.jsonl, .json, .csv,"
        f" .parquet), reasoning_gym:TASK, lab:TASK, or one of"
        f" {', '.join([*hub.NAMED, *code.NAMED, *(f'bfcl:{c}' for c in calls.CATEGORIES)])}."
    )
