"""Function calls: found in every format that models write, and judged by hand-computed cases of both rules."""

import pytest

from esr.grading.calls import calls
from esr.grading.tools import authors_fc, bfcl_ast, grade
from esr.records.problem import Problem

CALL = ("f", {"a": 1, "b": "x"})


@pytest.mark.parametrize(
    "text",
    [
        '[f(a=1, b="x")]',
        "f(a=1, b='x')",
        "```python\n[f(a=1, b='x')]\n```",
        "```tool_code\nf(a=1, b='x')\n```",
        '[{"name": "f", "arguments": {"a": 1, "b": "x"}}]',
        'Sure: {"name": "f", "parameters": {"a": 1, "b": "x"}}',
        '<|python_tag|>{"name": "f", "parameters": {"a": 1, "b": "x"}}',
        '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "x"}}\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1, \\"b\\": \\"x\\"}"}</tool_call>',
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx\n</parameter>\n</function>\n</tool_call>",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1, "b": "x"}}]',
        '[TOOL_CALLS]f[ARGS]{"a": 1, "b": "x"}',
        '[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{"a": 1, "b": "x"}',
        '{"name": "f", "parameters": {"a": 1, "b": "x"}}<|eom_id|>',
        '<think>[g(c=2)]</think>\n[f(a=1, b="x")]',
        '[{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": "x"}}}]',
    ],
)
def test_a_call_is_found_in_every_format(text):
    assert calls(text) == [CALL]


def test_values_between_tags_are_what_the_description_says():
    text = "<function=f><parameter=a>\n5\n</parameter><parameter=s>\n5\n</parameter><parameter=l>['x']</parameter></function>"
    assert calls(text, [FUNCTION]) == [("f", {"a": 5, "s": "5", "l": ["x"]})]
    assert calls(text)[0][1]["s"] == 5


def test_several_calls_in_order():
    two = '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}'
    assert calls(two) == [("f", {"a": 1}), ("g", {})]
    assert len(calls('<tool_call>{"name": "f"}</tool_call>\n<tool_call>{"name": "g"}</tool_call>')) == 2
    assert [name for name, _ in calls("[f(a=1), g.h(b=[1, 2]), f(a=-2.5)]")] == ["f", "g.h", "f"]
    assert [name for name, _ in calls('{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}')] == ["f", "g"]


@pytest.mark.parametrize(
    "text", ["", "I cannot call anything.", "[f(a=1", "[1, 2]", '{"a": 1}', "__import__('os')", "[" * 5000]
)
def test_text_without_calls_has_none_and_nothing_is_run(text):
    assert [name for name, _ in calls(text) if name in ("f", "g")] == []


def test_arithmetic_is_done_and_names_stay_text():
    assert calls("[f(a=2 * 3 + 1, b=x, c=-1, d=(1, 2), e={'k': [None, True]})]")[0][1] == {
        "a": 7, "b": "x", "c": -1, "d": (1, 2), "e": {"k": [None, True]},
    }  # fmt: skip


FUNCTION = {
    "name": "f",
    "parameters": {
        "required": ["a"],
        "properties": {
            "a": {"type": "integer"}, "x": {"type": "float"}, "s": {"type": "string"}, "d": {"type": "dict"},
            "l": {"type": "array", "items": {"type": "string"}}, "o": {"type": "array", "items": {"type": "dict"}},
        },
    },
}  # fmt: skip
ALLOWED = {
    "a": [1, 2],
    "x": [1.5, 2.0, ""],
    "s": ["New York", ""],
    "l": [["a b", "c"], ""],
    "d": [{"k": [1], "m": ["u", ""]}, ""],
    "o": [[{"k": [1]}], ""],
}
TRUTH = [{"f": ALLOWED}]


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"a": 1}, True),
        ({"a": 3}, False),
        ({"a": 1.0}, False),
        ({"a": "1"}, False),
        ({}, False),
        ({"a": 1, "x": 2}, True),
        ({"a": 1, "x": 1.5}, True),
        ({"a": 1, "x": "1.5"}, False),
        ({"a": 1, "s": "new-york."}, True),
        ({"a": 1, "s": "Boston"}, False),
        ({"a": 1, "z": 1}, False),
        ({"a": 1, "l": ["A-B", "c"]}, True),
        ({"a": 1, "l": ["c", "a b"]}, False),
        ({"a": 1, "d": {"k": 1}}, True),
        ({"a": 1, "d": {"k": 1, "m": "U"}}, True),
        ({"a": 1, "d": {"m": "u"}}, False),
        ({"a": 1, "d": {"k": 1, "q": 1}}, False),
        ({"a": 1, "o": [{"k": 1}]}, True),
        ({"a": 1, "o": [{"k": 1}, {"k": 1}]}, False),
    ],
)
def test_bfcl_by_hand(arguments, right):
    assert bfcl_ast([FUNCTION], [("f", arguments)], TRUTH) is right


def test_parallel_calls_come_in_any_order_others_do_not():
    truth = [{"f": {"a": [1]}}, {"f": {"a": [2]}}]
    there, back = [("f", {"a": 1}), ("f", {"a": 2})], [("f", {"a": 2}), ("f", {"a": 1})]
    assert bfcl_ast([FUNCTION], back, truth, parallel=True)
    assert bfcl_ast([FUNCTION], there, truth, parallel=True)
    assert not bfcl_ast([FUNCTION], there[:1] * 2, truth, parallel=True)
    assert not bfcl_ast([FUNCTION], [*there, there[0]], truth, parallel=True)


def test_the_authors_rule_is_looser_and_never_the_same_name():
    """Further calls and arguments are ignored, and numbers equal their text: all of it wrong by BFCL's rule."""
    found = [("g", {}), ("f", {"a": "1", "zzz": 5})]
    assert authors_fc(found, TRUTH)
    assert not bfcl_ast([FUNCTION], found, TRUTH)
    assert not authors_fc([("f", {"a": 9})], TRUTH)
    assert not authors_fc([("g", {})], TRUTH)
    data = {"functions": [FUNCTION], "truth": TRUTH}
    for rule, right in (("authors_fc", True), ("bfcl_ast", False)):
        problem = Problem(id="p", question="", grader="tools", data=data | {"rule": rule})
        assert grade(problem, "[g(), f(a='1', zzz=5)]").last is right
