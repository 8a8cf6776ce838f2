"""How often each kind of fault was done. The long form keeps this case by case: broken off, it goes on where it was.

python tests/faults/tally.py              # the counts of the long form, as a table
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

FOLDER = os.environ.get("ESR_FAULTS")
"""Where the long form (`make faults`) keeps its counts; without it, the short form."""
LONG = bool(FOLDER)
SEED = os.environ.get("ESR_FAULTS_SEED")
"""Repeats what was drawn with this seed; else it is 1 in the short form, and drawn anew in the long one."""
TALLIES: list["Tally"] = []
RECORD = Path(__file__).parents[2] / "results" / "faults.json"
"""The last counts of each kind that the long form has done, by its name."""


class Tally:
    """The cases of one kind of fault, until so many of `of` (a name of what is counted) are done.

    A piece of the long form that is complete begins anew, with another seed.
    """

    def __init__(self, name: str, of: str, short: int, long: int):
        self.name, self.of, self.goal, self.rows = name, of, long if LONG else short, []
        self.file = Path(FOLDER) / f"{name.replace(' ', '-')}.jsonl" if FOLDER else None
        if self.file and self.file.exists():
            self.rows = [json.loads(line) for line in self.file.read_text().splitlines()]
            if self.total()[of] >= self.goal:
                self.file.unlink()
                self.rows = []
        drawn = random.SystemRandom().randrange(10**6) if LONG else 1
        self.seed = int(SEED or (self.rows[0]["seed"] if self.rows else drawn))
        TALLIES.append(self)

    def __iter__(self) -> Iterator[tuple[int, random.Random]]:
        """Number and random choices of each case that is still to be done; the body of the loop calls `add` once."""
        while self.total()[self.of] < self.goal:
            before = len(self.rows)
            yield before, random.Random(f"{self.seed} {before}")
            assert len(self.rows) == before + 1

    def add(self, **counts: int) -> None:
        """A case is done, and this is what it was."""
        self.rows.append({"seed": self.seed, **counts})
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a") as out:
                out.write(json.dumps(self.rows[-1]) + "\n")

    def total(self) -> Counter[str]:
        """Sums over all cases."""
        return sum((Counter({k: v for k, v in row.items() if k != "seed"}) for row in self.rows), Counter())


def record() -> None:
    """Put what the long form has done into its record, in place of older counts of the same kinds."""
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for tally in TALLIES:
        if tally.rows:
            goal = {"date": str(date.today()), "seed": tally.seed, "of": tally.of, "goal": tally.goal}
            kept[tally.name] = goal | {"counts": tally.total()}
    RECORD.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def table() -> str:
    """The record in Markdown."""
    lines = ["| kind of fault | done | outcome | seed | date |", "|---|---|---|---|---|"]
    for name, row in json.loads(RECORD.read_text()).items():
        counts = ", ".join(f"{n} {of.replace('_', ' ')}" for of, n in row["counts"].items() if of != row["of"])
        done = f"{row['counts'].get(row['of'], 0)} of {row['goal']} {row['of']}"
        lines.append(f"| {name} | {done} | {counts} | {row['seed']} | {row['date']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
