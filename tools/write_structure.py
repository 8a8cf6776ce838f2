"""Write docs/structure.md: the sizes and imports of src/esr, before its folders were made and now, and where each fact is defined.

python tools/write_structure.py > docs/structure.md
"""

import ast
import io
import json
import re
import statistics
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOVES = ROOT / "results" / "moves.json"
TESTS = ROOT / "results" / "tests.json"
BEFORE = "6af840e"
"""The commit before the first folders."""
SHORTEST = 5
"""Modules of at most so many lines are not counted."""
FACTS = (
    ("grades by problem", 2, "records.evaluation:grades"),
    ("same task and settings", 5, "records.evaluation:comparable"),
    ("a run is complete", 3, "runs.rundir:complete"),
    ("its last evaluation", 3, "runs.rundir:last"),
    ("the name of a step (`step-000200`)", 20, "records.steps:step_name"),
    ("who writes `config.json` and `env.json`", 3, "runs.rundir:open_or_create"),
    ("default directory of a run", 6, "runs.places:run_directory"),
    ("\"value [low, high]\" as text", 7, "records.base:as_text"),
    ("render, pad, sample, decode", 4, "sampling.respond:respond_each"),
)  # fmt: skip
"""A fact, how many definitions or places a review counted before, and the one that there is now."""
Sources = dict[str, str]
"""Text of each module under src/esr, by its path there."""


def now() -> Sources:
    """The modules of the working tree."""
    home = ROOT / "src" / "esr"
    return {str(file.relative_to(home)): file.read_text() for file in sorted(home.rglob("*.py"))}


def at(commit: str) -> Sources:
    """The modules of a commit."""
    packed = subprocess.check_output(["git", "archive", commit, "src/esr"], cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {m.name.removeprefix("src/esr/"): tar.extractfile(m) for m in tar if m.name.endswith(".py")}
    return {name: file.read().decode() for name, file in files.items() if file}


def functions(text: str) -> Iterator[int]:
    """Lines of each function and method."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def definitions(sources: Sources, place: str) -> int:
    """Functions of that name in all modules; one is what a fact should have."""
    module, name = place.split(":")
    text = sources[module.replace(".", "/") + ".py"]
    assert re.search(rf"^\s*def {name}\(", text, re.M), f"{place} is not there"
    return sum(len(re.findall(rf"^\s*def {name}\(", each, re.M)) for each in sources.values())


def figures(sources: Sources) -> list[tuple[str, str]]:
    """What the table says of a tree."""
    modules = [len(text.splitlines()) for text in sources.values()]
    counted = [lines for lines in modules if lines > SHORTEST]
    lengths = [n for text in sources.values() for n in functions(text)]
    top = Counter(
        "folders" if "/" in name else "modules" for name in {n.partition("/")[0] + "/" * ("/" in n) for n in sources}
    )
    skips = sum(text.count("# fmt: skip") for text in sources.values())
    return [
        ("modules", str(len(counted))),
        ("lines of a module: median / longest", f"{statistics.median(counted):.0f} / {max(counted)}"),
        ("lines of a function: median / 90% / longest", f"{statistics.median(lengths):.0f} / {percentile(lengths, 0.9)} / {max(lengths)}"),
        ("modules over 300 lines / functions over 60", f"{sum(n > 300 for n in counted)} / {sum(n > 60 for n in lengths)}"),
        ("at the top: modules / folders", f"{top['modules']} / {top['folders']}"),
        ("lines of code", f"{sum(modules):,}"),
        ("`# fmt: skip`", f"{skips}, one in {sum(modules) // max(1, skips)} lines"),
    ]  # fmt: skip


def main() -> None:
    old, new = figures(at(BEFORE)), figures(now())
    print(
        "# The structure of the code\n\n"
        "<!-- Written by tools/write_structure.py; do not edit. -->\n\n"
        f"Sizes are measured by `python tools/write_structure.py`; modules of {SHORTEST} lines or fewer are left out. Before is commit\n"
        f"{BEFORE}, when all modules of the pipeline lay side by side. That no module imports one of a row below its own, and none in a\n"
        "circle, without exception, is a test (`tests/test_layers.py`, which reads the rows from the README's tree); there were two\n"
        "such imports, held open by a list of exceptions, and one circle.\n"
    )
    print("| | before | now |\n|---|---|---|")
    for (name, was), (_, found) in zip(old, new, strict=True):
        print(f"| {name} | {was} | {found} |")
    print(
        "\n## One definition of each fact\n\nBefore: what a reading of that commit counted. Now: the functions of that name.\n"
    )
    print("| fact | definitions before | now | where |\n|---|---|---|---|")
    tree = now()
    for fact, definitions_before, place in FACTS:
        print(f"| {fact} | {definitions_before} | {definitions(tree, place)} | `{place.replace(':', '.')}` |")
    print(
        "\n## What a move leaves as it was\n\n"
        "`esr demo` on a tiny pair before and after modules were moved: the same commands and processor, one thread.\n"
        "`python tools/compare_records.py BEFORE/runs AFTER/runs` counts the numbers of all records but seconds and memory.\n"
    )
    print("| commits | files | numbers compared | that differ |\n|---|---|---|---|")
    for commits, row in json.loads(MOVES.read_text()).items():
        print(f"| {commits} | {row['files']} | {row['numbers']:,} | {row['differ']} |")
    runs = json.loads(TESTS.read_text())
    print(
        "\n## The tests under what must not matter\n\n"
        f"`make matrix` is nine runs in random orders; {len(runs)} of them have been made (results/tests.json). In the nine, each\n"
        "number of threads, several processes or one, a home that can be written to or not, and an older processor or\n"
        "root without its powers occur three times.\n"
    )
    print(
        "| run | threads | processes | home | machine | commit | seconds | passed | skipped | failed |\n|" + "---|" * 10
    )
    for run in runs:
        told = (run[key] for key in ("row", "threads", "processes", "home", "machine", "commit", "seconds", "passed"))
        print(f"| {' | '.join(map(str, told))} | {run.get('skipped', 0)} | {run.get('failed', 0)} |")


if __name__ == "__main__":
    main()
