"""A step whose loss or gradient is not finite: once more with other kernels, kept, stopped without loss, or skipped."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esr import distill
from esr.cli.main import run as esr
from esr.distill import step
from esr.nonfinite import NotFinite
from esr.runs.rundir import RunDir
from test_distill import distiller, pairs
from test_train import home, rows  # noqa: F401


def poisoned(monkeypatch, times: int, at_step: int | None = None) -> list[int]:
    """Let the student's hidden states have NaN gradients in the first `times` forward passes (of one step)."""
    real, real_gradient, now, seen = distill.hidden_states, distill.gradient, [0], []

    def gradient(run, batch, index, *rest):
        now[0] = index
        return real_gradient(run, batch, index, *rest)

    def hidden_states(lm, part, rollout, *seeds):
        found = real(lm, part, rollout, *seeds)
        if seeds and (at_step is None or now[0] == at_step):
            seen.append(len(rollout))
            if len(seen) <= times:
                found = found * 1
                found.register_hook(lambda grad: grad * float("nan"))
        return found

    monkeypatch.setattr(distill, "hidden_states", hidden_states)
    monkeypatch.setattr(distill, "gradient", gradient)
    return seen


def test_other_kernels_get_past_a_gradient_that_is_not_finite(monkeypatch):
    calm, run = distiller(), distiller()
    expected = step(calm, pairs(calm), 0, 1e-2).metrics
    notes: list[str] = []
    run.notify = notes.append
    poisoned(monkeypatch, times=1)
    metrics = step(run, pairs(run), 0, 1e-2).metrics
    assert len(notes) == 1 and "done again with other attention kernels" in notes[0]
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert metrics["optim/grad_norm"] == pytest.approx(expected["optim/grad_norm"], rel=1e-4)


def test_a_gradient_that_is_not_finite_names_its_rows_and_widths(monkeypatch):
    run = distiller()
    before = [p.clone() for p in run.student.module.parameters()]
    poisoned(monkeypatch, times=2)
    with pytest.raises(NotFinite, match=r"gradient of step 1 .* what is 2\+2\?, .*8 rows, \d+ tokens wide"):
        step(run, pairs(run), 0, 1e-2)
    assert all(torch.equal(p, b) for p, b in zip(run.student.module.parameters(), before))


def test_a_run_whose_last_step_is_skipped_ends_well(home, monkeypatch, capsys):  # noqa: F811
    poisoned(monkeypatch, times=10**9, at_step=1)
    assert esr(["train", "c.yaml", "optim.on_nonfinite=skip", "optim.steps=2"]) == 0
    assert "and unknown at the last" in capsys.readouterr().out


def test_a_run_stops_with_the_last_good_step_saved_and_may_skip_the_bad_one(home, monkeypatch, capsys):  # noqa: F811
    poisoned(monkeypatch, times=10**9, at_step=3)
    for _ in range(2):
        assert esr(["train", "c.yaml"]) != 0
        assert RunDir("run").checkpoints()[-1].name == "step-000003"
    kept = json.loads(Path("run/nonfinite/step-000004.json").read_text())
    tensors = load_file("run/nonfinite/step-000004.safetensors")
    assert len(kept["problems"]) == len(tensors["response_ids"]) == 3
    assert esr(["train", "c.yaml", "optim.on_nonfinite=skip"]) == 0
    assert "1 of 6 steps were skipped" in " ".join(capsys.readouterr().err.split())
    assert [row.get("optim/skipped", 0) for row in rows("run")] == [0, 0, 0, 1, 0, 0]


def test_no_gradient_is_left_unlooked_at(monkeypatch):
    """NaN in the weights of a single layer, and not the first."""
    run = distiller()
    last = [p for p in run.student.module.parameters() if p.requires_grad][-1]
    last.register_hook(lambda grad: grad * float("nan"))
    before = [p.clone() for p in run.student.module.parameters()]
    with pytest.raises(NotFinite, match="gradient of step 1"):
        step(run, pairs(run), 0, 1e-2)
    assert all(torch.equal(p, b) for p, b in zip(run.student.module.parameters(), before))
