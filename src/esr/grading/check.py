"""Before any response is graded: does each reference grade itself as right, and nonsense as wrong?"""

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from esr.errors import UserError
from esr.grading import GRADERS, answers, choice, python, text
from esr.grading.pool import LATE, WORKERS, judge
from esr.grading.spelling import spell
from esr.records.problem import Problem

CHECKED = 2_000
"""Most references that are given to a verifier; of more, so many are drawn."""
NONSENSE = "xyzzy"
NO_ANSWER = frozenset({"nan", "null", "proof", "notfound", "not found", "n/a", "-", "?", "inf"})
"""References that data sets write where they have none."""


@dataclass(frozen=True)
class Checked:
    """Problems whose reference can be graded."""

    problems: list[Problem]
    left_out: Counter[str]
    """The others, by reason."""
    unchecked: int
    """References that were not drawn for the check."""


def check(problems: Sequence[Problem]) -> Checked:
    """Leave out the problems whose reference fails; each different one is checked once, in the workers.

    Numbers, words and letters need no verifier. Raises `UserError` for an unknown grader.
    """
    by_key = {_key(p): p for p in problems}
    for name in {p.grader for p in problems}:
        known(name)
    faults = {key: _at_sight(p) for key, p in by_key.items()}
    unsure = [key for key, fault in faults.items() if fault is None]
    drawn = unsure if len(unsure) <= CHECKED else random.Random(0).sample(unsure, CHECKED)
    with ThreadPoolExecutor(WORKERS) as threads:
        found = threads.map(_by_verifier, [by_key[key] for key in drawn])
        faults |= dict(zip(drawn, found, strict=True))
    reasons = [faults[_key(p)] or "" for p in problems]
    kept = [p for p, reason in zip(problems, reasons, strict=True) if not reason]
    return Checked(kept, Counter(filter(None, reasons)), len(unsure) - len(drawn))


def known(grader: str) -> None:
    """Raises `UserError` for a grader that does not exist, or whose arguments are wrong."""
    kind = grader.partition(":")[0]
    if kind not in GRADERS or (":" in grader and kind not in ("text", "python")):
        raise UserError(
            f"Grader {grader!r} is unknown; choose answers, choice, text, text:RULE, python:FILE.py:FUNCTION or none."
        )
    if kind == "text":
        text.parse(grader)
    if kind == "python":
        python.locate(grader)


def _key(problem: Problem) -> tuple[str, str]:
    data = json.dumps(problem.data, sort_keys=True, default=str) if problem.grader == "gym" else ""
    return problem.grader, data or problem.answer or ""


def _at_sight(problem: Problem) -> str | None:
    """What is wrong with the reference; "" for nothing, None where the verifier has to say."""
    kind, answer = problem.grader.partition(":")[0], problem.answer or ""
    if kind == "answers":
        spelling = spell(answer)
        braces = re.sub(r"\\.", "", spelling.text)
        if spelling.key.casefold() in {"", *NO_ANSWER} or braces.count("{") != braces.count("}"):
            return "the reference is no answer"
        return "" if spelling.value is not None or spelling.words or spelling.label or spelling.base else None
    if kind == "choice":
        return "" if choice.letter(answer) else "the reference is no letter of a choice"
    if kind == "text":
        return _text_fault(text.parse(problem.grader)[0], answer)
    return None if kind in ("gym", "python") else ""


def _text_fault(rule: str, answer: str) -> str | None:
    if rule == "regex":
        try:
            re.compile(answer)
        except re.error:
            return "the reference is no regular expression"
        return None
    return "the reference is no number" if rule in ("numeric", "last") and spell(answer).value is None else ""


def _by_verifier(problem: Problem) -> str:
    """What is wrong with the reference or its verifier; "" for nothing, or no verdict in time."""
    if problem.grader.startswith("python:"):
        return "the grader calls nonsense right" if GRADERS["python"](problem, NONSENSE).last else ""
    if problem.grader == "gym":
        own = str(problem.data["entry"].get("answer") or "")
        verdicts = judge("gym", problem.data, [NONSENSE, own] if own else [NONSENSE], own=own or None)
    elif problem.grader.startswith("text:"):
        verdicts = judge("text", problem.answer, [NONSENSE])
    else:
        own = answers.verifiable(problem.answer or "")
        verdicts = judge("answers", own, [rf"\boxed{{{NONSENSE}}}", own])
    if verdicts[0].right:
        return "the verifier calls nonsense right"
    fine = all(verdict.right or verdict.note == LATE for verdict in verdicts[1:])
    return "" if fine else "the verifier does not call the reference right"
