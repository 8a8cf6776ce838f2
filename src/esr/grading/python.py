"""The user's own grader, `python:FILE.py:FUNCTION`: called with the problem and the text of the response."""

import importlib.util
import math
import sys
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.grading.pool import judge
from esr.grading.verdict import Verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem


def grade(problem: Problem, text: str) -> Grade:
    """What `FUNCTION(problem, response)` says: true or false, or a score in [0, 1]; with remarks as (score, remarks).

    `problem` is a dict: id, question, answer, data. Right is a score of 1. A function that raises, does not return in
    time, or returns something else leaves None, with a note that says so. Raises `UserError` if there is no such file.
    """
    file, function = locate(problem.grader)
    verdict = judge("python", (str(file), function, problem.model_dump(exclude={"grader"})), [text])[0]
    note = verdict.note or ("no verdict in time" if verdict.right is None else None)
    right = verdict.right
    return Grade(first=right, last=right, any=right, score=verdict.score, note=note, answers=int(bool(text.strip())))


def locate(grader: str) -> tuple[Path, str]:
    """File and function of `python:FILE.py:FUNCTION`. Raises `UserError` if it is written wrongly or not there."""
    path, colon, function = grader.removeprefix("python:").rpartition(":")
    if not colon or not path or not function.isidentifier():
        raise UserError(f"Grader {grader!r}: write python:FILE.py:FUNCTION.")
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise UserError(f"Grader {grader!r}: there is no file {file}.")
    return file, function


def checker() -> Callable[[Any, str], Verdict]:
    """Calls the user's function (worker side); each file is run once in a process."""
    modules: dict[str, Any] = {}

    def check(reference: tuple[str, str, dict[str, Any]], candidate: str) -> Verdict:
        file, name, problem = reference
        if file not in modules:
            modules[file] = _load(file)
        return _verdict(getattr(modules[file], name)(problem, candidate))

    return check


def _load(file: str) -> Any:
    sys.path.insert(0, str(Path(file).parent))
    spec = importlib.util.spec_from_file_location(f"esr_user_grader_{Path(file).stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(returned: Any) -> Verdict:
    score, remarks = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    score = score.item() if hasattr(score, "item") else score
    if not isinstance(score, Real) or not 0 <= float(score) <= 1 or math.isnan(float(score)):
        return Verdict(note=f"the grader returned {returned!r:.100}, not true, false or a score in [0, 1]")
    exact = None if isinstance(score, bool) else float(score)
    return Verdict(right=float(score) == 1, score=exact, note=None if remarks is None else str(remarks)[:1000])
