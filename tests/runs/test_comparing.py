"""`esr compare`: paired differences of runs that exist, and only where the pairing means something."""

import json

import pytest

from esr.cli.main import run as esr
from esr.config import Config
from esr.evaluation.summarise import summarise
from esr.records.evaluation import Evaluated, Grade, Sample
from esr.runs.metrics import EVERY_STEP
from esr.runs.rundir import RunDir


def finished(path, right, seed=1, problems=8, n=4, k=2):
    """A run of one step whose evaluation has `right` problems answered rightly."""
    sections = {
        "student": {"model": "a/b"},
        "teacher": {"model": "c/d"},
        "data": {"source": "p"},
        "eval": {"source": "q"},
    }
    config = Config.model_validate(
        {**sections, "optim": {"steps": 1}, "run": {"seed": seed}, "rollout": {"max_new_tokens": n}}
    )
    run = RunDir(path)
    run.open_or_create(config)
    run.append(run.metrics_file, dict.fromkeys(EVERY_STEP, 1))
    graded = [
        Sample(problem=str(p), sample=i, text="", tokens=3, finished=True, repetitive=False,
               grade=Grade(first=p < right, last=p < right, any=p < right))
        for p in range(problems) for i in range(k)
    ]  # fmt: skip
    who = Evaluated(who="student", step=1)
    run.save_evaluation(summarise(graded, who, "m", "t", {"samples": k, "seed_sampling": seed}, 1.0), graded)
    return str(path)


def test_two_runs_are_paired_by_problem(tmp_path, capsys):
    a, b = finished(tmp_path / "a", 2), finished(tmp_path / "b", 6, seed=2, n=9)
    assert esr(["compare", a, b, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert (first["difference"], first["differs"]) == (None, [])
    assert second["difference"]["value"] == pytest.approx(0.5)
    assert second["difference"]["n"] == second["common"] == 8
    assert second["differs"] == ["rollout.max_new_tokens", "run.seed"]
    assert not second["same_numbers"]
    assert esr(["compare", a, b]) == 0
    shown = capsys.readouterr().out
    assert "+50.0" in shown
    assert "other random numbers" in shown


def test_problems_that_one_run_lacks_are_left_out_and_counted(tmp_path, capsys):
    a, b = finished(tmp_path / "a", 2), finished(tmp_path / "b", 2, problems=5)
    assert esr(["compare", a, b, "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["runs"][1]
    assert (second["common"], second["left_out"], second["difference"]["value"]) == (5, 3, 0)


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    a, other = finished(tmp_path / "a", 2), finished(tmp_path / "b", 2, k=3)
    assert esr(["compare", a, other]) == 2
    assert "evaluated in different ways (samples)" in capsys.readouterr().err
    assert esr(["compare", a, a]) == 2
    assert esr(["compare", a]) == 2
    (tmp_path / "a" / "evals" / "step-000001.json").unlink()
    assert esr(["compare", a, other]) == 2
    assert "no evaluation after its last step" in capsys.readouterr().err
