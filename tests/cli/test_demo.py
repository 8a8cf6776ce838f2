"""The demo from end to end, on a tiny pair: every step runs once, and a second call says that it is done."""

from pathlib import Path

import pytest
import yaml

from esr.cli.main import run as esr
from esr.study import work
from forked import own_core


@pytest.fixture
def study(tmp_path, monkeypatch, pair_dir) -> Path:
    monkeypatch.chdir(tmp_path)
    core = own_core()
    monkeypatch.setattr(work, "shares", lambda parallel: [core] * parallel)
    base = {
        "student": {"model": str(pair_dir / "student")},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl"), "limit": 8},
        "rollout": {"prompts_per_step": 2},
        "optim": {"steps": 2, "lr": 1e-3},
        "eval": {"source": str(pair_dir / "prompts.jsonl"), "samples": 1, "max_new_tokens": 16, "seed": 3},
        "run": {"device": "cpu", "rollouts_every": 1},
    }
    arms = {"esr": {"rollout.max_new_tokens": 6}, "full": {"rollout.max_new_tokens": 16}}
    tree = {"question": "?", "reference": "full", "seeds": [1], "runs": "runs/tiny", "base": base, "arms": arms}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "tiny.yaml"


def test_the_demo_runs_once_and_then_says_so(study, capfd):
    assert esr(["demo", str(study)]) == 0
    out, err = capfd.readouterr()
    page = Path("runs/studies/tiny/report.html")
    assert page.exists()
    assert str(page) in out
    assert "ESR (N = 6)" in out
    assert "[10/10]" in err
    written = page.stat().st_mtime_ns
    assert esr(["demo", str(study)]) == 0
    out, err = capfd.readouterr()
    assert "done already" in err
    assert "ESR (N = 6)" in out
    assert page.stat().st_mtime_ns == written
    for record in Path("runs/tiny").glob("esr-*/analysis/decay.json"):
        record.unlink()
    assert esr(["demo", str(study)]) == 0
    assert "[2/2] esr report" in capfd.readouterr().err
    assert page.stat().st_mtime_ns > written


def test_a_study_without_the_two_arms_is_refused(study, capfd):
    tree = yaml.safe_load(study.read_text())
    tree["arms"]["half"] = tree["arms"].pop("esr")
    study.write_text(yaml.safe_dump(tree))
    assert esr(["demo", str(study)]) == 2
    assert "arms named esr and full" in capfd.readouterr().err
