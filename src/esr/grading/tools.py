"""Function calls: found in a response in the formats that models write, and compared by two rules that never share a name.

`bfcl_ast` is the Berkeley Function-Calling Leaderboard's rule for single-turn Python calls (v4; its checker's verdicts are
reproduced, oddities included). `authors_fc` is the looser rule that the ESR paper's authors used for their "BFCL" numbers.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esr.records.evaluation import Grade
from esr.records.problem import Problem

Call = tuple[str, dict[str, Any]]
"""Name and arguments."""
Function = Mapping[str, Any]
"""A function's description: `name`, and `parameters` with `properties` and `required`."""
Truth = Mapping[str, Mapping[str, Sequence[Any]]]
"""{name: {parameter: allowed values}}; "" among the values: it may be left out."""

TYPES = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict, "any": str,
}  # fmt: skip
"""Python type of each type of BFCL's descriptions."""

_TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_NAMED = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{)")
_FENCE = re.compile(r"```(?:tool_code|tool_call|python|json)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
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


def calls(text: str, functions: Sequence[Function] = ()) -> list[Call]:
    """The function calls in a response; [] if there are none that can be read.

    Hermes and Qwen (`<tool_call>{"name", "arguments"}</tool_call>`, or with `<function=...>` inside, whose values are text until
    the description in `functions` says what they are), Mistral (`[TOOL_CALLS]` before a list or before each name), Llama 3
    (`{"name", "parameters"}`, several with `;` between), Gemma (a `tool_code` block), a JSON list of calls, and BFCL's own
    `[f(a=1), g(b="x")]`. Thoughts before `</think>` do not count.
    """
    text = text.rpartition("</think>")[2].replace("<|python_tag|>", "").strip()
    if "<tool_call>" in text or "<function=" in text:
        bodies = _TOOL_CALL.findall(text) or [text]
        return [call for body in bodies for call in (_xml(body, functions) or _json(body))]
    if named := list(_NAMED.finditer(text)):
        return [(m[1], _object(text[m.end() :])) for m in named]
    text = text.partition("[TOOL_CALLS]")[2] or text
    for body in [*_FENCE.findall(text), text]:
        if found := _json(body) or _python(body):
            return found
    return []


def _xml(body: str, functions: Sequence[Function]) -> list[Call]:
    found = []
    for name, inner in _FUNCTION.findall(body):
        properties = [f["parameters"]["properties"] for f in functions if f["name"] == name]
        kinds = {k: described.get("type") for each in properties[:1] for k, described in each.items()}
        found.append((name, {k: _value(v, kinds.get(k)) for k, v in _PARAMETER.findall(inner)}))
    return found


def _value(text: str, kind: str | None) -> Any:
    """A parameter's text: of the type `string` as it stands, else as JSON or Python where it is that."""
    if kind == "string":
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _object(text: str) -> dict[str, Any]:
    try:
        value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _json(body: str) -> list[Call]:
    """Calls in JSON: one object, a list of them, or several with anything between."""
    start = min((i for i in (body.find("["), body.find("{")) if i >= 0), default=-1)
    found: list[Call] = []
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(body, start)
        except (ValueError, RecursionError):
            break
        for item in value if isinstance(value, list) else [value]:
            found += _call(item)
        start = body.find("{", end)
    return found


def _call(item: Any) -> Iterator[Call]:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _object(arguments)
    if isinstance(arguments, dict):
        yield item["name"], arguments


def _python(body: str) -> list[Call]:
    """Calls in Python's notation, in a list or alone, with keyword arguments that are literals."""
    text = body.strip("`\n ")
    text = text if text.startswith("[") else f"[{text}"
    text = text if text.endswith("]") else f"{text}]"
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List) or not all(isinstance(item, ast.Call) for item in tree.elts):
            return []
        return [_from_ast(item) for item in tree.elts if isinstance(item, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError, ArithmeticError):
        return []


def _from_ast(node: ast.Call) -> Call:
    return ast.unparse(node.func), {k.arg or "": _literal(k.value) for k in node.keywords}


def _literal(node: ast.expr) -> Any:
    """The value of a literal; a name or an expression is its own text (BFCL calls it a variable), arithmetic is done."""
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.Call) and node.keywords:
        name, arguments = _from_ast(node)
        return {name: arguments}
    try:
        return ast.literal_eval(node)
    except ValueError:
        value = _arithmetic(node)
        return ast.unparse(node) if value is None else value


def _arithmetic(node: ast.expr) -> int | float | None:
    """The value of + - * / between numbers, or None."""
    if isinstance(node, ast.BinOp):
        left, right = _arithmetic(node.left), _arithmetic(node.right)
        if left is None or right is None:
            return None
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        return left / right if isinstance(node.op, ast.Div) and right else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _arithmetic(node.operand)
        return None if value is None else -value
    number = node.value if isinstance(node, ast.Constant) else None
    return number if type(number) in (int, float) else None  # type: ignore[return-value]


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
