"""Mathematical answers: by their spelling and value where that decides, else by math-verify."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from esr.errors import UserError
from esr.grading.find import TAIL, after_thinking, extract, in_parts, is_prose, unboxed
from esr.grading.pool import judge
from esr.grading.spelling import AnswerParts, spell
from esr.grading.verdict import Verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem

TOLERANCE = Fraction(1, 10**6)  # of a decimal, relative: rounded to six figures is right


def grade(problem: Problem, text: str) -> Grade:
    """The grade of a response by its boxed answers, else by the one that its words mark ("The answer is **12**")."""
    if problem.answer is None:
        raise UserError(f"Problem {problem.id} has no reference answer; set the task's `answer` column.")
    if not text.strip():
        return Grade(first=False, last=False, any=False)
    final = after_thinking(text)
    found = extract(final) or ([] if final is not text and unboxed(final) else extract(text))
    if not found:
        return _without_box(problem.answer, final)
    together = in_parts(final, len(items)) if (items := parts(problem.answer)) else None
    verdicts = compare(problem.answer, by_weight(found) + ([together] if together else []))
    if together and verdicts[together].right and not verdicts[found[-1]].right:
        verdicts |= {found[-1]: Verdict(True), found[-len(items or ())]: Verdict(True)}
    return summary(found, {answer: verdicts[answer] for answer in found})


def _without_box(reference: str, text: str) -> Grade:
    """Judged by the marked answer; where nothing is marked, by what math-verify itself finds in the tail."""
    answer = unboxed(text)
    if answer is not None and not is_prose(answer):
        return summary([answer], compare(reference, [answer]))
    gold = verifiable(reference)
    verdict = judge("answers", gold, [answer or text[-TAIL:]], own=gold)[0]
    if verdict.found is None:
        return Grade(first=verdict.right, last=verdict.right, any=verdict.right, note=verdict.note)
    sure = same(verdict.found, reference)
    return summary([verdict.found], {verdict.found: verdict if sure is None else Verdict(sure)})


def compare(reference: str, answers: Sequence[str]) -> dict[str, Verdict]:
    """A verdict on each different answer; neither right nor wrong where math-verify failed or was late."""
    verdicts = {answer: Verdict(same(answer, reference)) for answer in answers}
    unsure = [answer for answer, verdict in verdicts.items() if verdict.right is None]
    gold = verifiable(reference)
    judged = judge("answers", gold, [verifiable(answer) for answer in unsure], own=gold)
    return verdicts | dict(zip(unsure, judged, strict=True))


def normalise(answer: str) -> str:
    """The key of voting: one spelling for answers that are surely the same."""
    if items := parts(answer):
        return ", ".join(sorted(spell(item).key for item in items))
    spelling = spell(answer)
    name = "" if spelling.value is not None else spelling.name
    unit = "" if spelling.unit in ("", "°", "%", "$") else f" {spelling.unit}"
    key = spelling.key + unit + (f"_{spelling.base}" if spelling.base else "")
    return key.removeprefix(name) if name.endswith("=") else key


def same(answer: str, reference: str) -> bool | None:
    """Whether two answers are surely the same (True) or surely not (False); None where math-verify has to say."""
    left, right = spell(answer), spell(reference)
    if not left.key or not right.key:
        return False
    if (verdict := _by_label(left, right)) is not None:
        return verdict
    items = parts(answer), parts(reference)
    if items[1] and (items[0] or _by_commas(answer)):
        return _lists(items[0] or _by_commas(answer), items[1])
    if (items[0] and right.value is not None) or (items[1] and left.value is not None):
        return _no_spaces(answer) == _no_spaces(reference)
    if (verdict := _by_kind(left, right)) is not None:
        return verdict
    return True if left.key == right.key or _right_side(left) == _right_side(right) else None


def parts(answer: str) -> list[str] | None:
    """The items of a list: separated by commas outside brackets, "and", "or"; None for one answer.

    A comma between digits without a space is a thousands separator where it can be one.
    """
    if spell(answer).value is not None or spell(answer).words:
        return None
    return _split(answer, r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*|;|(?<!\\),(?![!])")


def _by_commas(answer: str) -> list[str] | None:
    """Every comma as a separator: for `201,102` where the reference is a list."""
    return _split(answer, r"(?<!\\),")


def _split(answer: str, separator: str) -> list[str] | None:
    items, depth, start = [], 0, 0
    text = answer.strip().strip("$").rstrip(".")
    for token in re.finditer(rf"(?P<open>[\[({{])|(?P<close>[\])}}])|{separator}", text):
        depth += bool(token["open"]) - bool(token["close"])
        if depth == 0 and not token["open"] and not token["close"]:
            items.append(text[start : token.start()])
            start = token.end()
    items = [item.strip() for item in [*items, text[start:]] if item.strip()]
    return items if len(items) > 1 and not re.search(r"[=<>]|\\[gl]e|\\pm", text) else None


def _lists(left: list[str] | None, right: list[str]) -> bool | None:
    """Lists in any order: pairs of items that are surely the same; math-verify has a say only if none is surely wrong."""
    if left is None or len(left) != len(right):
        return False if left and all(spell(item).value is not None for item in [*left, *right]) else None
    rest = list(right)
    for item in left:
        match = next((other for other in rest if same(item, other)), None)
        if match is None:
            return False if all(spell(i).value is not None or spell(i).words for i in [*left, *right]) else None
        rest.remove(match)
    return True


def _by_label(left: AnswerParts, right: AnswerParts) -> bool | None:
    """Multiple choice: by the letter where the reference is one or both have one."""
    letters = [s.label or (s.key if re.fullmatch("[A-J]", s.key) else "") for s in (left, right)]
    if right.label and left.label:
        return letters[0] == letters[1]
    if right.label:
        return True if letters[0] == right.label else False if right.key == right.label and letters[0] else None
    return letters[0] == right.key if left.label and letters[1] else None


def _by_kind(left: AnswerParts, right: AnswerParts) -> bool | None:
    if left.base or right.base:
        return (left.base, left.key) == (right.base, right.key)
    if left.value is not None and right.value is not None:
        return _values(left, right)
    if left.unit and right.unit and left.unit != right.unit:
        return False
    if left.words and right.words:
        return left.key == right.key and left.unit == right.unit
    if (left.words and right.value is not None) or (right.words and left.value is not None):
        return False
    return None


def _values(left: AnswerParts, right: AnswerParts) -> bool:
    """Numbers: equal; a rounded decimal to six figures; a percentage also as its share. Units only differ if both have one."""
    assert left.value is not None and right.value is not None
    if left.name and right.name and left.name != right.name:
        return False
    if left.unit and right.unit and left.unit != right.unit:
        return False
    slack = TOLERANCE * abs(right.value) if left.decimal or right.decimal else 0
    shares = (
        [1] + [100] * (left.unit == "%" and not right.unit) + [Fraction(1, 100)] * (right.unit == "%" and not left.unit)
    )
    return any(abs(left.value - right.value * share) <= slack * share for share in shares)


def _right_side(spelling: AnswerParts) -> str:
    """What stands after `x =`, unless it is the left side of a relation."""
    return spelling.key.removeprefix(spelling.name) if spelling.name.endswith(("=", r"\in")) else spelling.key


def _no_spaces(text: str) -> str:
    return re.sub(r"\s", "", text).strip("$.")


def verifiable(answer: str) -> str:
    """An answer as math-verify reads it: boxed LaTeX without units and labels."""
    items = parts(answer)
    text = ", ".join(_item(item) for item in items) if items else _item(answer)
    return rf"\boxed{{{text}}}"


def _item(answer: str) -> str:
    spelling = spell(answer)
    percent = r"\%" if spelling.unit == "%" else ""
    return (spelling.text if spelling.value is None or spelling.decimal else str(spelling.value)) + percent


def summary(answers: list[str], verdicts: dict[str, Verdict], key: Callable[[str], str] = normalise) -> Grade:
    """The grade of a response with these answers, given the verdict on each different one."""
    rights = {verdict.right for verdict in verdicts.values()}
    best = True if True in rights else None if None in rights else False
    first, last = verdicts[answers[0]], verdicts[answers[-1]]
    return Grade(
        first=first.right, last=last.right, any=best, answer=key(answers[-1]), answers=len(answers), note=last.note
    )


def by_weight(answers: list[str]) -> list[str]:
    """Different answers, those that matter most first: a deadline cuts the others off."""
    return list(dict.fromkeys([answers[-1], answers[0], *answers]))
