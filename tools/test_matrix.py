"""Run the tests under every setting that must not matter, and record the counts: python tools/test_matrix.py [ROW ...]

Five things vary: OMP_NUM_THREADS (unset, 1, 2), one process or several, a home directory that can be written to or not, the
kernels of the processor at hand or of one without AVX512, and root's powers. Nine runs, each in a random order of its own:
every setting occurs in three of them, and every number of threads with every other setting (an orthogonal array). Each run is
written to results/tests.json with the commit that it tested. Exits with 1 if a test failed, or was skipped other than in the lane
of TRL.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "tests.json"
OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
ROWS = [
    ("unset", "parallel", "home", "root"),
    ("unset", "parallel", "home", "avx2"),
    ("unset", "serial", "no-home", "not-root"),
    ("1", "parallel", "home", "not-root"),
    ("1", "parallel", "no-home", "root"),
    ("1", "serial", "home", "avx2"),
    ("2", "parallel", "no-home", "avx2"),
    ("2", "parallel", "home", "not-root"),
    ("2", "serial", "home", "root"),
]
"""Of each run: threads, processes, home, and what else differs (nothing, the kernels, or root's powers)."""
SKIPPED = 1
"""The module that compares with TRL."""


def run(threads: str, processes: str, home: str, machine: str) -> tuple[bool, str]:
    """Whether a run was well, and what failed, with pytest's last line."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "ONEDNN_", "ATEN_"))}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"} | ({} if threads == "unset" else {"OMP_NUM_THREADS": threads})
    env |= {"HOME": "/dev/null"} if home == "no-home" else {}
    env |= OLD_PROCESSOR if machine == "avx2" else {}
    several = ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"] if processes == "parallel" else []
    powerless = (
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if machine == "not-root" and not os.geteuid() else []
    )
    with tempfile.TemporaryDirectory(prefix="esr-tests-") as folder:
        tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", f"{folder}/t", *several]
        done = subprocess.run([*powerless, *tests], cwd=ROOT, env=env, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    skipped = re.search(r"(\d+) skipped", lines[-1])
    well = done.returncode == 0 and int(skipped[1] if skipped else 0) <= SKIPPED
    return well, "\n".join([*failed, lines[-1].strip("= ")])


def counts(text: str) -> dict[str, int]:
    """Tests by outcome, of pytest's last line."""
    return {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", text)}


def write(number: int, seconds: float, text: str) -> None:
    """A run takes the place of the one that the record holds of its row."""
    rows = {row["row"]: row for row in json.loads(RECORD.read_text())} if RECORD.exists() else {}
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src", "tests"], cwd=ROOT).returncode
    setting = dict(zip(("threads", "processes", "home", "machine"), ROWS[number - 1], strict=True))
    found = {"commit": commit + " and changes" * changed, "cores": os.cpu_count(), "seconds": round(seconds)}
    rows[number] = {"row": number, **setting, **found, **counts(text.splitlines()[-1])}
    RECORD.write_text(json.dumps([rows[row] for row in sorted(rows)], indent=1) + "\n")


def main() -> None:
    """Every row, or those that are named by their numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, metavar="ROW", help="1 to 9; default: all")
    results = []
    for number in parser.parse_args().rows or range(1, len(ROWS) + 1):
        started = time.monotonic()
        well, text = run(*ROWS[number - 1])
        seconds = time.monotonic() - started
        results.append(well)
        write(number, seconds, text)
        name = f"{number} ({', '.join((f'threads {ROWS[number - 1][0]}', *ROWS[number - 1][1:]))})"
        print(f"{name}: {'well' if well else 'NOT WELL'} in {seconds:.0f} s: {text}", flush=True)
    print(f"{sum(results)} of {len(results)} runs were well")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
