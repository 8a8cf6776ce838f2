"""Compare what two versions of the code wrote for the same commands, number by number:

    python tools/compare_records.py BEFORE/runs AFTER/runs [--save "COMMIT COMMIT"]

Every number of every .json and .jsonl file that is in both, but what differs between equal runs: seconds, memory, the machine, places.
Prints a line for each kind of file, and the numbers that differ; exits with 1 if one does. `--save` adds the counts to
results/moves.json under the two commits' names, for docs/structure.md.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results" / "moves.json"
VARIES = re.compile(r"second|time/|/time|memory|environment|env\.json|created|pid|hash|digest|_at$|phases")


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Each number with the way to it."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, f"{place}/{key}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from numbers(part, f"{place}/{i}")
    elif isinstance(value, (int, float)) and not VARIES.search(place):
        yield place, float(value)


def read(file: Path) -> dict[str, float]:
    text = file.read_text()
    whole = [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)
    return dict(numbers(whole))


def kind(name: str) -> str:
    """`runs/demo/esr-1a2b/analysis/decay.json` is an analysis/decay.json."""
    return re.sub(
        r"step-\d+|~\d+",
        "step-N",
        "/".join(Path(name).parts[-2:]) if "evals" in name or "analysis" in name else Path(name).name,
    )


def records(home: Path) -> dict[str, Path]:
    """Files by their place, runs by their arm and seed without the digest of their configuration."""
    there = [
        f
        for f in sorted(home.rglob("*.json*"))
        if "checkpoints" not in f.parts and not f.name.startswith(("env.", "."))
    ]
    return {re.sub(r"-[0-9a-f]{6,}(?=/)", "", str(f.relative_to(home))): f for f in there}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--save", metavar="COMMITS")
    options = parser.parse_args()
    before, after = records(options.before), records(options.after)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    apart = []
    for name in sorted(before.keys() & after.keys()):
        old, new = read(before[name]), read(after[name])
        both = old.keys() & new.keys()
        differing = [key for key in sorted(both) if repr(old[key]) != repr(new[key])]
        apart += [f"{name}{key}: {old[key]!r} -> {new[key]!r}" for key in differing]
        counts[kind(name)] = [a + b for a, b in zip(counts[kind(name)], (1, len(both), len(differing)), strict=True)]
    print("| records | files | numbers | that differ |\n|---|---|---|---|")
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    for name, row in (*sorted(counts.items()), ("all", total)):
        print(f"| {name} | {row[0]} | {row[1]:,} | {row[2]} |")
    for name in sorted(before.keys() ^ after.keys()):
        print(f"only {'before' if name in before else 'after'}: {name}", file=sys.stderr)
    print(*apart[:40], sep="\n", file=sys.stderr)
    if options.save:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(
            json.dumps(kept | {options.save: dict(zip(("files", "numbers", "differ"), total, strict=True))}, indent=1)
            + "\n"
        )
    sys.exit(1 if apart else 0)


if __name__ == "__main__":
    main()
