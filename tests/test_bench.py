"""Benchmarks for machines that the tests do not have, at small shapes: they work, and go on where they were broken off."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent.parent / "bench" / "gpu" / "run.py"


def test_the_gpu_benchmark_measures_a_piece_once_and_prints_a_page(tmp_path):
    """A pair whose student has more tokens than its teacher."""
    out, name = tmp_path / "gpu.json", "gemma-2-2b <- qwen3-4b, N = 12"
    command = [sys.executable, str(RUN), "--tiny", "--out", str(out), "--only", name]
    first = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(out.read_text())["pieces"]
    assert list(found) == [name], first.stderr
    assert found[name].get("tokens") == 2 * 12, found
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stderr == "" and again.stdout == first.stdout
    assert f"| {name} |" in first.stdout
