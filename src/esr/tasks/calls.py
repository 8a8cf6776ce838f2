"""Function calling: single-turn Python calls of the Berkeley leaderboard (BFCL v4), judged by `grading.tools`."""

import json
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

from esr.config import TaskConfig
from esr.errors import UserError
from esr.records.problem import Problem
from esr.tasks import forms
from esr.tasks.rows import in_words, problem_id

CATEGORIES = {
    "simple": "simple_python",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel_multiple",
}
"""Our names and the data's."""
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""JSON Schema's name of each type of BFCL that is not called so there."""
RULES = ("bfcl_ast", "authors_fc")


def problems(category: str, task: TaskConfig) -> list[Problem]:
    """The problems of `bfcl:CATEGORY`, from the package `bfcl-eval` or the folder `params.path` that holds its data.

    `params.rule` chooses the judge: `bfcl_ast` (the leaderboard's) or `authors_fc` (the looser one of the paper's numbers).
    Raises `UserError` for an unknown category or rule, and where the data is not found.
    """
    if category not in CATEGORIES:
        raise UserError(f"bfcl:{category}: there is no such category; there are {', '.join(CATEGORIES)}.")
    rule = task.params.get("rule", "bfcl_ast")
    if rule not in RULES:
        raise UserError(f"params.rule is {rule!r}; it should be {' or '.join(RULES)}.")
    folder = _folder(task)
    name = f"BFCL_v4_{CATEGORIES[category]}.json"
    truths = {row["id"]: row["ground_truth"] for row in _lines(folder / "possible_answer" / name)}
    made = []
    for index, row in enumerate(_lines(folder / name)):
        functions = row["function"] if task.tools == "prompt" else [openapi(f) for f in row["function"]]
        asked = forms.asked({"messages": row["question"][0], "tools": functions}, "messages")
        if task.tools == "prompt":
            asked = in_words(asked)
        data = {
            "rule": rule,
            "functions": row["function"],
            "truth": truths[row["id"]],
            "parallel": "parallel" in category,
        }
        made.append(
            Problem(
                id=problem_id(f"bfcl-{category}", index, asked.conversation),
                question=asked.question,
                context=asked.context,
                tools=asked.tools,
                grader="tools",
                data=data,
            )
        )
    return made


def openapi(described: Any) -> Any:
    """A function's description with the names of JSON Schema for its types, as chat templates expect them."""
    if isinstance(described, dict):
        named = {k: openapi(v) for k, v in described.items()}
        if isinstance(named.get("type"), str):
            named["type"] = TYPES.get(named["type"], named["type"])
        return named
    return [openapi(each) for each in described] if isinstance(described, list) else described


def _folder(task: TaskConfig) -> Path:
    if path := task.params.get("path"):
        return Path(str(path)).expanduser()
    found = util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "BFCL's data comes with a package: pip install --no-deps bfcl-eval; or set params.path to a folder with its files."
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        return iter([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()])
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as lines of JSON ({error}).") from None
