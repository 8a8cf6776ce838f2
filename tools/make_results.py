"""Run every study and analysis that is missing in results/, in order of value, and write the documents anew.

    python tools/make_results.py [--list] [--parallel 2] [NAME ...]

Goes on after an interruption: finished runs and records are kept. `--list` runs nothing and says what is missing and how many
hours on two cores everything took, or, where nothing was run yet, may take.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results" / "lab"
STUDIES = {
    "main": 0.5, "n-sweep": 1.8, "main-seconds": 0.2, "pairs": 1.5, "two-tokenizers": 0.8, "pairs-base": 1.5, "selection": 1.2,
    "horizons": 2.0, "horizons-tokens": 1.5, "position-weights": 2.0, "finetune": 0.8, "selection-more": 2.5, "tune": 0.7,
    "tune-finetune": 0.6,
}  # fmt: skip
"""In order of value, with the hours that a first run may take."""
ANALYSES = (
    "decay", "profile", "prefix-swap", "submode", "submode-shared", "selection-shares", "lengths", "efficiency",
)  # fmt: skip
"""Records that studies/lab/analyses.sh writes."""
POOL = Path("runs/studies/pool")


def record(name: str) -> dict | None:
    file = RECORDS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def missing(name: str) -> int | None:
    """Runs of a study without a result; None without a study file or a record."""
    found = record(name)
    return None if found is None else sum(seed["avg"] is None for arm in found["arms"] for seed in arm["seeds"])


def headline() -> list[Path]:
    """The runs of the headline pair with the first seed, ESR and full; none if they are not on this machine."""
    arms = {arm["name"]: arm for arm in (record("main") or {"arms": []})["arms"]}
    runs = [POOL / arms[name]["seeds"][0]["run"] for name in ("esr", "full") if name in arms]
    return runs if runs and all((ROOT / run / "metrics.jsonl").exists() for run in runs) else []


def show(names: list[str]) -> None:
    for name in names:
        left, found = missing(name), record(name)
        hours = found["seconds"] / 3600 if found and not left else STUDIES[name]
        state = "not run" if left is None else f"{left} runs missing" if left else "done"
        written = (ROOT / "studies" / "lab" / f"{name}.yaml").exists()
        print(f"{name:16} {state if written else 'no study file':16} {hours:4.1f} h")
    print(f"{'analyses':16} {len([n for n in ANALYSES if record(n) is None])} of {len(ANALYSES)} missing")


def run(*command: str | Path) -> None:
    print("$", *command, flush=True)
    code = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if code:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="studies; default: all")
    parser.add_argument("--list", action="store_true", help="say what is missing, and run nothing")
    parser.add_argument("--parallel", default="2", help="runs at once")
    args = parser.parse_args()
    if unknown := set(args.names) - set(STUDIES):
        parser.error(f"no such study: {', '.join(sorted(unknown))}")
    names = args.names or list(STUDIES)
    if args.list:
        show(names)
        return
    for name in names:
        file = ROOT / "studies" / "lab" / f"{name}.yaml"
        if missing(name) != 0 and file.exists():
            run("esr", "study", file, "--parallel", args.parallel, "--record", RECORDS / f"{name}.json")
    first = headline()
    if first and any(record(name) is None for name in ANALYSES):
        run("bash", "studies/lab/analyses.sh", *first)
    run("make", "docs")
    if first:
        run(sys.executable, "tools/write_lab_report.py", *first)


if __name__ == "__main__":
    main()
