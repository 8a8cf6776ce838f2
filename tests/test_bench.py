"""Benchmarks for machines that the tests do not have, at small shapes: they work, and go on where they were broken off."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent.parent / "bench"
RUN = BENCH / "gpu" / "run.py"


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


def test_the_endurance_bench_disturbs_what_a_step_runs(tmp_path, monkeypatch):
    """Its faults come into a step by names of this package, which could be moved."""
    from esr import distill, train
    from esr.sampling import loop

    monkeypatch.syspath_prepend(str(BENCH))
    import endurance

    places = [(train, "step"), (distill, "score"), (distill, "hidden_states"), (loop.Writing, "block")]
    for place, name in places:
        monkeypatch.setattr(place, name, getattr(place, name))
    usual = [getattr(place, name) for place, name in places]
    endurance.Faults(1, tmp_path / "faults.jsonl").install()
    assert all(getattr(place, name) is not old for (place, name), old in zip(places, usual, strict=True))
