"""BFCL's problems: native, with functions for the chat template, or in words; and what is refused."""

import json
from pathlib import Path

import pytest

from esr import prompts
from esr.config import ModelConfig, TaskConfig
from esr.errors import UserError
from esr.grading import grade
from esr.tasks import load
from tiny import LETTERS, TEMPLATE, make_tokenizer

FUNCTION = {
    "name": "geo.area",
    "description": "Area.",
    "parameters": {
        "type": "dict",
        "properties": {"base": {"type": "float"}, "tags": {"type": "tuple", "items": {"type": "any"}}},
        "required": ["base"],
    },
}
ROW = {"id": "simple_python_0", "question": [[{"role": "user", "content": "Area of base 3?"}]], "function": [FUNCTION]}
TRUTH = {"id": "simple_python_0", "ground_truth": [{"geo.area": {"base": [3.0], "tags": [""]}}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The package's folder of data, with one problem."""
    (tmp_path / "possible_answer").mkdir()
    name = "BFCL_v4_simple_python.json"
    (tmp_path / name).write_text(json.dumps(ROW) + "\n")
    (tmp_path / "possible_answer" / name).write_text(json.dumps(TRUTH) + "\n")
    return tmp_path


def problem(folder: Path, **keys):
    params = {"path": str(folder), **keys.pop("params", {})}
    (found,) = load(TaskConfig(source="bfcl:simple", params=params, **keys), "eval", need_answer=True).problems
    return found


def test_functions_reach_the_template_in_the_types_of_json_schema(folder):
    native = problem(folder)
    assert native.question == "Area of base 3?"
    described = native.tools[0]["function"]
    assert described["name"] == "geo.area"
    assert described["parameters"]["type"] == "object"
    assert {k: v["type"] for k, v in described["parameters"]["properties"].items()} == {
        "base": "number",
        "tags": "array",
    }
    template = "{% if tools %}<|system|>{{ tools | tojson }}<|im_end|>{% endif %}" + TEMPLATE
    tokenizer = make_tokenizer(template=template, letters=LETTERS + "\"[]_?'A.")
    assert '"name": "geo.area"' in tokenizer.decode(prompts.of(tokenizer, ModelConfig(model="x"), native))


def test_in_words_any_template_will_do_and_the_types_are_the_datas_own(folder):
    told = problem(folder, tools="prompt")
    assert told.tools == ()
    assert json.dumps([FUNCTION]) in told.question
    assert told.id != problem(folder).id


@pytest.mark.parametrize(
    ("text", "bfcl", "authors"),
    [
        ('<tool_call>\n{"name": "geo.area", "arguments": {"base": 3}}\n</tool_call>', True, True),
        ("[geo.area(base=3.0)]", True, True),
        ('[geo.area(base="3")]', False, True),
        ("[geo.area(base=3), geo.area(base=3)]", False, True),
        ("I do not know.", False, False),
    ],
)
def test_both_rules_judge_both_ways_of_asking(folder, text, bfcl, authors):
    for tools in ("template", "prompt"):
        for rule, right in (("bfcl_ast", bfcl), ("authors_fc", authors)):
            asked = problem(folder, tools=tools, params={"rule": rule})
            assert grade([asked], [text])[0].last is right


def test_what_is_not_there_is_one_sentence(folder, tmp_path):
    with pytest.raises(UserError, match="there is no such category; there are simple"):
        load(TaskConfig(source="bfcl:simples", params={"path": str(folder)}), "eval", need_answer=True)
    with pytest.raises(UserError, match="it should be bfcl_ast or authors_fc"):
        problem(folder, params={"rule": "loose"})
    with pytest.raises(UserError, match="cannot be read as lines of JSON"):
        problem(tmp_path / "nowhere")
