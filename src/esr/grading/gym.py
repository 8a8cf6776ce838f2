"""Answers to reasoning-gym problems, scored by the task's own verifier."""

import ast
import functools
import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from esr.grading.answers import by_weight, summary
from esr.grading.find import MARK, TAIL, after_thinking, extract
from esr.grading.pool import judge
from esr.grading.spelling import WRAPPED
from esr.grading.verdict import Verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem

RIGHT = 0.99  # score from which a verifier calls an answer right
NUMBER = re.compile(r"-?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:/[0-9]{1,40})?")
_FRACTION = re.compile(r"(?<![0-9}])(-?)\\[dt]?frac\{(-?[0-9]{1,40})\}\{([0-9]{1,40})\}")
_GROUPED = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9])")
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_EVALUATES = re.compile(r"(?<!literal_)\b(?:eval|exec|parse_expr|sympify)\(")
_HARMLESS = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.BinOp,
    ast.operator, ast.unaryop, ast.Call, ast.Compare, ast.Eq,
)  # fmt: skip
_FUNCTIONS = frozenset(
    [
        "sqrt",
        "exp",
        "log",
        "ln",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "sec",
        "csc",
        "cot",
        "Abs",
        "abs",
    ]
)


def grade(problem: Problem, text: str) -> Grade:
    """Each boxed answer; without a box, what follows the last "Answer:", else the last line (or number)."""
    oracle, final = str(problem.data["entry"].get("answer") or ""), after_thinking(text)
    found = [_answer(answer, oracle) for answer in extract(final)] or [_unboxed(final, oracle)]
    if not found[-1]:
        return Grade(first=False, last=False, any=False)
    order = by_weight(found)
    judged = judge("gym", problem.data, order, own=oracle or None)
    return summary(found, dict(zip(order, judged, strict=True)))


def _answer(found: str, oracle: str) -> str:
    """The part of a found answer that the task's verifier reads: a number where the oracle is one."""
    text = WRAPPED.sub(r"\1", found).strip().strip("*$`").strip()
    if NUMBER.fullmatch(oracle):
        numbers = re.findall(rf"(?<![0-9.])(?:{NUMBER.pattern})", _plain(text.replace("−", "-")))
        return numbers[-1].rstrip(".") if numbers else text
    return text if oracle.endswith(".") else text.rstrip(".")


def _plain(text: str) -> str:
    """Fractions as `a/b`, numbers without thousands separators."""
    return _FRACTION.sub(r"\1\2/\3", _GROUPED.sub(lambda m: re.sub(r"[{},]", "", m[0]), text))


def _unboxed(text: str, oracle: str) -> str:
    """What follows the last "Answer:" (a number in the line that follows), else the last line (number) of the text."""
    numeric, marks = NUMBER.fullmatch(oracle), list(_TAG.finditer(text)) or list(MARK.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].partition("</answer>")[0].strip("* \n")
        if not numeric:
            return _answer(rest, oracle)
        line = rest.partition("\n")[0]
        bold = re.match(r"([^*`]*)(?:\*\*|`)", line)
        return _answer(bold[1] if bold and re.search("[0-9]", bold[1]) else line, oracle)
    return _answer(text[-TAIL:] if numeric else text.strip().rpartition("\n")[2], oracle)


def checker() -> Callable[[dict[str, Any], str], Verdict]:
    """The verifier of a task with its parameters (worker side). One that evaluates the answer as code gets only answers
    that are literals or formulas; others are wrong."""

    def check(reference: dict[str, Any], candidate: str) -> Verdict:
        task = _task(reference["task"], json.dumps(reference.get("params", {}), sort_keys=True))
        oracle = reference["entry"].get("answer")
        if candidate != oracle and _evaluates(type(task).__module__) and not harmless(candidate):
            return Verdict(False, candidate, note="neither a literal nor a formula, so not given to this verifier")
        return Verdict(float(task.score_answer(candidate, reference["entry"])) >= RIGHT, candidate)

    return check


def harmless(answer: str) -> bool:
    """Whether evaluating this text can only compute a literal or a formula: no attribute, no call but of a function of
    mathematics, no comprehension."""
    try:
        tree = ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        calls = re.findall(r"(\w+)\s*\(", answer)
        return not re.search(r"[_'\"@:\\]|\.\s*[A-Za-z]|[\])]\s*\(", answer) and _FUNCTIONS.issuperset(
            name for name in calls if not name.isdigit()
        )
    return all(isinstance(node, _HARMLESS) and _tame(node) for node in ast.walk(tree))


def _tame(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
    return not (isinstance(node, ast.Name) and "__" in node.id)


@functools.cache
def _evaluates(module: str) -> bool:
    """Whether the module of a verifier evaluates text as code."""
    return bool(_EVALUATES.search(inspect.getsource(sys.modules[module])))


@functools.lru_cache(maxsize=8)
def _task(name: str, params: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(params), size=1, seed=0)
