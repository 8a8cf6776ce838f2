"""Check pairs before training, train them, and compare: predicted and reached. The lab's pairs, and SmolLM2's.

    python bench/check.py [--pairs able-plain-medium ...] [--arms 100 50]    checks and trains what is missing
    python bench/check.py --save                                             results/lab/check.json, of all that is there
    python bench/check.py --table                                            that file as Markdown

Goes on after an interruption: checks and runs that are there are not made again.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from esr import intervals
from esr.analysis import analyze, open_subject
from esr.config.configfile import load
from esr.evaluation import evaluate
from esr.models.machine import threads
from esr.prepare import Prepared, prepare
from esr.records.base import Estimate
from esr.records.evaluation import Evaluated, grades
from esr.records.fit import Fit, FitSettings
from esr.runs.files import read_json, read_record, write_json
from esr.runs.rundir import RunDir
from esr.train import carry_out

CONFIG = "examples/lab.yaml"
RESULTS = Path("results/lab/check.json")
SHORT = ["rollout.prompts_per_step=16", "optim.steps=16", "eval.size=128", "eval.samples=1", "eval.batch_size=128"]
"""What makes a dozen pairs affordable; the check sees the same."""
SETTINGS = FitSettings(lengths=(50, 100))
LENGTHS = {"50": 50, "100": 100, "200": 200}
ARMS = ("100", "50", "full", "200")
FIXED_ON = (
    ("student-2-able", "teacher-2", "medium"),
    ("merged-1", "teacher-2-best", "medium"),
    ("student-1", "teacher-2", "medium"),
    ("student-2", "teacher-2", "medium"),
    ("student-2-able", "teacher-2-long", "medium"),
    ("base-1", "teacher-2", "medium"),
    ("student-2", "teacher-2-best", "hard"),
)
"""Students, teachers and levels on which the estimator was fixed. `easy` has too few problems to train on."""
SCORED_ON = (
    ("student-2-able", "teacher-2-best", "hard"),
    ("student-1", "teacher-2-long", "medium"),
    ("student-2", "teacher-2-long", "medium"),
    ("far-0", "teacher-2", "medium"),
    ("student-1", "teacher-2-best", "hard"),
    ("merged-1", "teacher-2", "medium"),
    ("base-1", "teacher-2-best", "medium"),
    ("base-1", "teacher-2-long", "medium"),
    ("merged-1", "teacher-2-long", "medium"),
    ("student-2-able", "teacher-2", "hard"),
    ("student-2", "teacher-2", "hard"),
    ("student-1", "teacher-2-best", "medium"),
)
"""Others: what training reaches on them was not known when the estimator was fixed."""
SMOLLM2 = ("SmolLM2 without two layers", "SmolLM2-135M-Instruct", "one operation")
"""Language models, on the second task of docs/results.md, of which there are problems enough. Scored, too."""
SMOLLM2_CONFIG = "examples/smollm2/esr.yaml"
SMOLLM2_SHORT = [
    "optim.steps=16",
    "eval.source=reasoning_gym:basic_arithmetic",
    "eval.params={min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1, "
    'operators: ["+", "*"], allow_parentheses: false, allow_negation: false}',
    "eval.size=400",
    "eval.limit=128",
    "eval.samples=1",
    "eval.max_new_tokens=160",
]
PAIRS = {
    f"{student.removeprefix('student-2-')} {teacher.removeprefix('teacher-2').lstrip('-') or 'plain'} {level}".replace(
        " ", "-"
    ): (student, teacher, level)
    for student, teacher, level in (*FIXED_ON, *SCORED_ON)
} | {"smollm2": SMOLLM2}
"""By name: student, teacher and level."""


def configured(name: str, place: Path) -> tuple[str, list[str]]:
    """The configuration of a pair, and what its check and its training change there."""
    if PAIRS[name] == SMOLLM2:
        return SMOLLM2_CONFIG, [f"run.dir={place}", *SMOLLM2_SHORT]
    student, teacher, level = PAIRS[name]
    pair = [f"student.model=lab:{student}", f"teacher.model=lab:{teacher}", f"run.dir={place}"]
    return CONFIG, [*pair, f"data.params={{level: {level}}}", f"eval.params={{level: {level}}}", *SHORT]


def longest(name: str, arm: str) -> int:
    """The cap of an arm's rollouts in tokens; that of full ones cuts few of the pair's responses."""
    return LENGTHS.get(arm, 400 if PAIRS[name] == SMOLLM2 else 640)


def check(name: str, runs: Path) -> None:
    """Before any training."""
    if not check_file(name, runs).exists():
        config, overrides = configured(name, runs / name)
        analyze(open_subject(config, overrides=overrides), "fit", SETTINGS)


def check_file(name: str, runs: Path) -> Path:
    return RunDir(runs / f"{name}-pair").analysis_file("fit")


def train(name: str, runs: Path, arms: list[str]) -> None:
    """A run for each arm, of which the last student alone is evaluated."""
    missing = [arm for arm in arms if reached(name, arm, runs) is None]
    if missing:
        plan = prepare(load(*configured(name, runs / name)))
        for arm in missing:
            train_arm(plan, RunDir(runs / f"{name}-{arm}"), longest(name, arm))


def train_arm(plan: Prepared, run: RunDir, n: int) -> None:
    rollout = plan.config.rollout.model_copy(update={"max_new_tokens": n})
    asked = plan.config.model_copy(update={"rollout": rollout})
    own = asked.model_copy(update={"eval": None})
    carry_out(replace(plan, config=own), run)
    evaluate.of_run(run, own, asked, Evaluated(who="student", step=own.optim.steps))


def reached(name: str, arm: str, runs: Path) -> Estimate | None:
    """Accuracy of an arm's last student."""
    run = RunDir(runs / f"{name}-{arm}")
    last = run.last(run.config()) if run.exists() else None
    return last.avg if last else None


def results(runs: Path) -> Iterator[dict[str, Any]]:
    """What was said of each pair that was checked, and what came."""
    for name, (student, teacher, level) in PAIRS.items():
        if check_file(name, runs).exists():
            record = read_record(check_file(name, runs), Fit)
            came = {arm: found for arm in ARMS if (found := reached(name, arm, runs))}
            yield {
                "student": student,
                "teacher": teacher,
                "level": level,
                "seconds": record.seconds,
                "untrained": record.student.model_dump(),
                "answer": record.verdict.answer,
                "n": record.verdict.n,
                "better": record.verdict.better,
                "within": {str(p.n): p.within.model_dump() for p in record.pilots},
                "after": {str(p.n): p.after.model_dump() for p in record.pilots},
                "expected": {str(p.n): p.end.accuracy.model_dump() for p in record.pilots},
                "reached": {arm: found.model_dump() for arm, found in came.items()},
                "full_gain": full_gain(name, runs).model_dump() if {"full", "100"} <= came.keys() else None,
            }


def full_gain(name: str, runs: Path) -> Estimate:
    """Full rollouts minus N = 100 after equal updates, paired by problem."""
    return intervals.paired_difference(*(last_grades(RunDir(runs / f"{name}-{arm}")) for arm in ("full", "100")))


def last_grades(run: RunDir) -> dict[str, list[float]]:
    """Of a run's last student, by problem."""
    last = run.last(run.config())
    assert last is not None
    return grades(run.responses(last.name))


class Scored:
    """A pair's row of the table; a miss is marked."""

    def __init__(self, found: dict[str, Any]):
        self.found = found
        self.expected = {n: Estimate(**e) for n, e in found["expected"].items()} or dict.fromkeys(
            ("50", "100"), Estimate(**found["untrained"])
        )
        self.reached = {arm: Estimate(**e) for arm, e in found["reached"].items()}
        self.full_gain = Estimate(**found["full_gain"]) if found["full_gain"] else None

    def accuracy(self, n: str) -> bool | None:
        """Whether the expected accuracy is within 5 points, or its interval holds what was reached."""
        if n not in self.reached:
            return None
        return self.near(n) or self.expected[n].low <= self.reached[n].value <= self.expected[n].high

    def near(self, n: str) -> bool | None:
        """Whether the expected accuracy is within 5 points of what was reached."""
        return abs(self.expected[n].value - self.reached[n].value) <= 0.05 if n in self.reached else None

    def length(self, of: Iterable[str] = LENGTHS) -> bool | None:
        """Whether the recommended N reached within 2 points of the best of these."""
        n, of = str(self.found["n"]), set(of)
        if n not in self.reached or not of <= self.reached.keys():
            return None
        return max(self.reached[m].value for m in of) - self.reached[n].value <= 0.02

    def full(self) -> bool | None:
        """Whether it said rightly if full rollouts would do better, where the difference is certain."""
        if self.full_gain is None or self.full_gain.low <= 0 <= self.full_gain.high:
            return None
        return (self.found["better"] == "full rollouts") == (self.full_gain.low > 0)

    def row(self) -> str:
        found, marked = self.found, lambda hit: " **miss**" if hit is False else ""
        cells = [
            f"{found['student']}, {found['teacher']}, {found['level']}",
            Estimate(**found["untrained"]).text(),
            found["answer"],
            f"{found['n'] or '-'}{marked(self.length(LENGTHS.keys() & self.reached.keys()))}",
            *(self.part(which) for which in ("within", "after")),
            *(
                cell
                for n, said in self.expected.items()
                for cell in (said.text(), f"{self.text(n)}{marked(self.accuracy(n))}")
            ),
            self.text("200"),
            self.text("full"),
            f"{found['better'] or '-'}{marked(self.full())}",
        ]
        return f"| {' | '.join(cells)} |"

    def part(self, which: str) -> str:
        """What the longest pilot found within its N and left to be learned, or after it, in points."""
        known = self.found[which]
        return Estimate(**known[max(known, key=int)]).text(sign=True) if known else "-"

    def text(self, arm: str) -> str:
        return self.reached[arm].text() if arm in self.reached else "not run"


def table() -> str:
    """Markdown: the pairs that the estimator was scored on, with the count of hits; then those that it was fixed on."""
    known = read_json(RESULTS)["pairs"]
    fixed = [p for p in known if (p["student"], p["teacher"], p["level"]) in FIXED_ON]
    scored = [p for p in known if p not in fixed]
    lines = [
        f"Scored on {len(scored)} of {len(SCORED_ON) + 1} pairs, whose ends were not known when the estimator was fixed:",
        "",
    ]
    return "\n".join([*lines, *rows(scored), "", "Fixed on these:", "", *rows(fixed)])


def rows(found: list[dict[str, Any]]) -> list[str]:
    """A table of pairs, and what was hit."""
    pairs = [Scored(one) for one in found]
    columns = [
        "pair",
        "untrained",
        "verdict",
        "N",
        "left within 100",
        "after 100",
        "expected at 50",
        "reached",
        "expected at 100",
        "reached",
        "reached at 200",
        "full",
        "better",
    ]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    counts = [
        ("accuracy at N = 100 within 5 points or the interval", [p.accuracy("100") for p in pairs]),
        ("accuracy at N = 50 within 5 points or the interval", [p.accuracy("50") for p in pairs]),
        ("accuracy within 5 points, at N = 100", [p.near("100") for p in pairs]),
        ("accuracy within 5 points, at N = 50", [p.near("50") for p in pairs]),
        ("recommended N within 2 points of the better of 50 and 100", [p.length(p.expected) for p in pairs]),
        ("recommended N within 2 points of the best of 50, 100 and 200", [p.length() for p in pairs]),
        ("full rollouts better or not, where that is certain", [p.full() for p in pairs]),
    ]
    told = [f"* {what}: {hits.count(True)} of {len(hits) - hits.count(None)}" for what, hits in counts]
    unsure = sum(one["answer"] == "cannot tell" for one in found)
    told.append(f"* its answer is that it cannot tell: {unsure} of {len(found)}")
    return [*head, *(p.row() for p in pairs), "", "Hits:", "", *told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/check"))
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table())
    elif args.save:
        write_json(
            RESULTS,
            {
                "config": [CONFIG, *SHORT],
                "smollm2": [SMOLLM2_CONFIG, *SMOLLM2_SHORT],
                "pairs": list(results(args.runs)),
            },
        )
    else:
        with threads(1):
            for name in args.pairs:
                check(name, args.runs)
                train(name, args.runs, args.arms)


if __name__ == "__main__":
    main()
