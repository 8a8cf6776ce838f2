"""Run the tests under every setting that must not matter, and print the counts: python tools/test_matrix.py [--times 3] [NAME ...]

    threads-unset  threads-1  threads-2     OMP_NUM_THREADS
    serial                                  one process instead of several
    no-home                                 a home directory that cannot be written to
    avx2                                    kernels for a processor without AVX512
    not-root                                without root's powers (root alone can try that, with setpriv)

Each run has an order of its own. Exits with 1 if a test failed, or was skipped other than in the lane of TRL.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS: dict[str, dict[str, str]] = {
    "threads-unset": {},
    "threads-1": {"OMP_NUM_THREADS": "1"},
    "threads-2": {"OMP_NUM_THREADS": "2"},
    "serial": {"OMP_NUM_THREADS": "1"},
    "no-home": {"OMP_NUM_THREADS": "1", "HOME": "/dev/null"},
    "avx2": {"OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "not-root": {"OMP_NUM_THREADS": "1"},
}
SKIPPED = 1
"""The module that compares with TRL."""


def run(name: str) -> tuple[bool, str]:
    """Whether a run was well, and pytest's last line."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "ONEDNN_", "ATEN_"))}
    processes = [] if name == "serial" else ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"]
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if name == "not-root" else []
    with tempfile.TemporaryDirectory(prefix="esr-tests-") as folder:
        done = subprocess.run(
            [*powerless, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", f"{folder}/t", *processes], cwd=ROOT,
            env=inherited | SETTINGS[name] | {"PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
        )  # fmt: skip
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    skipped = re.search(r"(\d+) skipped", lines[-1])
    well = done.returncode == 0 and int(skipped[1] if skipped else 0) <= SKIPPED
    return well, "\n".join([*failed, lines[-1]])


def main() -> None:
    """Every setting, so many times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="settings; default: all")
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.names) - set(SETTINGS):
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    results = []
    for name in args.names or SETTINGS:
        if name == "not-root" and os.geteuid() != 0:
            print("not-root: this is no root, so every other run was one of these", flush=True)
            continue
        for number in range(1, args.times + 1):
            well, text = run(name)
            results.append(well)
            print(f"{name} {number}/{args.times}: {'well' if well else 'NOT WELL'}: {text}", flush=True)
    print(f"{sum(results)} of {len(results)} runs were well")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
