"""`esr eval` on a config file and on a run: what is evaluated again, and that training finds its directory usable."""

import json
from pathlib import Path

import pytest
import yaml

from esr.cli.main import run as esr
from esr.runs.rundir import RunDir


@pytest.fixture
def home(tmp_path, monkeypatch, pair_dir) -> Path:
    """A working directory with a config of one step."""
    monkeypatch.chdir(tmp_path)
    tree = {
        "student": {"model": str(pair_dir / "student")},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl"), "limit": 4},
        "rollout": {"prompts_per_step": 2, "max_new_tokens": 4},
        "optim": {"steps": 1},
        "eval": {"source": str(pair_dir / "prompts.jsonl"), "limit": 10, "samples": 1, "max_new_tokens": 4},
        "run": {"device": "cpu"},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def evaluated(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    assert esr(["eval", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["evaluation"]


def edit(**changes) -> None:
    tree = yaml.safe_load(Path("c.yaml").read_text())
    tree["eval"] |= changes
    Path("c.yaml").write_text(yaml.safe_dump(tree))


def test_a_teacher_evaluated_before_training_is_not_evaluated_again_by_it(home, capsys):
    first = evaluated(capsys, "c.yaml", "--who", "teacher")
    assert (first["who"], first["step"], first["variant"]) == ("teacher", None, "")
    assert esr(["train", "c.yaml"]) == 0
    run = RunDir("runs/c")
    assert run.evaluation("teacher").model_dump() == first
    assert run.environment()["device"] == "cpu" and run.complete(run.config())


def test_other_settings_are_evaluated_anew_beside_the_first_and_training_takes_its_own(home, capsys):
    first = evaluated(capsys, "c.yaml", "--who", "teacher")
    second = evaluated(capsys, "c.yaml", "eval.samples=2", "--who", "teacher")
    assert (first["samples"], second["samples"]) == (1, 2) and second["variant"]
    assert evaluated(capsys, "c.yaml", "eval.samples=2", "eval.batch_size=1", "--who", "teacher") == second
    edit(samples=3)
    assert evaluated(capsys, "c.yaml", "--who", "teacher")["samples"] == 3
    assert esr(["train", "c.yaml"]) == 0
    run = RunDir("runs/c")
    assert {e.samples for e in run.evaluations()} == {3} and run.complete(run.config())
    assert len(list(Path("runs/c/evals~1").glob("*.json"))) == 3


def test_after_training_a_changed_config_file_is_evaluated_beside_the_run(home, capsys):
    assert esr(["train", "c.yaml"]) == 0
    own = evaluated(capsys, "c.yaml")
    assert (own["step"], own["samples"], own["variant"]) == (1, 1, "")
    edit(samples=2)
    other = evaluated(capsys, "c.yaml", "run.device=cpu")
    assert (other["step"], other["samples"]) == (1, 2) and "prompts.jsonl" in other["variant"]
    assert evaluated(capsys, "runs/c", "eval.samples=2") == other
    assert RunDir("runs/c").config().eval.samples == 1
    assert esr(["eval", "c.yaml", "rollout.max_new_tokens=5"]) == 2
    assert "rollout.max_new_tokens: 4 -> 5" in capsys.readouterr().err


def test_problems_that_are_training_prompts_are_left_out_as_in_training(home, capsys):
    assert esr(["train", "c.yaml"]) == 0
    trained = RunDir("runs/c").evaluation("step-000001")
    assert trained.problems < 10
    assert evaluated(capsys, "runs/c", "eval.samples=2", "--who", "base")["problems"] == trained.problems


def test_responses_that_cannot_be_graded_are_shown_as_unmeasured(home, capsys, monkeypatch):
    from esr import grading
    from esr.records.evaluation import Grade

    monkeypatch.setattr(grading, "grade", lambda problems, texts: [Grade(first=None, last=None, any=None)] * len(texts))
    assert esr(["train", "c.yaml"]) == 0
    shown = capsys.readouterr()
    assert "The grader failed" in shown.out and "finished" in shown.out and "accuracy" not in shown.out
    assert esr(["report", "runs/c", "-o", "r.html"]) == 0
    assert esr(["export", "runs/c", "out"]) == 0
    readme = Path("out/README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| step 1 |"))
    assert row.count("| - |") == 1 and "| - | - |" in row.replace("  ", " ")
    assert "value: 0" not in readme


def test_a_run_that_another_process_works_on_is_not_changed(home, capsys):
    assert esr(["eval", "c.yaml", "--who", "base"]) == 0
    run = RunDir("runs/c")
    before = run.config_file.read_text()
    with run.locked():
        assert esr(["eval", "c.yaml", "optim.steps=7", "--who", "base"]) == 2
    assert "in use by another esr process" in capsys.readouterr().err
    assert run.config_file.read_text() == before and run.evaluation("step-000000")


@pytest.mark.parametrize("who", ["²", "-1", "middle"])
def test_who_is_a_word_or_the_number_of_a_step(home, capsys, who):
    assert esr(["eval", "c.yaml", f"--who={who}"]) == 2
    assert "give last, base, teacher, or the number of a step" in capsys.readouterr().err
