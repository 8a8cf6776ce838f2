"""Is a response right? Answers are found here and compared in worker processes that can be killed. No torch here."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from esr.grading import answers, choice, code, gym, python, text, tools
from esr.grading.pool import WORKERS
from esr.records.evaluation import Grade
from esr.records.problem import Problem
from esr.tasks import lab

GRADERS: dict[str, Callable[[Problem, str], Grade]] = {
    "answers": answers.grade,
    "choice": choice.grade,
    "text": text.grade,
    "gym": gym.grade,
    "python": python.grade,
    "code": code.grade,
    "tools": tools.grade,
    "lab": lab.grade,
}
"""How a response is checked, by the part of `Problem.grader` before its first colon."""


def grade(problems: Sequence[Problem], texts: Sequence[str]) -> list[Grade]:
    """One `Grade` for each response; `texts[i]` answers `problems[i]`.

    A verifier that dies or takes longer than 5 s of processor time for a response leaves None for what it did not
    decide, never "wrong". One that raises leaves None too, unless it is right about the reference itself: then the
    answer is malformed, and wrong. Raises `UserError` for a problem without a reference answer, and when no worker can start.
    """
    if len(problems) != len(texts):
        raise ValueError(f"{len(problems)} problems, but {len(texts)} texts")
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(_grade, problems, texts))


def _grade(problem: Problem, response: str) -> Grade:
    return GRADERS[problem.grader.partition(":")[0]](problem, response)


def majority(grades: Sequence[Grade]) -> float:
    """Whether the most frequent answer is right: 1 or 0, or the right share of those that tie.

    Responses without an answer vote together, and are never right. Raises `ValueError` for no grades.
    """
    votes = Counter(grade.answer for grade in grades)
    top = [answer for answer, count in votes.items() if count == max(votes.values())]
    right = {grade.answer for grade in grades if grade.last and grade.answer is not None}
    if not top:
        raise ValueError("no grades to take a majority of")
    return len(right.intersection(top)) / len(top)
