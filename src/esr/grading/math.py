"""Mathematical answers: by normalised text and whole numbers where that decides, else by math-verify."""

from esr.errors import UserError
from esr.grading.answers import TAIL, WORDS, by_weight, extract, normalise, number, summary
from esr.grading.pool import judge
from esr.records.evaluation import Grade
from esr.records.problem import Problem


def grade_math(problem: Problem, text: str) -> Grade:
    if problem.answer is None:
        raise UserError(f"Problem {problem.id} has no reference answer; set the task's `answer` column.")
    reference = rf"\boxed{{{problem.answer}}}"
    if not text.strip():
        return Grade(first=False, last=False, any=False)
    boxed = extract(text)
    if not boxed:
        right, found = judge("math", reference, [text[-TAIL:]])[0]
        key = normalise(found) if found else None
        return Grade(first=right, last=right, any=right, answer=key, answers=int(bool(found)))
    verdicts = {answer: _same(answer, problem.answer) for answer in by_weight(boxed)}
    unsure = [answer for answer, verdict in verdicts.items() if verdict is None]
    judged = judge("math", reference, [rf"\boxed{{{answer}}}" for answer in unsure])
    return summary(boxed, verdicts | {answer: right for answer, (right, _) in zip(unsure, judged, strict=True)})


def _same(answer: str, reference: str) -> bool | None:
    """Whether two answers are surely the same (True) or surely not (False); None where math-verify has to say."""
    left, right = normalise(answer), normalise(reference)
    if left == right:
        return bool(left)
    whole = [value is not None and value.denominator == 1 for value in (number(left), number(right))]
    words = WORDS.fullmatch(left) and WORDS.fullmatch(right) and len(right) > 3  # to math-verify a product of letters
    return False if all(whole) or words else None
