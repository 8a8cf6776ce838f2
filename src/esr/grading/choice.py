"""Multiple choice: the letter that a response settles on."""

import re

from esr.errors import UserError
from esr.grading.answers import summary
from esr.grading.find import TAIL, after_thinking, extract, unboxed
from esr.grading.spelling import spell
from esr.grading.verdict import Verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem

_LETTER = re.compile(
    r"(?:option|choice)\s+(?:is\s+)?\(?([A-J])\b|\(([A-J])\)|^\W*([A-J])\W*$|^\W*([A-J])[).:]\s", re.IGNORECASE | re.M
)


def grade(problem: Problem, text: str) -> Grade:
    """The last letter against the reference's: boxed, after "the answer is", else the last `(B)`, `Option B` or line `B`."""
    if (reference := letter(problem.answer or "")) is None:
        raise UserError(f"Problem {problem.id}: the reference of a `choice` must be a letter from A to J.")
    final = after_thinking(text)
    found = [letter(answer) for answer in extract(final) or [unboxed(final) or ""]]
    chosen = [each for each in found if each] or _loose(final)
    if not chosen:
        return Grade(first=False, last=False, any=False)
    return summary(chosen, {each: Verdict(each == reference) for each in chosen}, key=str)


def letter(answer: str) -> str | None:
    """The letter of an answer such as `B`, `(B)`, `B) 12`, `Option B`; None if it has none."""
    spelling = spell(answer)
    alone = spelling.key.upper()
    return spelling.label or (alone if re.fullmatch("[A-J]", alone) else None)


def _loose(text: str) -> list[str]:
    found = [next(group for group in match.groups() if group) for match in _LETTER.finditer(text[-TAIL:])]
    return [each.upper() for each in found[-1:]]
