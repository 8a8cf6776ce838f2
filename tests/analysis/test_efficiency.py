"""Costs from hand-made run directories, against numbers worked out by hand."""

import json

import pytest

from esr.analysis import efficiency, open_subject
from esr.cli.main import run as esr
from esr.config import Config
from esr.evaluation.summarise import summarise
from esr.records.base import Estimate
from esr.records.efficiency import Efficiency, EfficiencySettings
from esr.records.evaluation import Evaluated, Grade, Sample
from esr.records.study import CurvePoint
from esr.runs.files import read_record, write_json
from esr.runs.rundir import RunDir


def graded(rights: int, of: int = 10) -> list[Sample]:
    return [
        Sample(
            problem=f"p{i}", sample=0, text="", tokens=5, finished=True, repetitive=False,
            grade=Grade(first=i < rights, last=i < rights, any=i < rights),
        )
        for i in range(of)
    ]  # fmt: skip


def make_run(path, seconds: list[float], rights: dict[int, int], device="cpu", settings=None) -> RunDir:
    """Steps that take `seconds` in all, and evaluations (step: right answers of 10)."""
    path.mkdir()
    config = {
        "student": {"model": "s"}, "teacher": {"model": "t"}, "data": {"source": "d.jsonl"},
        "rollout": {"max_new_tokens": 20, "prompts_per_step": 4, "samples_per_prompt": 2},
    }  # fmt: skip
    write_json(path / "config.json", {"format_version": 1, **Config.model_validate(config).model_dump()})
    write_json(path / "env.json", {"device": device, "cpus": 2, "platform": "x"})
    rows = [
        {
            "step": i + 1, "time/sync": 0.1 * s, "time/generate": 0.4 * s, "time/score": 0.2 * s, "time/train": 0.3 * s,
            "time/step": s, "tokens/generated": 100 + i, "tokens/scored": 300, "tokens/trained": 80,
            "memory/peak_gib": 1 + 0.1 * (i == 1),
        }
        for i, s in enumerate(seconds)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = RunDir(path)
    for step, n in rights.items():
        how = settings or {"temperature": 0.7, "seed_sampling": 1}
        run.save_evaluation(
            summarise(graded(n), Evaluated(who="student", step=step), "m", "d.jsonl", how, 1.0), graded(n)
        )
    return run


def compute(run: RunDir, *others: RunDir) -> Efficiency:
    return efficiency.compute(open_subject(run.path), EfficiencySettings(), others)


def test_costs_by_hand(tmp_path):
    """The first of four steps is left out of the phases, and of nothing else."""
    run = make_run(tmp_path / "run", [9.0, 1.0, 2.0, 3.0], {0: 2, 2: 4, 4: 6})
    run.save_evaluation(summarise(graded(9), Evaluated.named("step-000004@other"), "m", "other", {}, 1.0), graded(9))
    record = compute(run)
    (row,) = record.rows
    assert row.phases["step"].value == pytest.approx(2.0)
    assert row.phases["generate"].value == pytest.approx(0.8)
    half = 4.302652729749464 * 1 / 3**0.5
    assert row.phases["step"].low == pytest.approx(2 - half)
    assert (row.tokens_generated, row.tokens_scored, row.tokens_trained) == (101.5, 300, 80)
    assert (row.peak_memory_gib, row.memory_kind) == (1.1, "process")
    assert (row.run, row.n, row.steps, row.responses_per_step) == ("run", 20, 4, 8)
    assert [(p.step, p.seconds, p.tokens, p.avg.value) for p in row.curve] == [
        (0, 0.0, 0, 0.2), (2, 10.0, 201, 0.4), (4, 15.0, 406, 0.6),
    ]  # fmt: skip
    assert record.target == 0.6 and row.seconds_to_reach == pytest.approx(15.0)
    assert record.settings["steps_left_out"] == {"run": 1}


def test_time_to_equal_accuracy_is_interpolated_in_the_better_run(tmp_path):
    """The slower run's best is 50%; the other one gets there halfway between 40% at 10 s and 60% at 15 s."""
    a = make_run(tmp_path / "a", [9.0, 1.0, 2.0, 3.0], {0: 2, 2: 4, 4: 6})
    b = make_run(tmp_path / "b", [50.0] * 4, {0: 2, 4: 5}, device="cuda:0")
    record = compute(a, b)
    assert record.target == 0.5
    assert [r.seconds_to_reach for r in record.rows] == [pytest.approx(12.5), pytest.approx(200.0)]
    assert [r.memory_kind for r in record.rows] == ["process", "device"]
    assert record.device == "cpu, cuda:0"


def point(seconds: float, accuracy: float) -> CurvePoint:
    return CurvePoint(step=0, seconds=seconds, tokens=0, avg=Estimate(value=accuracy, low=0, high=1, n=5))


def test_seconds_to_reach():
    points = [point(0, 0.2), point(10, 0.1), point(20, 0.5), point(30, 0.4)]
    assert efficiency.seconds_to_reach(points, 0.15) == 0
    assert efficiency.seconds_to_reach(points, 0.3) == pytest.approx(15)
    assert efficiency.seconds_to_reach(points, 0.5) == pytest.approx(20)
    assert efficiency.seconds_to_reach(points, 0.51) is None
    assert efficiency.seconds_to_reach([], 0.1) is None


def test_without_comparable_evaluations_there_is_no_target(tmp_path):
    a = make_run(tmp_path / "a", [1.0, 2.0], {0: 2, 2: 4})
    b = make_run(tmp_path / "b", [1.0, 2.0], {0: 2, 2: 4}, settings={"temperature": 0.0})
    c = make_run(tmp_path / "c", [1.0, 2.0], {})
    for other, why in ((b, "differ in task or settings"), (c, "has no evaluations")):
        record = compute(a, other)
        assert why in record.settings["target"]
        assert record.target is None and record.rows[0].seconds_to_reach is None
    assert record.rows[0].phases["step"].value == pytest.approx(1.5)  # two steps: none is left out


def test_the_command_prints_the_ratio_and_keeps_a_record(tmp_path, capsys):
    a = make_run(tmp_path / "a", [2.0, 1.0, 2.0, 3.0], {0: 2, 4: 6})
    b = make_run(tmp_path / "b", [20.0, 10.0, 20.0, 30.0], {0: 2, 4: 6})
    assert esr(["analyze", "efficiency", str(a.path), "--with", str(b.path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "A step of b takes 10.00 times as long as one of a; to 60.0% accuracy" in out
    assert read_record(a.path / "analysis" / "efficiency.json", Efficiency).target == 0.6


def test_a_run_without_steps_is_one_sentence(tmp_path, capsys):
    run = make_run(tmp_path / "a", [1.0], {})
    assert esr(["analyze", "efficiency", str(run.path)]) == 2
    assert "at least two" in " ".join(capsys.readouterr().err.split())


def test_a_step_that_was_skipped_scored_and_trained_nothing_that_is_counted(tmp_path):
    run = make_run(tmp_path / "run", [9.0, 1.0, 2.0, 3.0], {0: 2, 4: 6})
    rows = run.metrics()
    del rows[1]["tokens/scored"], rows[1]["tokens/trained"]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = compute(run).rows
    assert (row.tokens_generated, row.tokens_scored, row.tokens_trained) == (101.5, 300, 80)
