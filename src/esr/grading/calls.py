"""Function calls in a response, in the formats that models write them."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Call = tuple[str, dict[str, Any]]
"""Name and arguments."""


Function = Mapping[str, Any]
"""A function's description: `name`, and `parameters` with `properties` and `required`."""


_TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)


_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


_NAMED = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{)")


_FENCE = re.compile(r"```(?:tool_code|tool_call|python|json)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


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
