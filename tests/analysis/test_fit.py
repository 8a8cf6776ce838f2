"""`esr check`: the verdict on constructed numbers, and the whole of it on the lab at the smallest sizes."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from esr.analysis import analyze, open_subject
from esr.analysis.fit import measure
from esr.analysis.fit.verdict import expected, judge, shortest
from esr.cli.main import run as esr
from esr.records.base import Estimate
from esr.records.fit import Cost, Fit, FitSettings, Handover, Pilot
from esr.report.page import render
from esr.report.sources import load
from esr.runs.files import read_record, write_json
from esr.runs.rundir import RunDir

STUDENT = Estimate(value=0.3, low=0.25, high=0.35, n=100)


def about(value: float, half: float = 0.04) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=100)


def pilot(n: int, gain: float, after: float = 0.0, within: float = 0.0, half: float = 0.04) -> Pilot:
    last = about(0.3 + gain, half)
    return Pilot(
        n=n,
        steps=20,
        half=last,
        last=last,
        gain=about(gain, half),
        expected=last,
        after=about(after),
        within=about(within),
        cost=Cost(n=n, seconds=n / 100, peak_gib=1.0),
    )


def reach(gain: float) -> list[Handover]:
    return [Handover(k=100, continued=80, finished=20, avg=about(0.3 + gain), gain=about(gain))]


FULL = Cost(n=600, seconds=6.0, peak_gib=3.0)


def test_a_pair_that_fits_gets_the_shortest_n_that_keeps_nine_tenths_of_the_best_gain():
    pilots = [pilot(50, 0.1), pilot(100, 0.37, within=0.2), pilot(200, 0.4)]
    found = judge(STUDENT, about(0.6), reach(0.4), pilots, FULL)
    assert (found.answer, found.n, found.better) == ("fits", 100, "more steps")
    assert (found.faster, found.smaller) == (pytest.approx(6.0), pytest.approx(3.0))
    assert shortest([pilot(50, 0.35), *pilots]).n == 100
    assert shortest([pilot(50, 0.36), *pilots]).n == 50


def test_what_is_left_after_n_is_for_longer_rollouts():
    found = judge(STUDENT, about(0.6), reach(0.4), [pilot(100, 0.35, after=0.25, within=-0.01)], FULL)
    assert (found.answer, found.better) == ("fits", "full rollouts")
    assert "+25.0" in found.reasons[-1]


def test_a_far_student_is_sent_to_a_supervised_warm_up():
    found = judge(STUDENT, about(0.6), reach(0.02), [pilot(100, 0.01, after=0.3, within=0.3)], FULL)
    assert (found.answer, found.n, found.better) == ("does not fit", None, "supervised warm-up")
    assert "+2.0" in found.reasons[-1]


def test_a_student_that_can_go_on_but_learned_nothing_needs_what_lies_after_n():
    found = judge(STUDENT, about(0.6), reach(0.4), [pilot(100, 0.01, after=0.5, within=0.1)], FULL)
    assert (found.answer, found.better) == ("does not fit", "full rollouts")


@pytest.mark.parametrize("gap", [about(0.0, 0.015), about(-0.2)], ids=["no gap", "a worse teacher"])
def test_a_teacher_that_is_no_better_is_to_be_changed(gap):
    found = judge(STUDENT, gap, [], [], None)
    assert (found.answer, found.better) == ("does not fit", "another teacher")


def test_where_it_cannot_tell_it_says_what_would():
    wide = judge(STUDENT, about(0.05, 0.1), [], [pilot(100, 0.1)], FULL)
    assert (wide.answer, wide.n) == ("cannot tell", None) and "401 problems" in wide.reasons[0]
    unsure = judge(STUDENT, about(0.5), reach(0.4), [pilot(100, 0.12, half=0.1)], FULL)
    assert (unsure.answer, unsure.n) == ("cannot tell", 100) and "2,501 problems" in unsure.reasons[0]
    assert judge(STUDENT, about(0.5), reach(0.4), [], None).answer == "cannot tell"


def test_a_saturating_curve_by_hand():
    """Gains of 20 and 10 points in the first two halves: 5 and 2.5 follow in two more."""
    found = expected(0.1, 0.3, about(0.4), steps=20, total=40)
    assert found.value == pytest.approx(0.475) and (found.low, found.high) == (
        pytest.approx(0.36),
        pytest.approx(0.515),
    )
    assert expected(0.1, 0.3, about(0.4), steps=20, total=20) == about(0.4)
    assert expected(0.1, 0.3, about(0.25), steps=20, total=99) == about(0.25)


@pytest.fixture
def pair(tmp_path, monkeypatch) -> str:
    """The lab's headline pair at the smallest sizes."""
    monkeypatch.chdir(tmp_path)
    sections = {
        "student": {"model": "lab:student-2-able"},
        "teacher": {"model": "lab:teacher-2-best"},
        "data": {"source": "lab:arithmetic", "size": 8},
        "rollout": {"prompts_per_step": 2},
        "optim": {"steps": 4},
        "eval": {"source": "lab:arithmetic", "size": 4, "max_new_tokens": 12},
        "run": {"device": "cpu", "threads": 1},
    }
    Path("c.yaml").write_text(yaml.safe_dump(sections))
    return "c.yaml"


SMALL = FitSettings(problems=2, lengths=(4, 8), pilot=2)


def told(record: Fit) -> dict:
    """A record but for what a clock or the memory says."""
    clock = {"seconds": True, "full": True, "verdict": {"faster", "smaller"}, "pilots": {"__all__": {"cost"}}}
    return record.model_dump(exclude=clock)


def test_a_check_that_was_killed_goes_on_to_the_same_record_and_keeps_no_pilot(pair, monkeypatch):
    """With a teacher taken for better, so that pilots train; killed in the last measurement."""
    monkeypatch.setattr(measure, "WORTH", -2.0)
    monkeypatch.setattr(measure, "judge", lambda student, gap, *rest: judge(student, about(0.5), *rest))
    whole = analyze(open_subject(pair, overrides=["run.dir=whole"]), "fit", SMALL)
    assert [p.n for p in whole.pilots] == [4, 8] and whole.full.n == 12 and whole.apart
    with monkeypatch.context() as during:
        during.setattr(measure, "cost", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            analyze(open_subject(pair, overrides=["run.dir=killed"]), "fit", SMALL)
    assert Path("killed-pair/pilots/8").exists()
    resumed = analyze(open_subject(pair, overrides=["run.dir=killed"]), "fit", SMALL)
    assert told(resumed) == told(whole)
    assert not Path("killed-pair/pilots").exists() and not Path("killed").exists()


def test_a_pair_without_a_gap_exits_with_three_or_four_and_train_takes_the_n_of_the_record(pair, capsys):
    """Nobody gets anything right within twelve tokens. Then a record that recommends N = 5 stands in."""
    assert esr(["check", pair, "--quick"]) in (3, 4)
    assert esr(["train", pair, "--n", "auto", "eval=null"]) == 2
    file = RunDir("runs/c-pair").analysis_file("fit")
    record = read_record(file, Fit)
    fits = record.verdict.model_copy(update={"answer": "fits", "n": 5, "expected": about(0.5)})
    write_json(file, record.model_copy(update={"verdict": fits}).model_dump())
    assert esr(["train", pair, "--n", "auto", "eval=null"]) == 0
    run = RunDir("runs/c")
    assert {row["rollout/n"] for row in run.metrics()} == {5}
    assert read_record(run.analysis_file("fit"), Fit).verdict == fits
    assert "Does it fit?" in render(load([run.path]))
