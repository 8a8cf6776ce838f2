"""Studies: the file is checked first, a killed study ends as if it had not been, marks and intervals follow their rules."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from esr import intervals
from esr.errors import UserError
from esr.evaluation.summarise import summarise
from esr.records.base import Estimate
from esr.records.evaluation import Evaluated, Grade, Sample
from esr.records.study import ArmSeed
from esr.runs.environment import Machine
from esr.study import plan, result, work
from forked import own_core


def write_study(folder, pair_dir, **changes):
    base = {
        "student": {"model": str(pair_dir / "student"), "dtype": "float32"},
        "teacher": {"model": str(pair_dir / "teacher"), "dtype": "float32"},
        "data": {"source": str(pair_dir / "prompts.jsonl"), "limit": 10},
        "rollout": {"prompts_per_step": 2, "max_new_tokens": 6},
        "optim": {"steps": 3, "lr": 1e-3},
        "eval": {"source": str(pair_dir / "prompts.jsonl"), "samples": 2, "max_new_tokens": 8, "limit": 14, "seed": 3},
        "run": {"device": "cpu", "checkpoint_every": 1},
    }
    study = {
        "question": "Does it work?", "base": base, "reference": "long", "seeds": [1], "runs": str(folder / "pool"),
        "arms": {"short": {"rollout.max_new_tokens": 3}, "long": {"rollout.max_new_tokens": 6}},
    }  # fmt: skip
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**study, **changes}))
    return file


def command(file):
    """On one core, with one thread, as other tests run on the others."""
    pinned = f"import os, sys; os.sched_setaffinity(0, {own_core()}) if hasattr(os, 'sched_setaffinity') else None; "
    return [sys.executable, "-c", f"{pinned}from esr.cli.main import main; main()", "study", str(file), "--json"]


def without_costs(text):
    """The record without what differs between equal runs: seconds, memory, places."""
    record = json.loads(text)
    for key in ("environment", "command", "seconds", "name"):
        record.pop(key)
    for arm in record["arms"]:
        for part in (arm, *arm["seeds"]):
            for key in ("seconds", "seconds_per_step", "peak_memory_gib", "run"):
                part.pop(key, None)
        for seed in arm["seeds"]:
            for point in seed["curve"]:
                point.pop("seconds")
    base = record["base"]
    return record, base


def test_a_killed_study_ends_with_the_same_table(tmp_path, pair_dir):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = write_study(tmp_path / "whole", pair_dir)
    done = subprocess.run(command(whole), cwd=tmp_path / "whole", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr

    killed = write_study(tmp_path / "killed", pair_dir)
    process = subprocess.Popen(
        command(killed), cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list((tmp_path / "killed" / "pool").glob("short-*/checkpoints/step-000001/state.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    again = subprocess.run(command(killed), cwd=tmp_path / "killed", capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stderr
    assert without_costs(again.stdout) == without_costs(done.stdout)

    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "killed" / "pool").rglob("metrics.jsonl")}
    third = subprocess.run(command(killed), cwd=tmp_path / "killed", capture_output=True, text=True, env=environment)
    assert without_costs(third.stdout) == without_costs(done.stdout)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "killed" / "pool").rglob("metrics.jsonl")} == before


def test_a_failing_arm_does_not_lose_the_others(tmp_path, pair_dir):
    arms = {"bad": {"student.model": str(pair_dir)}, "long": {"optim.steps": 1}}
    file = write_study(tmp_path, pair_dir, arms=arms)
    done = subprocess.run(command(file), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    arms = {a["name"]: a for a in json.loads(done.stdout)["arms"]}
    assert "model directory" in arms["bad"]["seeds"][0]["error"]
    assert arms["bad"]["avg"] is None
    assert arms["long"]["avg"]["n"] > 0
    assert "1 runs failed" in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": "nobody"}, "reference arm 'nobody'"),
        ({"seeds": [1, 1]}, "twice"),
        ({"rule": "tokens"}, "needs a budget"),
        ({"budget": 5}, "has no budget"),
        ({"arms": {"long": {"run.seed": 3}}}, "run.seed is set by the study"),
        ({"arms": {"long": {"rollout.max_new_token": 3}}}, "did you mean rollout.max_new_tokens"),
        ({"arms": {"long": {}, "x": {"eval.samples": 7}}}, "one and the same `eval`"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_a_wrong_study_file_is_refused_at_once(tmp_path, pair_dir, changes, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        plan.read(write_study(tmp_path, pair_dir, **changes))


def test_equal_runs_of_two_studies_are_one(tmp_path, pair_dir):
    first = plan.read(write_study(tmp_path, pair_dir))
    first.of("long")[0].directory.path.mkdir(parents=True)
    other = write_study(
        tmp_path, pair_dir, arms={"baseline": {}, "n4": {"rollout.max_new_tokens": 4}}, reference="baseline"
    )
    second = plan.read(other)
    assert second.of("baseline")[0].directory.path == first.of("long")[0].directory.path
    assert second.of("n4")[0].directory.path != first.of("short")[0].directory.path


def test_a_budget_reaches_every_arm(tmp_path, pair_dir):
    study = plan.read(write_study(tmp_path, pair_dir, rule="tokens", budget=500))
    assert {run.config.optim.max_tokens for run in study.runs} == {500}


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high, n=50)


def test_marks_follow_their_rules():
    assert result.marks([], [], estimate(0.1, 0.05, 0.15), estimate(0.02, 0.001, 0.04)) == ["exceeds teacher"]
    assert result.marks([], [], estimate(-0.1, -0.2, -0.01), estimate(-0.2, -0.3, -0.1)) == ["worse than untrained"]
    assert result.marks([], [], estimate(-0.1, -0.2, 0.01), estimate(0.1, -0.01, 0.2)) == []


def test_a_run_whose_responses_do_not_finish_has_collapsed():
    seed = ArmSeed(seed=1, run="x", error=None, finish_rate=estimate(0.4, 0.3, 0.5))
    assert result.collapsed(seed, None)
    assert not result.collapsed(seed.model_copy(update={"finish_rate": estimate(0.9, 0.8, 1)}), None)


@pytest.mark.parametrize(("problem_sd", "seed_sd", "noise"), [(0.3, 0.0, 0.3), (0.2, 0.05, 0.3), (0.1, 0.1, 0.2)])
def test_pooled_intervals_cover_over_problems_and_seeds(problem_sd, seed_sd, noise):
    """95% intervals of a two-way layout with three seeds cover the truth in 93 to 97% of 2000 simulations."""
    rng = np.random.default_rng(1)
    hits, rounds, n = 0, 2000, 150
    for _ in range(rounds):
        table = 0.1 + rng.normal(0, problem_sd, n) + rng.normal(0, seed_sd, (3, 1)) + rng.normal(0, noise, (3, n))
        e = intervals.pooled([dict(enumerate(row)) for row in table])
        hits += e.low <= 0.1 <= e.high
    assert 0.93 <= hits / rounds <= 0.97


def test_pooled_by_hand():
    """Two seeds, two problems: rows (0, 1) and (0.5, 0.5); mean 0.5, by problem 0.0625, by seed 0 after the shared part."""
    e = intervals.pooled([{"a": 0.0, "b": 1.0}, {"a": 0.5, "b": 0.5}])
    assert e.value == 0.5
    columns = np.array([0.25, 0.75])
    assert e.high - e.value == pytest.approx(intervals.t_quantile(1) * np.sqrt(columns.var(ddof=1) / 2))


def test_cores_are_dealt_out():
    parts = work.shares(2)
    assert len(parts) == 2
    assert all(parts)


def test_arms_may_have_references_of_their_own(tmp_path, pair_dir):
    study = plan.read(write_study(tmp_path, pair_dir, reference={"short": "long"})).study
    assert (study.reference_of("short"), study.reference_of("long"), study.references) == ("long", None, ["long"])
    with pytest.raises(UserError, match="'other'"):
        plan.read(write_study(tmp_path, pair_dir, reference={"short": "other"}))


def test_roles_go_into_the_record_and_name_arms_that_are_there(tmp_path, pair_dir):
    study = plan.read(write_study(tmp_path, pair_dir, roles={"short": "early"})).study
    assert study.roles == {"short": "early"}
    with pytest.raises(UserError, match="`roles`: the arm 'other' is not among"):
        plan.read(write_study(tmp_path, pair_dir, roles={"other": "full"}))
    with pytest.raises(UserError, match="roles"):
        plan.read(write_study(tmp_path, pair_dir, roles={"short": "best"}))


def test_every_shipped_study_is_read_and_its_arms_differ(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    files = [*sorted((root / "studies").rglob("*.yaml")), root / "src/esr/lab/demo.yaml"]
    assert len(files) >= 6
    for file in files:
        study = plan.read(file)
        assert len({run.directory.path for run in study.runs}) == len(study.runs), file


def answers(run, name, right):
    """An evaluation of ten problems, two responses each, of which the first `right` problems are answered rightly."""
    graded = [
        Sample(
            problem=str(p), sample=i, text="", tokens=5, finished=True, repetitive=False,
            grade=Grade(first=p < right, last=p < right, any=p < right),
        )
        for p in range(10) for i in range(2)
    ]  # fmt: skip
    run.directory.save_evaluation(summarise(graded, Evaluated.named(name), "m", "t", {"k": 2}, 1.0), graded)


def finished_study(tmp_path, pair_dir, ends):
    """A study whose runs were never trained: `ends` gives each arm's right problems at the steps evaluated."""
    study = plan.read(write_study(tmp_path, pair_dir, seeds=[1, 2]))
    for run in study.runs:
        run.directory.open_or_create(run.config)
        for step in (1, 2, 3):
            row = {
                "step": step,
                "rollout/n": float(step),
                "time/step": 2.0,
                "tokens/generated": 10.0,
                "memory/peak_gib": 1.0 + step,
            }
            run.directory.append(run.directory.metrics_file, row)
        for name, right in {"step-000000": 2, "teacher": 9, **ends[run.arm]}.items():
            answers(run, name, right)
        run.directory.finished_file.write_text('{"seconds": 7.0}')
    return result.record(study, {}, "esr study tiny.yaml")


def test_the_numbers_of_a_study_by_hand(tmp_path, pair_dir):
    record = finished_study(tmp_path, pair_dir, {"short": {"step-000003": 5}, "long": {"step-000003": 7}})
    short, long = (next(a for a in record.arms if a.name == name) for name in ("short", "long"))
    assert [short.avg.value, short.before.value, short.teacher.value] == pytest.approx([0.5, 0.2, 0.9])
    assert [short.gain.value, short.difference.value, short.to_teacher.value] == pytest.approx([0.3, -0.2, -0.4])
    assert (long.difference, long.reference, short.reference) == (None, None, "long")
    assert (short.steps, short.seconds, short.seconds_per_step, short.generated) == (3, 6.0, 2.0, 30)
    assert short.peak_memory_gib == 4.0
    assert (short.n, short.mean_n, short.stops_at) == (3, 2.0, "2 of 3")
    points = [(p.step, p.seconds, p.tokens, p.avg.value) for p in short.seeds[0].curve]
    assert points == [(0, 0, 0, 0.2), (3, 6.0, 30, 0.5)]
    assert record.seconds == 4 * 7.0


def test_a_certain_fall_from_the_best_evaluation_is_a_collapse(tmp_path, pair_dir):
    ends = {"short": {"step-000002": 9, "step-000003": 3}, "long": {"step-000002": 7, "step-000003": 7}}
    marks = {a.name: a.marks for a in finished_study(tmp_path, pair_dir, ends).arms}
    assert marks == {"short": ["collapsed"], "long": []}


def test_untrained_evaluations_are_borrowed_from_an_equal_start_only(tmp_path, pair_dir):
    study = plan.read(write_study(tmp_path, pair_dir, seeds=[1, 2]))
    first, second, other_seed = (next(r for r in study.runs if (r.arm, r.seed) == key) for key in
                                 (("short", 1), ("long", 1), ("long", 2)))  # fmt: skip
    for run in (first, second, other_seed):
        run.directory.open_or_create(run.config, Machine("cpu"))
    for name in ("step-000000", "teacher"):
        answers(first, name, 4)
    work.borrow_evaluations(second)
    work.borrow_evaluations(other_seed)
    assert second.directory.evaluation("teacher") == first.directory.evaluation("teacher")
    assert second.directory.responses("step-000000") == first.directory.responses("step-000000")
    assert not (other_seed.directory.path / "evals").exists()


def test_a_run_whose_last_evaluation_was_removed_is_not_finished(tmp_path, pair_dir):
    finished_study(tmp_path, pair_dir, {"short": {"step-000003": 5}, "long": {"step-000003": 7}})
    study = plan.read(tmp_path / "tiny.yaml")
    run = study.of("short")[0].directory
    assert work.finished(run)
    run.evaluation_file("step-000003").unlink()
    assert not work.finished(run)
    short = next(a for a in result.record(study, {}, "esr study tiny.yaml").arms if a.name == "short")
    assert [seed.error for seed in short.seeds] == ["not run yet", None]
