"""Where problems come from: files, hub data sets, generators, the lab. No torch here."""

import difflib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from esr.config import TaskConfig
from esr.errors import UserError
from esr.records.problem import Problem
from esr.tasks import calls, code, files, generated, hub

Purpose = Literal["train", "eval"]


def load(task: TaskConfig, purpose: Purpose, need_answer: bool) -> list[Problem]:
    """The problems of a task in their own order, cut down to `task.limit` of them drawn with `task.seed`.

    Ids are unique and stable between runs: source, position, hash of the question. Generated evaluation problems come
    from other random states than training prompts (`disjoint` removes equal questions). Files and hub data sets need,
    and give, answers only with `need_answer`. An evaluation has each
    question once. Raises `UserError` if the source cannot be read or has no problem.
    """
    problems = _read(task, purpose, need_answer)
    if purpose == "eval":
        problems = list({" ".join(p.question.split()): p for p in reversed(problems)}.values())[::-1]
    if task.limit is None or task.limit >= len(problems):
        return problems
    return [problems[i] for i in sorted(random.Random(task.seed).sample(range(len(problems)), task.limit))]


def describe(task: TaskConfig) -> str:
    """A short name of the task for records: `gsm8k`, `owner/name/subset/split`, a file's name, `reasoning_gym:TASK`."""
    if _is_file(task.source):
        return Path(task.source).name
    return "/".join(part for part in (task.source, task.subset, task.split) if part)


def disjoint(train: Sequence[Problem], evaluation: Sequence[Problem]) -> tuple[list[Problem], int]:
    """The evaluation problems whose question is no training prompt, and the number left out."""
    seen = {" ".join(problem.question.split()) for problem in train}
    kept = [problem for problem in evaluation if " ".join(problem.question.split()) not in seen]
    return kept, len(evaluation) - len(kept)


def _read(task: TaskConfig, purpose: Purpose, need_answer: bool) -> list[Problem]:
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
    if _is_file(task.source):
        return files.problems(task, need_answer)
    if task.source in hub.NAMED or re.fullmatch(r"[\w.-]+/[\w.-]+", task.source):
        return hub.problems(task, purpose, need_answer)
    near = difflib.get_close_matches(task.source, hub.NAMED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(
        f"Task source {task.source!r} is unknown{hint}: give a hub data set as owner/name, a .jsonl or .parquet file,"
        f" reasoning_gym:TASK, lab:TASK, or one of {', '.join([*hub.NAMED, *code.NAMED, *(f'bfcl:{c}' for c in calls.CATEGORIES)])}."
    )


def _is_file(source: str) -> bool:
    return Path(source).suffix in files.SUFFIXES
