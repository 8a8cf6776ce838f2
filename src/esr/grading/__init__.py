"""Is a response right? Answers are found here and compared in worker processes that can be killed. No torch here."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from esr.grading.gym import grade_gym
from esr.grading.math import grade_math
from esr.grading.pool import WORKERS
from esr.records.evaluation import Grade
from esr.records.problem import Problem


def grade(problems: Sequence[Problem], texts: Sequence[str]) -> list[Grade]:
    """One `Grade` for each response; `texts[i]` answers `problems[i]`.

    `math`: boxed answers are compared with the reference, as normalised strings and whole numbers where that decides,
    else by math-verify. A response without a box is judged by what math-verify itself finds in its last 2,000
    characters ("The answer is 12."), which then counts as its first, last and only answer.
    `reasoning_gym`: the task's own verifier scores each boxed answer; without a box, what follows the last "Answer:",
    else the last line (the last number, if the reference is one).
    `lab`: see `esr.tasks.lab`.
    A verifier that raises, dies or takes longer than 5 s for a response leaves None for what it did not decide, never
    "wrong". Raises `UserError` for a problem without a reference answer, and when no worker can start.
    """
    if len(problems) != len(texts):
        raise ValueError(f"{len(problems)} problems, but {len(texts)} texts")
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(_grade, problems, texts))


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


def _grade(problem: Problem, text: str) -> Grade:
    if problem.grader == "lab":
        from esr.tasks import lab as task

        return task.grade(problem, text)
    return grade_gym(problem, text) if problem.grader == "reasoning_gym" else grade_math(problem, text)
