"""Check pairs of the lab before training, train them at N = 50, 100, 200 and in full, and compare: predicted and reached.

    python bench/check.py [--runs runs/check] [--pairs able-best-medium ...] [--table]

Goes on after an interruption: checks and runs that are there are not made again. `--table` only prints the table, in Markdown,
of the pairs that are complete, with the number of those that are not.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from esr import intervals
from esr.records.evaluation import grades
from esr.records.fit import Fit
from esr.runs.files import read_record
from esr.runs.rundir import RunDir

CONFIG = "examples/lab.yaml"
ARMS = {"50": 50, "100": 100, "200": 200, "full": 640}
KNOWN = {f"{student}-best-medium" for student in ("student-2-able", "student-2", "student-1", "far-0")}
"""Pairs whose results at N = 100 were known when the estimator was written; all others score it."""
PAIRS = {
    f"{student}-{teacher.removeprefix('teacher-2').lstrip('-') or 'plain'}-{level}": (student, teacher, level)
    for student, teacher, level in (
        *(
            (s, "teacher-2-best", "medium")
            for s in ("student-2-able", "student-2", "student-1", "far-0", "base-1", "merged-1")
        ),
        *((s, t, "medium") for s in ("student-2-able", "student-1") for t in ("teacher-2", "teacher-2-long")),
        *((s, "teacher-2-best", "hard") for s in ("student-2-able", "student-2", "student-1")),
    )
}
"""Students, teachers and levels; `easy` has too few problems to be trained on."""


def command(name: str, n: int, place: Path) -> list[str]:
    """What `esr check` and `esr train` are given besides their own options."""
    student, teacher, level = PAIRS[name]
    pair = [
        f"student.model=lab:{student}",
        f"teacher.model=lab:{teacher}",
        f"rollout.max_new_tokens={n}",
        f"run.dir={place}",
    ]
    return [
        CONFIG,
        *pair,
        f"data.params={{level: {level}}}",
        f"eval.params={{level: {level}}}",
    ]


def esr(*arguments: str) -> None:
    """A command of its own. A check's answers 3 and 4 are answers; a task with too few problems is a failure."""
    code = subprocess.run([sys.executable, "-m", "esr.cli.main", *arguments], stdout=subprocess.DEVNULL).returncode
    if code not in (0, 3, 4):
        sys.exit(f"esr {' '.join(arguments)} ended with {code}")


def measure(name: str, runs: Path) -> None:
    """The check first, then every training; what is there is left alone."""
    if not check_file(name, runs).exists():
        esr("check", *command(name, 100, runs / name))
    for arm, n in ARMS.items():
        esr("train", *command(name, n, runs / f"{name}-{arm}"))


def check_file(name: str, runs: Path) -> Path:
    return RunDir(runs / f"{name}-pair").analysis_file("fit")


def complete(name: str, runs: Path) -> bool:
    trained = [RunDir(runs / f"{name}-{arm}") for arm in ARMS]
    return check_file(name, runs).exists() and all(run.exists() and run.last(run.config()) for run in trained)


def row(name: str, runs: Path) -> str:
    """One pair: what was said and what came, in percent; a miss is marked."""
    record, reached = read_record(check_file(name, runs), Fit), {}
    for arm in ARMS:
        run = RunDir(runs / f"{name}-{arm}")
        reached[arm] = run.last(run.config())
    said, got = (
        next(p for p in record.pilots if p.n == 100).expected if record.pilots else record.student,
        reached["100"].avg,
    )
    hit = abs(said.value - got.value) <= 0.05 or said.low <= got.value <= said.high
    best = max(e.avg.value for arm, e in reached.items() if arm != "full")
    n = str(record.verdict.n or "")
    near = not n or best - reached[n].avg.value <= 0.02
    change = full_gain(name, runs)
    certain = "open" if change.low <= 0 <= change.high else "better" if change.low > 0 else "worse"
    wrong = certain != "open" and (record.verdict.better == "full rollouts") != (certain == "better")
    cells = [
        name,
        "known" if name in KNOWN else "scores",
        record.verdict.answer,
        n or "-",
        f"{said.text()}{'' if hit else ' **miss**'}",
        *(e.avg.text() for e in reached.values()),
        "yes" if near else "**miss**",
        f"{change.text(sign=True)} {certain}{' **miss**' if wrong else ''}",
    ]
    return f"| {' | '.join(cells)} |"


def full_gain(name: str, runs: Path) -> intervals.Estimate:
    """Full rollouts minus N = 100 after equal updates, paired by problem."""
    ends = []
    for arm in ("full", "100"):
        run = RunDir(runs / f"{name}-{arm}")
        ends.append(grades(run.responses(run.last(run.config()).name)))
    return intervals.paired_difference(*ends)


def table(runs: Path) -> str:
    """Markdown: every complete pair, and how many are missing."""
    done = [name for name in PAIRS if complete(name, runs)]
    columns = [
        "pair",
        "estimator",
        "verdict",
        "N",
        "expected at 100",
        *(f"reached at {a}" for a in ARMS),
        "N within 2",
        "full - 100",
    ]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join(
        [*head, *(row(name, runs) for name in done), "", f"{len(PAIRS) - len(done)} of {len(PAIRS)} pairs are missing."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/check"))
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    for name in [] if args.table else args.pairs:
        measure(name, args.runs)
    print(table(args.runs))


if __name__ == "__main__":
    main()
