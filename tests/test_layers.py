"""The structure that design decisions rest on: who may import whom, what stays light, and how long things may get."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "esr"
ROWS = [
    {"errors", "config", "configfile", "results", "findings", "rundir", "console", "intervals", "hub"},
    {"tensors", "divergence", "events", "selection", "loss"},
    {
        "models",
        "prompts",
        "tasks",
        "grading",
        "grading_worker",
        "alignment",
        "decoding",
        "sampling",
        "scoring",
        "telemetry",
        "metrics",
        "tracking",
    },
    {"pair", "checkpoint", "evaluate", "distill", "train", "export"},
    {"analysis", "study", "lab"},
    {"report"},
    {"cli"},
]
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
ALLOWED_UP = {("tasks", "lab"), ("grading_worker", "lab"), ("grading", "lab")}
"""The lab is a task source and a grader; it is imported only when a `lab:` source is used."""
FILES = sorted(SRC.rglob("*.py"))


def unit(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Top-level units of `esr` that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "esr":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("esr."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("esr.")}
    return names - {"__version__"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_a_row_imports_only_rows_above_it(file):
    here = unit(file)
    if here == "__init__":
        return
    for name in imported(ast.parse(file.read_text())):
        assert name in RANK, f"{name} has no row"
        assert RANK[name] <= RANK[here] or (here, name) in ALLOWED_UP, (
            f"{here} (row {RANK[here]}) imports {name} (row {RANK[name]})"
        )


@pytest.mark.parametrize(
    "module", ["esr.config", "esr.results", "esr.rundir", "esr.intervals", "esr.cli.main", "esr.report"]
)
def test_light_modules_import_no_torch(module):
    heavy = "{'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)"
    code = f"import sys, {module}; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def functions(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_and_functions_stay_short():
    long_modules = {str(f.relative_to(SRC)): n for f in FILES if (n := len(f.read_text().splitlines())) > 300}
    long_functions = {f"{f.relative_to(SRC)}:{name}": n for f in FILES for name, n in functions(f) if n > 60}
    assert long_modules == {}
    assert long_functions == {}


def test_public_functions_of_the_method_have_docstrings():
    for name in (
        "divergence",
        "events",
        "selection",
        "loss",
        "sampling",
        "scoring",
        "distill",
        "alignment",
        "evaluate",
    ):
        tree = ast.parse((SRC / f"{name}.py").read_text())
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"
