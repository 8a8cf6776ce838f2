"""Benchmarks for machines that the tests do not have, at small shapes: they work, and go on where they were broken off."""

import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from esr.budget import Placed
from esr.budget.footprint import Activations, Footprint, Held
from esr.config import Config
from esr.config.configfile import load
from esr.prepare import prepare
from esr.runs.rundir import RunDir
from esr.train import carry_out

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


def test_nats_per_byte_of_a_run_between_two_tokenizers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    per_byte = importlib.import_module("per_byte")
    small = ["optim.steps=1", "rollout.prompts_per_step=2", "rollout.max_new_tokens=8", f"run.dir={tmp_path / 'run'}"]
    config = load(str(BENCH.parent / "examples" / "lab-two-tokenizers.yaml"), [*small, "eval=null"])
    carry_out(prepare(config), RunDir(tmp_path / "run"))
    found = per_byte.measure(str(tmp_path / "run"), problems=3, cap=8)
    nats = found["nats_per_byte"]
    assert 0 < nats["after"]["value"] < 10 and nats["before"]["n"] == 3
    assert nats["change"]["value"] == pytest.approx(nats["after"]["value"] - nats["before"]["value"])
    assert (found["n"], found["step"]) == (8, 1)


def test_the_floor_of_a_step_by_hand(monkeypatch):
    """Models of 110 weights of two bytes, a card that reads 1,000 bytes a second, or does 1,000 operations."""
    monkeypatch.syspath_prepend(str(BENCH))
    scale = importlib.import_module("scale")
    held = Held(weights=220, copies=0, layer=20, head=20, cache=0, state=0, logits=4)
    models = scale.Models(*[scale.Size(100, 10, 2)] * 2, Footprint(held, held, 40, Activations(1, 1, 1)))
    tree = {"student": {"model": "s"}, "teacher": {"model": "t"}, "data": {"source": "d.jsonl"}}
    step = functools.partial(scale.floor, Config.model_validate(tree), models, micro=4096, checkpointing=False)
    reading = scale.Machine(1e9, 1e3, 1e30, 1e2, 1e1, "")
    phases = {"write": 100 * 0.22, "score": 0.22, "train": 0.44, "update": 7 * 40 / 1e3}
    assert step(Placed(), reading) == pytest.approx(phases)
    assert step(Placed("offloaded"), reading)["score"] == pytest.approx(22)
    assert step(Placed("sharded", ranks=2), reading)["score"] == pytest.approx(1.1)
    computing = scale.Machine(1e9, 1e30, 1e3, 1e30, 1e30, "")
    one, two = (step(Placed(ranks=ranks), computing) for ranks in (1, 2))
    assert one["score"] == pytest.approx(2 * 16 * (100 * 250 + 10 * 100) / 1e3)
    assert one["train"] == 2 * one["score"] and two["train"] == one["train"] / 2
