"""Kill a run with SIGKILL in the middle of a step, go on, and compare every number with an uninterrupted run.

    python bench/resume.py [CONFIG] [--steps 4] [--kill-after 3] [--dtype bfloat16]

Exits with 1 and names the first difference if there is one. Seconds and memory are left out, they may differ.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from esr.runs.rundir import RunDir


def command(args: argparse.Namespace, folder: Path) -> list[str]:
    overrides = [
        f"run.dir={folder}",
        f"optim.steps={args.steps}",
        "run.checkpoint_every=2",
        "rollout.max_new_tokens=20",
        "eval=null",
        f"student.dtype={args.dtype}",
        f"teacher.dtype={args.dtype}",
    ]
    return [sys.executable, "-m", "esr.cli.main", "train", args.config, *overrides]


def kill_in_the_middle(args: argparse.Namespace, folder: Path) -> None:
    """Start a run and kill it two seconds into the step after `--kill-after`."""
    process = subprocess.Popen(command(args, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(RunDir(folder).metrics()) < args.kill_after:
        if process.poll() is not None:
            sys.exit("the run ended before it could be killed")
        time.sleep(0.1)
    time.sleep(2)
    process.kill()
    process.wait()
    steps = len(RunDir(folder).metrics())
    print(f"killed after {steps} recorded steps; newest checkpoint {RunDir(folder).checkpoints()[-1].name}")


def rows(folder: Path) -> list[dict]:
    timing = ("time/", "memory/")
    return [{k: v for k, v in row.items() if not k.startswith(timing)} for row in RunDir(folder).metrics()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="examples/smollm2/esr.yaml")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kill-after", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="esr-resume-"))
    try:
        subprocess.run(command(args, home / "whole"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill_in_the_middle(args, home / "killed")
        subprocess.run(command(args, home / "killed"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole, killed = rows(home / "whole"), rows(home / "killed")
        different = [
            (a["step"], k, a[k], b.get(k)) for a, b in zip(whole, killed, strict=True) for k in a if a[k] != b.get(k)
        ]
        if different:
            sys.exit("step {}: {} is {} without and {} with the interruption".format(*different[0]))
        print(
            f"{len(whole)} steps x {len(whole[-1])} numbers: equal, figure for figure (last loss {whole[-1]['loss']!r})"
        )
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
