"""Conversations, functions and the forms of well-known data sets: what is asked, what is the reference, what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from esr import tasks
from esr.config import TaskConfig
from esr.console import console
from esr.errors import UserError
from esr.records.problem import Message, Problem
from esr.tasks import disjoint, load

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
]
TOOL = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
}
WRAPPED = {"type": "function", "function": TOOL}
BEFORE = (
    Message(role="user", content="Hi"),
    Message(role="assistant", content="Hello!"),
)
GLAIVE = {
    "system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    + json.dumps(TOOL, indent=4) + "\n\n" + json.dumps({**TOOL, "name": "sub"}),
    "chat": 'USER: Hi\n\n\nASSISTANT: Hello! <|endoftext|>\n\n\nUSER: What is 2 + 2?\n\n\nASSISTANT: <functioncall> {"name": "add", '
    "\"arguments\": '{\"a\": 2}'} <|endoftext|>\n\n\nFUNCTION RESPONSE: {\"sum\": 4}\n\n\nASSISTANT: 4 <|endoftext|>\n\n\n"
    "USER: Thanks\n\n\nASSISTANT: Bye <|endoftext|>",
}  # fmt: skip


def read(folder: Path, *rows: Any, purpose: str = "train", **keys: Any) -> tuple[list[Problem], str]:
    """Problems of a file with these rows, and what was said meanwhile."""
    file = folder / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with console.capture() as said:
        loaded = load(TaskConfig(source=str(file), **keys), purpose, need_answer=purpose == "eval")  # type: ignore[arg-type]
    return list(loaded.problems), " ".join(said.get().split())


FORMS: list[tuple[str, dict[str, Any], str, tuple[Message, ...], str | None]] = [
    # what is said, a row, the question, what was said before it, the reference
    ("OpenAI messages", {"messages": TURNS}, "What is 2 + 2?", BEFORE, "4"),
    ("OpenAI messages", {"messages": TURNS[:3]}, "What is 2 + 2?", BEFORE, None),
    ("prompts (prompt)", {"prompt": TURNS[:3]}, "What is 2 + 2?", BEFORE, None),
    ("prompts (prompt)", {"prompt": "a?", "completion": "b"}, "a?", (), "b"),
    ("prompts (prompt)", {"prompt": TURNS[:1], "completion": [{"role": "assistant", "content": "b"}]}, "Hi", (), "b"),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]}, "a?", (), "b"),
    ("Alpaca", {"instruction": "Sort.", "input": "2 1", "output": "1 2"}, "Sort.\n\n2 1", (), "1 2"),
    ("Alpaca", {"instruction": "Sort.", "input": "", "output": "x"}, "Sort.", (), "x"),
    ("CodeUltraFeedback", {"instruction": "Sort.", "chosen": "good", "rejected": "bad"}, "Sort.", (), None),
    ("NuminaMath", {"problem": "a?", "solution": r"So \boxed{\frac{1}{2}}.", "messages": TURNS}, "a?", (), r"\frac{1}{2}"),
]  # fmt: skip


@pytest.mark.parametrize(("says", "row", "question", "context", "reference"), FORMS)
def test_a_known_form_is_recognised_and_named(
    tmp_path: Path, says: str, row: dict[str, Any], question: str, context: tuple[Message, ...], reference: str | None
) -> None:
    (problem,), said = read(tmp_path, row)
    assert (problem.question, problem.context, problem.answer) == (question, context, None)
    assert f"1 rows are read as {says}" in said
    if reference is not None:
        (graded,), _ = read(tmp_path, row, purpose="eval", grader="text")
        assert (graded.answer, graded.grader) == (reference, "text")


def test_what_an_assistant_said_is_a_reference_only_for_a_named_grader(tmp_path: Path) -> None:
    (chat,), _ = read(tmp_path, {"messages": TURNS}, purpose="eval")
    assert (chat.answer, chat.grader) == (None, "none")
    (maths,), _ = read(tmp_path, {"problem": "a?", "solution": r"\boxed{3}"}, purpose="eval")
    assert (maths.answer, maths.grader) == ("3", "answers")


def test_rows_without_any_reference_are_ungraded_but_a_named_column_must_be_there(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}"} for i in range(4)]
    problems, _ = read(tmp_path, *rows, purpose="eval")
    assert {p.grader for p in problems} == {"none"}
    with pytest.raises(UserError, match="no column 'gold'"):
        read(tmp_path, *rows, purpose="eval", answer="gold")
    with pytest.raises(UserError, match="no column 'answer'"):
        read(tmp_path, *rows, purpose="eval", grader="text")
    answered = [{"question": str(i), "answer": i} for i in (1, 2)]
    mixed, said = read(tmp_path, *answered, rows[0], purpose="eval")
    assert [p.answer for p in mixed] == ["1", "2"]
    assert "no column 'answer'" in said
    own, _ = read(tmp_path, *rows, purpose="eval", grader="python:g.py:f")
    assert {p.grader for p in own} == {"python:g.py:f"}


def test_a_system_text_and_functions_of_a_row(tmp_path: Path) -> None:
    as_text = {"question": "a?", "system": "Be brief.", "tools": json.dumps([TOOL])}
    as_list = {"messages": [SYSTEM, TURNS[0]], "tools": [WRAPPED]}
    for row in (as_text, as_list):
        (problem,), _ = read(tmp_path, row)
        assert problem.context == (Message(role="system", content="Be brief."),)
        assert problem.tools == (WRAPPED,)
    (told,), _ = read(tmp_path, as_text, tools="prompt")
    assert told.tools == ()
    assert json.dumps([TOOL]) in told.question
    assert "a?" in told.question


def test_glaive_is_cut_before_the_first_call(tmp_path: Path) -> None:
    (problem,), said = read(tmp_path, GLAIVE)
    assert "glaive-function-calling-v2" in said
    assert problem.question == "What is 2 + 2?"
    assert [m.role for m in problem.context] == ["system", "user", "assistant"]
    assert problem.context[0].content.startswith("You are a helpful assistant with access")
    assert [t["function"]["name"] for t in problem.tools] == ["add", "sub"]
    assert "{" not in problem.context[0].content


def test_calls_and_results_of_earlier_turns_are_kept(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    turns = [TURNS[0], calling, {"role": "tool", "content": "4"}, TURNS[2]]
    (problem,), _ = read(tmp_path, {"messages": turns})
    _, made, result = problem.context
    assert made.tool_calls[0]["function"]["arguments"] == {"a": 2}
    assert (result.role, result.content) == ("tool", "4")


BAD: list[tuple[Any, str]] = [
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "part of the type image_url, but only text"),
    ([{"role": "assistant", "content": "a"}], "no turn of the user"),
    ([{"role": "narrator", "content": "a"}], "the role 'narrator'"),
    ([{"role": "user", "content": " "}], "last turn of the user in 'messages' is empty"),
    ([{"role": "user", "content": 7}], "'messages' is a number, but a turn must be text"),
    ([{"role": "user"}], "a turn in 'messages' is empty"),
    (["a"], "a turn in 'messages' is text, not an object"),
    ([TURNS[0], SYSTEM, TURNS[2]], "a system text that is not the first turn"),
    ([], "no turn of the user"),
]  # fmt: skip


@pytest.mark.parametrize(("turns", "says"), BAD)
def test_a_conversation_that_cannot_be_used_is_left_out(tmp_path: Path, turns: Any, says: str) -> None:
    problems, said = read(tmp_path, *({"messages": TURNS[:1]} for _ in range(3)), {"messages": turns})
    assert len(problems) == 3
    assert f"line 4: {says}" in said or says in said


@pytest.mark.parametrize("tools", ["{", [{"description": "no name"}], 7, ["add"]])
def test_functions_that_are_none_are_left_out(tmp_path: Path, tools: Any) -> None:
    rows = [{"question": f"q{i}", "tools": None} for i in range(3)]
    problems, said = read(tmp_path, *rows, {"question": "a", "tools": tools})
    assert len(problems) == 3
    assert "'tools'" in said


def test_parts_of_text_are_joined_and_tables_fill_nothing_in(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]
    rows = [
        {"messages": [{"role": "user", "content": parts}], "tools": [WRAPPED]},
        {"messages": [{"role": "user", "content": parts[:1]}], "tools": [{"type": "function", "function": {"name": "x"}}]},
    ]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    problems = load(TaskConfig(source=str(tmp_path / "d.parquet")), "train", need_answer=False).problems
    assert [p.question for p in problems] == ["What is 2 + 2?", "What is "]
    assert problems[1].tools == ({"type": "function", "function": {"name": "x"}},)  # not the other row's keys as nulls


def test_conversations_are_compared_whole(tmp_path: Path) -> None:
    """The same last turn after other turns is another problem, with another id; spaces do not count."""
    other = [{"role": "user", "content": "Good morning"}, *TURNS[1:3]]
    problems, _ = read(tmp_path, {"messages": TURNS[:3]}, {"messages": other}, {"messages": TURNS})
    assert len({p.question for p in problems}) == 1
    loaded, said = read(tmp_path, {"messages": TURNS[:3]}, {"messages": other}, {"messages": TURNS}, purpose="eval")
    assert len(loaded) == 2
    assert "1 of 3 questions occur again" in said
    assert loaded[0].id[-8:] != loaded[1].id[-8:]
    kept, shared = disjoint(problems[:1], loaded)
    assert ([p.context for p in kept], shared) == ([problems[1].context], 1)


def test_a_file_of_a_form_is_read_by_its_columns_alone(tmp_path: Path) -> None:
    rows = [{"problem": "a?", "solution": r"\boxed{1}", "source": "x" * 100, "messages": TURNS}] * 3
    table = pyarrow.Table.from_pylist(rows)
    assert list(tasks.forms.needed(table.column_names, "question", None)) == ["problem", "solution"]
    assert list(tasks.forms.needed(["question", "answer", "x"], "question", "answer")) == ["question", "answer"]
    assert list(tasks.forms.needed(["a", "b"], "question", None)) == ["a", "b"]  # none fits: all are named
