"""Answers as text: `text` (exact), `text:contains`, `text:regex`, `text:numeric`, `text:numeric:TOLERANCE` or `text:last`."""

import re
from collections.abc import Callable

from esr.errors import UserError
from esr.grading.find import after_thinking, extract, unboxed
from esr.grading.pool import judge
from esr.grading.spelling import spell
from esr.grading.verdict import Verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem

RULES = ("exact", "contains", "regex", "numeric", "last")
_NUMBER = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,40})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")


def grade(problem: Problem, text: str) -> Grade:
    """By the rule after the colon, against what follows the thinking.

    `exact`: the boxed or marked answer, or the whole response, is the reference up to spaces at its ends. `contains`:
    the response contains it. `regex`: the reference, a pattern, is found in it (in a worker: a pattern can take
    forever). `numeric`: the answer, or the last number, differs by at most TOLERANCE (1e-6) times the reference. `last`: the
    last number of the response is the reference, whatever marks another one as the answer.
    """
    rule, tolerance = parse(problem.grader)
    if not problem.answer:
        raise UserError(f"Problem {problem.id} has no reference answer; set the task's `answer` column.")
    final = after_thinking(text).strip()
    answer = (extract(final) or [unboxed(final) or final])[-1]
    if rule == "regex":
        verdict = judge("text", problem.answer, [final])[0]
        return Grade(first=verdict.right, last=verdict.right, any=verdict.right, note=verdict.note, answers=1)
    if rule == "contains":
        right = problem.answer in final
    elif rule == "last":
        answer = (_NUMBER.findall(final) or [""])[-1]
        right = _close(answer, problem.answer, 0)
    elif rule == "exact":
        right = problem.answer.strip() in (answer.strip(), final)
    else:
        right = _close(answer, problem.answer, tolerance)
    return Grade(first=right, last=right, any=right, answer=answer[:200] or None, answers=int(bool(final)))


def parse(grader: str) -> tuple[str, float]:
    """Rule and tolerance. Raises `UserError` for others than those there are."""
    _, rule, tolerance = (*grader.split(":", 2), "", "")[:3]
    rule = rule or "exact"
    try:
        allowed = float(tolerance or 1e-6)
    except ValueError:
        allowed = -1.0
    if rule not in RULES or not 0 <= allowed < 1 or (tolerance and rule != "numeric"):
        raise UserError(f"Grader {grader!r}: write text:RULE with a rule of {', '.join(RULES)}, or text:numeric:0.01.")
    return rule, allowed


def checker() -> Callable[[str, str], Verdict]:
    """Searches a pattern (worker side)."""
    return lambda pattern, candidate: Verdict(re.search(pattern, candidate) is not None)


def _close(answer: str, reference: str, tolerance: float) -> bool:
    gold, found = spell(reference).value, spell(answer).value
    if found is None and (numbers := _NUMBER.findall(answer)):
        found = spell(numbers[-1]).value
    return gold is not None and found is not None and abs(found - gold) <= tolerance * abs(gold)
