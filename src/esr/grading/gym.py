"""Answers to reasoning-gym problems, scored by the task's own verifier."""

import re

from esr.grading.answers import _ANSWER, NUMBER, TAIL, WRAPPED, by_weight, extract, plain, summary
from esr.grading.pool import judge
from esr.records.evaluation import Grade
from esr.records.problem import Problem


def grade_gym(problem: Problem, text: str) -> Grade:
    oracle = str(problem.data["entry"].get("answer") or "")
    found = [_gym_answer(answer, oracle) for answer in extract(text)] or [_gym_unboxed(text, oracle)]
    if not found[-1]:
        return Grade(first=False, last=False, any=False)
    order = by_weight(found)
    judged = judge("reasoning_gym", problem.data, order)
    return summary(found, {answer: right for answer, (right, _) in zip(order, judged, strict=True)})


def _gym_answer(found: str, oracle: str) -> str:
    """The part of a found answer that the task's verifier reads: a number where the oracle is one."""
    text = WRAPPED.sub(r"\1", found).strip().strip("*$").strip()
    if NUMBER.fullmatch(oracle):
        numbers = re.findall(rf"(?<![0-9.])(?:{NUMBER.pattern})", plain(text.replace("−", "-")))
        return numbers[-1].rstrip(".") if numbers else text
    return text if oracle.endswith(".") else text.rstrip(".")


def _gym_unboxed(text: str, oracle: str) -> str:
    """What follows the last "Answer:" (a number in the line that follows), else the last line (number) of the text."""
    numeric, marks = NUMBER.fullmatch(oracle), list(_ANSWER.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].partition("</answer>")[0].strip("* \n")
        return _gym_answer(rest.partition("\n")[0] if numeric else rest, oracle)
    return _gym_answer(text[-TAIL:] if numeric else text.strip().rpartition("\n")[2], oracle)
