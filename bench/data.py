"""A large JSONL file: seconds and peak memory until the first step is recorded, and until the next one after a kill.

    python bench/data.py [--rows 1000000] [--out results/bench/data.json]

The rows are questions of the lab, each with a worked solution that is not used; the models are the lab's, so that what is
measured is the reading. The same is done with a thousand rows, which costs what models and libraries cost.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from esr.config import TaskConfig
from esr.runs.rundir import RunDir
from esr.tasks import load

FEW = 1000


def write(file: Path, rows: int) -> int:
    """Write the file; returns its size in bytes."""
    questions = [p.question for p in load(TaskConfig(source="lab:arithmetic", size=20_000), "train", False).problems]
    draw = random.Random(0)
    with file.open("w") as out:
        for i in range(rows):
            row = {"id": i, "question": draw.choice(questions), "solution": "because " * 20, "answer": "1"}
            out.write(json.dumps(row) + "\n")
    return file.stat().st_size


def start(file: Path, folder: Path) -> dict[str, float]:
    """Start a run, or go on with it, until it has recorded one more step; then kill it."""
    run = RunDir(folder)
    before, begun = (len(run.metrics()) if run.exists() else 0), time.perf_counter()
    settings = [f"data.source={file}", "eval=null", "run.checkpoint_every=1", "rollout.max_new_tokens=8"]
    command = [sys.executable, "-m", "esr.cli.main", "train", "examples/lab.yaml", f"run.dir={folder}", *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not run.exists() or len(run.metrics()) <= before:
        if process.poll() is not None:
            sys.exit("the run ended before its first step")
        time.sleep(0.2)
    seconds, peak = time.perf_counter() - begun, resident_peak(process.pid)
    process.kill()
    process.wait()
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}


def resident_peak(process: int) -> float:
    """The largest resident set that a process has had, in GiB."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="esr-data-") as home:
        for rows in (FEW, args.rows):
            file, folder = Path(home, f"{rows}.jsonl"), Path(home, f"run-{rows}")
            size = write(file, rows)
            for name in ("first start", "second start"):
                found.append({"rows": rows, "bytes": size, "start": name, **start(file, folder)})
                print(found[-1], flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
