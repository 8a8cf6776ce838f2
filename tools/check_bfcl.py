"""Our BFCL rule against the leaderboard's own checker, on its possible answers and on mutated ones: counts of differences.

    python tools/check_bfcl.py FOLDER_OF_THE_INSTALLED_PACKAGE        (make bfcl installs it into a folder of its own)

The checker is run from its file, without the package's vendor libraries, of which it needs none for Python calls.
"""

import copy
import json
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from esr.grading.calls import Call
from esr.grading.tools import bfcl_ast
from esr.tasks.calls import CATEGORIES

MUTANTS = 2
"""Mutated answers to each problem."""


def checker(package: Path) -> Any:
    """Their `ast_checker`, with empty stand-ins for the modules that only other languages need."""
    prefix, ast_eval = "bfcl_eval", "bfcl_eval.eval_checker.ast_eval"
    names: dict[str, dict[str, Any]] = {
        prefix: {}, f"{prefix}.constants": {}, f"{prefix}.eval_checker": {}, ast_eval: {}, f"{ast_eval}.type_convertor": {},
        f"{prefix}.constants.enums": {"Language": SimpleNamespace(PYTHON="python", JAVA="java", JAVASCRIPT="js")},
        f"{prefix}.constants.model_config": {"MODEL_CONFIG_MAPPING": {"m": SimpleNamespace(underscore_to_dot=False)}},
        f"{prefix}.constants.type_mappings": {"JAVA_TYPE_CONVERSION": {}, "JS_TYPE_CONVERSION": {}},
        f"{ast_eval}.type_convertor.java_type_converter": {"java_type_converter": None},
        f"{ast_eval}.type_convertor.js_type_converter": {"js_type_converter": None},
    }  # fmt: skip
    for name, content in names.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
    space: dict[str, Any] = {}
    exec(compile((package / "eval_checker/ast_eval/ast_checker.py").read_text(), "ast_checker", "exec"), space)
    return space["ast_checker"]


def answer(truth: list[dict[str, Any]]) -> list[Call]:
    """The first allowed value of every parameter that has one."""
    made = []
    for expected in truth:
        ((name, parameters),) = expected.items()
        made.append((name, {p: filled(v) for p, values in parameters.items() for v in values[:1] if v != ""}))
    return made


def filled(value: Any) -> Any:
    """Dictionaries of allowed values as dictionaries of values."""
    if isinstance(value, dict):
        return {k: filled(v[0]) for k, v in value.items() if v and v[0] != ""}
    return [filled(v) for v in value] if isinstance(value, list) else value


def mutate(calls: list[Call], rng: random.Random) -> list[Call]:
    """One change: a call less, more or renamed, the order, a parameter less or more, or another value."""
    calls = copy.deepcopy(calls)
    where = rng.randrange(len(calls))
    name, arguments = calls[where]
    kind = rng.randrange(9)
    if kind == 0:
        calls.pop(where)
    elif kind == 1:
        calls.append(rng.choice(calls))
    elif kind == 2:
        rng.shuffle(calls)
    elif kind == 3 or not arguments:
        calls[where] = (f"{name}_x", arguments)
    elif kind == 4:
        arguments["zzz"] = 1
    elif kind == 5:
        arguments.pop(rng.choice(list(arguments)))
    else:
        parameter = rng.choice(list(arguments))
        arguments[parameter] = rng.choice(others(arguments[parameter]))
    return calls


def others(value: Any) -> list[Any]:
    """Values that resemble one: of another type, another spelling, another size."""
    found = [str(value), [value], None]
    if isinstance(value, bool):
        return [*found, not value]
    if isinstance(value, (int, float)):
        return [*found, float(value), int(value), value + 1]
    if isinstance(value, str):
        return [*found, value.upper(), value.replace(" ", "-"), value + "x", 5]
    if isinstance(value, list):
        return [*found, value[::-1], tuple(value), value[:-1], [str(v) for v in value], value + value[:1]]
    if isinstance(value, dict):
        return [*found, value | {"q": 1}, dict(list(value.items())[:-1]), {k: str(v) for k, v in value.items()}]
    return found


def main(package: Path) -> int:
    """Print the counts of each category; 1 if any verdict differs."""
    theirs, rng, different = checker(package), random.Random(0), 0
    for ours, category in CATEGORIES.items():
        lines = [
            (package / f"data/{d}BFCL_v4_{category}.json").read_text().splitlines() for d in ("", "possible_answer/")
        ]
        truths = {row["id"]: row["ground_truth"] for row in map(json.loads, lines[1])}
        right = [0, 0]
        total = differing = failed = 0
        for row in map(json.loads, lines[0]):
            truth, good = truths[row["id"]], answer(truths[row["id"]])
            for number, calls in enumerate([good, *(mutate(good, rng) for _ in range(MUTANTS))]):
                try:
                    given = [{name: arguments} for name, arguments in copy.deepcopy(calls)]
                    verdict = theirs(row["function"], given, truth, "python", category, "m")["valid"]
                except (AttributeError, KeyError, TypeError):
                    failed += 1  # their checker breaks on the value; ours says wrong
                    verdict = False
                mine = bfcl_ast(row["function"], calls, truth, "parallel" in category)
                total, differing = total + 1, differing + (mine != verdict)
                right[min(number, 1)] += verdict
        different += differing
        print(
            f"{ours}: {total} verdicts ({right[0]} possible answers and {right[1]} mutants right, their checker broke on {failed}), "
            f"{differing} different"
        )
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
