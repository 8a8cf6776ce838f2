"""Function calls: found in a response in the formats that models write, and compared by two rules that never share a name.

`bfcl_ast` is the Berkeley Function-Calling Leaderboard's rule for single-turn Python calls (v4; its checker's verdicts are
reproduced, oddities included). `authors_fc` is the looser rule that the ESR paper's authors used for their "BFCL" numbers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from esr.grading.calls import Call, Function, calls
from esr.records.evaluation import Grade
from esr.records.problem import Problem

Truth = Mapping[str, Mapping[str, Sequence[Any]]]
"""{name: {parameter: allowed values}}; "" among the values: it may be left out."""

TYPES = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict, "any": str,
}  # fmt: skip
"""Python type of each type of BFCL's descriptions."""

_LOOSE = re.compile(r"[ ,./\-_*^]")


def grade(problem: Problem, text: str) -> Grade:
    """Whether the calls in `text` are those of the problem, by `problem.data["rule"]`: `bfcl_ast` or `authors_fc`.

    `problem.data` has `functions`, `truth` (a list of `Truth`) and `parallel` (calls in any order).
    """
    functions, truth = problem.data["functions"], problem.data["truth"]
    found = calls(text, functions)
    if not found:
        return Grade(first=False, last=False, any=False)
    if problem.data["rule"] == "authors_fc":
        right = authors_fc(found, truth)
    else:
        right = bfcl_ast(functions, found, truth, problem.data.get("parallel", False))
    answer = json.dumps(found, sort_keys=True, default=str)
    return Grade(first=right, last=right, any=right, answer=answer, answers=len(found))


# BFCL's rule


def bfcl_ast(
    functions: Sequence[Function], found: Sequence[Call], truth: Sequence[Truth], parallel: bool = False
) -> bool:
    """BFCL v4's verdict on single-turn Python calls: as many calls as expected, each with a function, parameters and values that
    are allowed; `parallel` calls in any order, each expected one taking the first that fits."""
    if len(found) != len(truth):
        return False
    left = list(found)
    for expected in truth:
        (name,) = expected
        described = next((f for f in functions if f["name"] == name), None)
        if described is None:
            return False
        fitting = next((call for call in left if _fits(described, call, expected[name])), None)
        if fitting is None or (not parallel and fitting is not left[0]):
            return False
        left.remove(fitting)
    return True


def _fits(function: Function, call: Call, allowed: Mapping[str, Sequence[Any]]) -> bool:
    name, arguments = call
    properties = function["parameters"]["properties"]
    if name != function["name"] or any(p not in arguments for p in function["parameters"].get("required", [])):
        return False
    if any(p not in arguments and "" not in values for p, values in allowed.items()):
        return False
    return all(p in properties and p in allowed and _allows(properties[p], v, allowed[p]) for p, v in arguments.items())


def _allows(described: Mapping[str, Any], value: Any, allowed: Sequence[Any]) -> bool:
    """Whether a parameter's type is as described (or as in the allowed values) and its value is an allowed one."""
    kind = TYPES[described["type"]]
    inner = TYPES[described["items"]["type"]] if described["type"] in ("array", "tuple") else None
    if described["type"] == "tuple" and type(value) is tuple:
        value = list(value)
    if kind is float and type(value) is int:
        value = float(value)
    typed, variable = _typed(value, allowed, kind, inner)
    if not typed:
        return False
    if variable:
        return value in allowed
    if kind is dict:
        return _dict_allowed(value, allowed)
    if kind is list and inner is dict:
        return _dicts_allowed(value, allowed)
    if kind is str:
        return _plain(value) in [_plain(item) for item in allowed if type(item) is str]
    if kind is list:
        return [_plain(v) for v in value] in [[_plain(item) for item in items] for items in allowed]
    return value in allowed


def _typed(value: Any, allowed: Sequence[Any], kind: Any, inner: Any) -> tuple[bool, bool]:
    """Whether the type is right, and whether the allowed values say that it is a variable (of another type than described)."""
    given = next((type(item) for item in allowed if item != ""), None)
    variable = given is not None and given is not kind
    if type(value) is kind:
        if inner is None:
            return True, variable
        for items in allowed:
            if type(items) is not list or all(_typed(item, items, inner, None)[0] for item in value):
                return True, variable
        return False, variable
    return given is not None and type(value) is given, True


def _plain(value: Any) -> Any:
    """Text without case, spaces and punctuation that people set differently; anything else as it is."""
    return _LOOSE.sub("", value).lower().replace("'", '"') if type(value) is str else value


def _dict_allowed(value: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    return any(
        all(key in item and _plain(v) in [_plain(a) for a in item[key]] for key, v in value.items())
        and all(key in value or "" in values for key, values in item.items())
        for item in allowed
        if item != ""
    )


def _dicts_allowed(value: Sequence[Any], allowed: Sequence[Any]) -> bool:
    return any(
        len(items) == len(value)
        and all(isinstance(v, dict) and _dict_allowed(v, [item]) for v, item in zip(value, items, strict=True))
        for items in allowed
    )


# The authors' rule


def authors_fc(found: Sequence[Call], truth: Sequence[Truth]) -> bool:
    """The looser rule of the ESR paper's numbers: calls are keyed by name (the last of a name counts), further calls and
    further arguments are ignored, and values are equal as numbers or as text without case."""
    named = dict(found)
    for expected in truth:
        for name, parameters in expected.items():
            if name not in named:
                return False
            for parameter, allowed in parameters.items():
                if parameter not in named[name]:
                    if "" not in allowed:
                        return False
                elif not any(_loosely(named[name][parameter], item) for item in allowed):
                    return False
    return True


def _loosely(value: Any, expected: Any) -> bool:
    try:
        return float(value) == float(expected)
    except (TypeError, ValueError):
        return str(value).strip().lower() == str(expected).strip().lower()
