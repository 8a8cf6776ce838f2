"""Response lengths from constructed samples: exact quantiles, finish rates, histograms."""

import subprocess
import sys

import numpy as np
import pytest

from esr.analysis import lengths, open_subject
from esr.cli.main import run as esr
from esr.config import Config
from esr.evaluation.summarise import summarise
from esr.records.evaluation import Evaluated, Grade, Sample
from esr.records.lengths import Lengths, LengthsSettings
from esr.runs.files import read_record, write_json
from esr.runs.rundir import RunDir

CONFIG = {
    "student": {"model": "tiny-student"}, "teacher": {"model": "tiny-teacher"},
    "data": {"source": "prompts.jsonl"}, "eval": {"source": "prompts.jsonl", "max_new_tokens": 100},
}  # fmt: skip


def sample(problem: int, number: int, tokens: int, finished: bool = True) -> Sample:
    grade = Grade(first=True, last=True, any=True)
    return Sample(
        problem=f"p{problem}", sample=number, text="", tokens=tokens, finished=finished, repetitive=False, grade=grade
    )


def make_run(path, evaluations: dict[str, list[int]], settings=None, cap: int = 100) -> RunDir:
    """A run directory with evaluations of two responses to each problem; a response of `cap` tokens is unfinished."""
    path.mkdir()
    write_json(path / "config.json", {"format_version": 1, **Config.model_validate(CONFIG).model_dump()})
    run = RunDir(path)
    for name, counts in evaluations.items():
        samples = [sample(i // 2, i % 2, t, finished=t < cap) for i, t in enumerate(counts)]
        how = {"max_new_tokens": cap, "seed_sampling": 1, **(settings or {})}
        run.save_evaluation(summarise(samples, Evaluated.named(name), "m", "prompts.jsonl", how, 1.0), samples)
    return run


def compute(run: RunDir, *others: RunDir) -> Lengths:
    return lengths.compute(open_subject(run.path), LengthsSettings(), others)


SHORT, LONG, TEACHER = [10, 20, 30, 40, 50, 60], [20, 40, 60, 80, 100, 100], [70, 80, 90, 100, 100, 100]


def test_rows_of_a_run_have_the_exact_quantiles_and_finish_rates(tmp_path):
    run = make_run(
        tmp_path / "run", {"step-000000": SHORT, "step-000007": [1] * 6, "step-000030": LONG, "teacher": TEACHER}
    )
    record = compute(run)
    assert [r.model for r in record.rows] == ["before", "step 30", "teacher"]
    for row, counts in zip(record.rows, (SHORT, LONG, TEACHER), strict=True):
        for estimate, level in ((row.p10, 0.1), (row.p50, 0.5), (row.p90, 0.9)):
            assert estimate.value == pytest.approx(np.quantile(counts, level))
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.n == 3
        assert row.mean.value == pytest.approx(np.mean(counts))
        assert row.finish_rate.value == pytest.approx(np.mean([t < 100 for t in counts]))
        assert sum(n for _, n in row.histogram) == row.responses == 6
    assert record.max_new_tokens == 100 and record.problems == 3
    assert record.models["after"] == f"{run.path} step 30"
    assert record.settings["evaluations"]["step 30"] == "step-000030"
    assert lengths.student_evaluation(run, 7).name == "step-000007"


def test_all_histograms_have_the_same_bins_and_count_right(tmp_path):
    run = make_run(tmp_path / "run", {"step-000000": SHORT, "step-000030": LONG})
    record = compute(run)
    starts = [[start for start, _ in r.histogram] for r in record.rows]
    assert starts[0] == starts[1] == list(range(0, 101, record.bin_width))
    assert record.bin_width == 4 and len(starts[0]) <= lengths.BINS
    assert dict(record.rows[0].histogram)[20] == 1
    assert dict(record.rows[1].histogram)[100] == 2


def test_the_interval_is_a_bootstrap_over_problems_not_over_samples():
    """Three problems of one length each: a resample often has two of the same, a resample of 150 samples never does."""
    p50 = lengths.quantiles([[10] * 50, [50] * 50, [90] * 50], [0.5])[0]
    assert (p50.value, p50.low, p50.high, p50.n) == (50, 10, 90, 3)
    alike = lengths.quantiles([[7, 7], [7, 7], [7, 7]], [0.1])[0]
    assert (alike.value, alike.low, alike.high) == (7, 7, 7)


def test_only_evaluations_of_the_same_settings_are_compared(tmp_path, capsys):
    run = make_run(tmp_path / "a", {"step-000000": SHORT, "step-000030": LONG})
    samples = [sample(i // 2, i % 2, t) for i, t in enumerate(TEACHER)]
    run.save_evaluation(
        summarise(samples, Evaluated.named("teacher"), "m", "other task", {"max_new_tokens": 100}, 1.0), samples
    )
    other_seed = make_run(tmp_path / "b", {"step-000010": TEACHER}, {"seed_sampling": 2})
    record = compute(run, other_seed)
    assert [r.model for r in record.rows] == ["before", "step 30", "b"]
    make_run(tmp_path / "c", {"step-000010": TEACHER}, {"temperature": 0.1})
    assert esr(["analyze", "lengths", str(run.path), "--with", str(tmp_path / "c")]) == 2
    assert "has no evaluation with the task and settings" in " ".join(capsys.readouterr().err.split())


def test_one_problem_is_refused():
    with pytest.raises(lengths.UserError, match="two problems"):
        lengths.row(lengths.Responses("before", [[3, 4]], [[True, True]]), 1, 4)


def test_the_command_writes_a_record_without_torch(tmp_path):
    run = make_run(tmp_path / "run", {"step-000000": SHORT, "step-000030": LONG})
    code = (
        "import sys; from esr.cli.main import run; code = run(['analyze', 'lengths', sys.argv[1]]);"
        "sys.exit(code or ('torch' in sys.modules and 9) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "step 30" in done.stdout
    assert read_record(run.path / "analysis" / "lengths.json", Lengths).rows[1].p50.value == 70


def test_two_models_are_sampled(pair_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(pair_dir / "student"), str(pair_dir / "teacher"), "--task", str(pair_dir / "prompts.jsonl")]
    assert esr(["analyze", "lengths", *arguments, "--problems", "3"]) == 0
    (file,) = tmp_path.glob("runs/*/analysis/lengths.json")
    record = read_record(file, Lengths)
    assert [(r.model, r.responses) for r in record.rows] == [("before", 3), ("teacher", 3)]
    assert all(r.p90.value <= record.max_new_tokens for r in record.rows)
    assert record.settings["from"] == "sampled"
