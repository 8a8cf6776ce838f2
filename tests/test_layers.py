"""The structure that design decisions rest on: who may import whom, what stays light, and how long things may get.

The rows are the tree at the end of the README, which is held against the folders: there is no second list.
"""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "esr"
FILES = sorted(SRC.rglob("*.py"))
NAME = re.compile(r"[a-z_]+/?")
TYPE = re.compile(r"_?[A-Z]\w*[a-z]")
LONGEST_MODULE, LONGEST_FUNCTION = 300, 60


def rows() -> list[list[str]]:
    """The units of each row of the README's tree, top row first; a remark stands after two spaces and holds no unit."""
    tree = re.search(r"```\nsrc/esr/ (.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert tree, "the README has no tree of src/esr"
    units = {path.name.removesuffix(".py") for path in SRC.iterdir() if path.suffix == ".py" or path.is_dir()}
    found = []
    for line in tree[1].splitlines():
        names = []
        for cell in re.split(r"\s{2,}", line.strip()):
            head, *rest = cell.split(" ")
            if head.removesuffix("/") in units and NAME.fullmatch(head):
                names.append(head.removesuffix("/"))
            elif rest:
                continue  # a remark, or the modules of a folder
        found.append(names)
    return [row for row in found if row]


ROWS = rows()
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}


def module_of(file: Path) -> str:
    """`method.loss` for src/esr/method/loss.py; a package is called as its folder."""
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path) -> set[str]:
    """Modules of `esr` that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and re.match(r"esr(\.|$)", node.module or ""):
            base = (node.module or "")[4:]
            whole = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            names |= {name if name in MODULES else base for name in whole}
        elif isinstance(node, ast.Import):
            names |= {alias.name[4:] for alias in node.names if alias.name.startswith("esr.")}
    return {name for name in names if name and name in MODULES} - {module_of(file)}


def unit(module: str) -> str:
    return module.partition(".")[0]


def test_the_tree_of_the_readme_is_the_folders():
    there = {p.name.removesuffix(".py") for p in SRC.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    listed = [name for row in ROWS for name in row]
    assert sorted(listed) == sorted(there - {"__init__", "__main__"})


def test_modules_that_the_tree_names_are_in_their_folder():
    """`method/  tensors divergence ...` names modules of `method`."""
    text = (ROOT / "README.md").read_text()
    for folder, names in re.findall(r"^ {10}([a-z]+)/ {2,}((?:[a-z_]+/? )+[a-z_]+/?)(?= {2}|$)", text, re.M):
        for name in names.split():
            if folder in RANK and name.removesuffix("/") not in RANK:
                assert (SRC / folder / name).exists() or (SRC / folder / f"{name}.py").exists(), f"{folder}/{name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("__init__", "__main__")])
def test_a_row_imports_only_rows_above_it(module):
    for other in imported(MODULES[module]):
        if other != "__init__":
            assert RANK[unit(other)] <= RANK[unit(module)], f"{module} imports {other}, which stands below it"


def test_each_fact_of_the_document_has_one_definition():
    tool = runpy.run_path(str(ROOT / "tools" / "write_structure.py"))
    assert {place: tool["definitions"](tool["now"](), place) for *_, place in tool["FACTS"]} == {
        place: 1 for *_, place in tool["FACTS"]
    }


def test_no_module_imports_itself_in_a_circle():
    graph = {module: imported(file) for module, file in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def light() -> list[str]:
    """Modules that promise to import no torch: the first row and the report."""
    row = {*ROWS[0], "report"}
    return sorted(m for m in MODULES if unit(m) in row)


@pytest.mark.parametrize("modules", [light(), ["cli.main"]], ids=["first row and report", "command line"])
def test_light_modules_import_no_torch(modules):
    heavy = "{'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)"
    names = ", ".join(f"esr.{m}" for m in modules)
    code = f"import sys, {names}; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_method_imports_nothing_but_torch_and_numpy():
    allowed = {
        "torch",
        "esr",
        "collections",
        "dataclasses",
        "typing",
        "enum",
        "math",
        "functools",
        "itertools",
        "numpy",
    }
    for module, file in MODULES.items():
        if unit(module) == "method" and not module.startswith("method.events."):
            for node in ast.walk(ast.parse(file.read_text())):
                names = (
                    [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
                )
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    assert {str(n).partition(".")[0] for n in names} <= allowed, f"{module}: {names}"


def types(file: Path):
    """Names of a module's public classes and of its type aliases."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.Name):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and TYPE.match(target.id))


def test_a_type_has_one_name_and_a_name_one_type():
    homes: dict[str, list[str]] = {}
    for file in FILES:
        for name in types(file):
            homes.setdefault(name, []).append(module_of(file))
    assert {name: places for name, places in homes.items() if len(places) > 1 and not name.startswith("_")} == {}


def functions(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_and_functions_stay_short():
    long_modules = {m: n for m, f in MODULES.items() if (n := len(f.read_text().splitlines())) > LONGEST_MODULE}
    long_functions = {f"{m}:{name}": n for m, f in MODULES.items() for name, n in functions(f) if n > LONGEST_FUNCTION}
    assert long_modules == {}
    assert long_functions == {}


DOCUMENTED = ("method", "sampling", "scoring", "distill", "microbatch", "evaluate", "models", "runs", "records")


@pytest.mark.parametrize("module", [m for m in MODULES if unit(m) in DOCUMENTED])
def test_public_functions_have_docstrings(module):
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name}"
