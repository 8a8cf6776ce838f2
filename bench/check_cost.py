"""What `esr check` costs beside one training with full rollouts and its evaluations, on one core; or what is left of that to measure.

    python bench/check_cost.py [check quick train] [--config examples/lab.yaml] [--full 640]

Each is a process of its own, from its start to its end. Its processor seconds are what counts on a machine that does other work too.
Results are added to results/bench/check-cost.json; without names, that file is printed as Markdown.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from esr.analysis.fit.pilots import FULL_STEPS
from esr.records.fit import FitSettings
from esr.runs.files import read_json, write_json

RESULTS = Path("results/bench/check-cost.json")
PLACE = Path("runs/check-cost")
TITLES = {"train": "training with full rollouts, its evaluations", "check": "esr check", "quick": "esr check --quick"}


def measure(name: str, config: str, full: int) -> dict[str, float]:
    """Wall-clock and processor seconds of a command that begins anew."""
    shutil.rmtree(PLACE, ignore_errors=True)
    commands = {
        "train": ["train", config, f"rollout.max_new_tokens={full}", f"run.dir={PLACE}/run"],
        "check": ["check", config, f"run.dir={PLACE}/run"],
        "quick": ["check", config, f"run.dir={PLACE}/run", "--quick"],
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = subprocess.run([sys.executable, "-m", "esr.cli.main", *commands[name]], env=one).returncode
    if code not in (0, 3, 4):
        sys.exit(f"{name} ended with {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - start, 1), "processor": round(busy, 1)}


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown, one row for each command on each configuration."""
    rows = [
        "| configuration | command | processor seconds | of a full training | wall-clock seconds |",
        "|---|---|---|---|---|",
    ]
    for config, costs in found.items():
        whole = costs.get("train", {}).get("processor")
        for name, cost in costs.items():
            part = f"{100 * cost['processor'] / whole:.0f}%" if whole else "-"
            rows.append(f"| {config} | {TITLES[name]} | {cost['processor']:.0f} | {part} | {cost['seconds']:.0f} |")
    return "\n".join(rows)


def article() -> str:
    """By the article's own seconds on an A6000 (arXiv:2605.27028): 194 a step with full rollouts, 180 of them writing; 8 at N = 100.

    A step's time is taken to grow with N, and responses to take as long as those of a step, however many are written at once.
    """
    settings, steps, whole, writing, short = FitSettings(), 200, 194, 180, 8
    pilots = settings.steps(steps) * sum(short * n / 100 for n in settings.lengths)
    calls = 4 + len(settings.lengths)  # student, teacher, student after teacher, each pilot, teacher after all of them
    spent, training = pilots + FULL_STEPS * whole + calls * writing, steps * whole
    return (
        f"In the article's setting ({steps} steps of {whole} s): pilots {pilots:.0f} s, a full step {whole} s, {calls} times writing "
        f"{calls * writing} s, together {spent:,.0f} s of {training:,} ({100 * spent / training:.1f}%), its evaluations not counted."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TITLES, []])
    parser.add_argument("--config", default="examples/lab.yaml")
    parser.add_argument("--full", type=int, default=640, help="cap of full rollouts")
    args = parser.parse_args()
    found = read_json(RESULTS) if RESULTS.exists() else {}
    for name in args.names:
        found.setdefault(args.config, {})[name] = measure(name, args.config, args.full)
        write_json(RESULTS, found)
    print(table(found), article(), sep="\n\n")


if __name__ == "__main__":
    main()
