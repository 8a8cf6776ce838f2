"""Sub-mode commitment on constructed models whose distributions are known."""

import functools
import math

import pytest
import torch

from esr.analysis import bimodal
from esr.analysis import submode as analysis
from esr.analysis.bimodal import Bimodal
from esr.analysis.others import Other, other_students
from esr.analysis.submode import Commitment
from esr.errors import UserError
from esr.method.divergence import reverse_kl
from esr.records.submode import SubModeSettings
from esr.runs.files import write_json
from esr.runs.rundir import RunDir
from subjects import constant, subject
from tiny import make_lm

TEACHER = {"a": 0.5, "b": 0.3, "c": 0.1, "z": 0.0001}


def run(before, after, teacher, **chosen):
    return analysis.compute(subject(before, after, teacher), SubModeSettings(max_new_tokens=40, **chosen))


def ranks(row):
    return [e.value for e in (row.rank_1, row.rank_2_5, row.rank_beyond)]


def test_identical_models_always_make_the_teachers_choice():
    record = run(make_lm(1), make_lm(1), make_lm(1))
    assert [row.model for row in record.rows] == ["before", "after", "teacher"]
    for row in record.rows:
        assert ranks(row) == [1, 0, 0]
        assert row.threshold == pytest.approx(0, abs=1e-6)
        assert row.top1.value == pytest.approx(record.rows[0].top1.value, abs=1e-5)


@pytest.mark.parametrize("trajectories", ["own", "shared"])
def test_a_student_on_the_second_mode(monkeypatch, trajectories):
    before, after = constant({"b": 0.6, "a": 0.2}), constant({"a": 0.45, "b": 0.3})
    other = constant({"z": 0.7, "a": 0.1})
    full = [Other("full", "runs/full step 6", lambda: other)]
    monkeypatch.setattr(analysis, "other_students", lambda subject, runs: full)
    record = run(before, after, constant(TEACHER), trajectories=trajectories)
    rows = {row.model: row for row in record.rows}
    assert [*rows] == ["before", "after", "full", "teacher"]
    assert ranks(rows["before"]) == [0, 1, 0]
    assert ranks(rows["after"]) == [1, 0, 0]
    assert ranks(rows["full"]) == [0, 0, 1]
    assert [rows[m].top1.value for m in rows] == pytest.approx([0.6, 0.45, 0.7, 0.5], abs=1e-4)
    kl = float(reverse_kl(*(log_probs(p) for p in ({"b": 0.6, "a": 0.2}, TEACHER))))
    assert rows["before"].threshold == pytest.approx(kl, abs=1e-4)
    assert record.bimodal_share == 1
    assert len(record.bimodal) == 24
    first = record.bimodal[0]
    assert [(c.token, round(c.student, 3), round(c.teacher, 3)) for c in first.candidates[:2]] == [
        ("a", 0.2, 0.5),
        ("b", 0.6, 0.3),
    ]
    assert [round(c.student, 3) for c in first.after[:2]] == [0.45, 0.3]
    assert first.reverse_kl == pytest.approx(kl, abs=1e-4)
    if trajectories == "shared":
        assert rows["after"].positions == rows["before"].positions


def test_batches_change_nothing(monkeypatch):
    """Responses are told apart across batches: intervals are clustered by them, and positions say whose they are."""
    for least in ("LEAST_TWO", "LEAST_SECOND"):
        monkeypatch.setattr(bimodal, least, 0.0)
    teacher = make_lm(3)
    whole = run(make_lm(1), make_lm(2), teacher)
    monkeypatch.setattr(analysis, "shared", functools.partial(analysis.shared, size=2))
    parts = run(make_lm(1), make_lm(2), teacher)
    assert {b.problem for b in whole.bimodal} != {whole.bimodal[0].problem}
    assert [(b.problem, b.position, b.context) for b in parts.bimodal] == [
        (b.problem, b.position, b.context) for b in whole.bimodal
    ]
    for one, other in zip(parts.rows, whole.rows, strict=True):
        for name in ("top1", "rank_1", "rank_2_5"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours.low, ours.value, ours.high) == pytest.approx((theirs.low, theirs.value, theirs.high), abs=1e-5)


def log_probs(probabilities):
    return constant(probabilities).module.lm_head.weight.sum(-1).log_softmax(-1)


def test_a_teacher_with_one_mode_is_not_bimodal():
    record = run(constant({"b": 0.6, "a": 0.2}), None, constant({"a": 0.85, "b": 0.1}))
    assert (record.bimodal_share, record.bimodal) == (0, [])
    assert [row.model for row in record.rows] == ["before", "teacher"]


def test_a_share_of_no_positions_is_not_measured():
    assert Bimodal().share is None


def test_context_and_position_of_a_bimodal_position():
    record = run(make_lm(1), None, constant(TEACHER))
    assert record.bimodal_share == 1
    for found in record.bimodal:
        assert found.after == []
        assert (found.context == "") == (found.position == 0)
    assert [f.reverse_kl for f in record.bimodal] == sorted((f.reverse_kl for f in record.bimodal), reverse=True)


def test_turns_that_end_with_different_tokens_are_one_event():
    """The student's first choice is its own terminator, the teacher's another: the same choice."""
    ends = {"<|endoftext|>": 0.7}, {"<|im_end|>": 0.7}
    record = run(constant(ends[0], (1,)), None, constant(ends[1], (2,)))
    assert ranks(record.rows[0]) == [1, 0, 0]
    assert record.rows[0].threshold == pytest.approx(0, abs=1e-4)


def test_counts_by_hand():
    """Ten positions of each of two responses: the decile is the two of largest divergence, wherever they are."""
    model = Commitment(
        [torch.tensor([0.0] * 9 + [5.0]), torch.tensor([0.1] * 9 + [7.0])], [torch.linspace(0, 0.9, 10)] * 2,
        [torch.tensor([1] * 9 + [2]), torch.tensor([1] * 9 + [6])], [torch.ones(10)] * 2,
        [torch.zeros(10, dtype=torch.long), torch.ones(10, dtype=torch.long)],
    )  # fmt: skip
    top = analysis.decile(torch.cat(model.divergence))
    assert top.tolist() == [19, 9]
    row = analysis.row("x", model, top)
    assert (row.positions, row.threshold, row.top1.n) == (2, 5, 2)
    assert row.top1.value == pytest.approx(0.9)
    assert ranks(row) == [0, 0.5, 0.5]
    assert row.rank_1.high > 0.5, "two responses cannot exclude much"


def test_decile_rounds_up_and_takes_earlier_ones_of_equals():
    assert analysis.decile(torch.ones(11)).tolist() == [0, 1]
    assert analysis.decile(torch.ones(1)).tolist() == [0]


def test_bimodal_rule_by_hand():
    rows = [[0.5, 0.2, 0.3], [0.8, 0.15, 0.05], [0.4, 0.29, 0.31], [0.7, 0.3, 0.0]]
    teacher = torch.tensor(rows).clamp(min=1e-9).log()
    found = Bimodal()
    found.add(
        torch.tensor([[1.0, 1e-9, 1e-9]] * 4).log(), teacher, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    )
    assert found.share == 0.75
    assert [(f.response, f.position) for f in found.largest] == [(1, 0), (0, 0), (1, 1)]
    assert found.largest[0].reverse_kl == pytest.approx(-math.log(0.4), abs=1e-4)
    assert found.largest[0].tokens == [0, 2, 1]


def test_shared_positions_need_shared_responses():
    with pytest.raises(UserError, match="--trajectories shared"):
        run(make_lm(1), None, make_lm(2), trajectories="own", decile="shared")
    record = run(make_lm(1), make_lm(2), make_lm(3), trajectories="shared", decile="shared", divergence="forward_kl")
    before, after, teacher = record.rows
    assert before.positions == after.positions == teacher.positions
    assert (before.top1.n, after.top1.n) == (teacher.top1.n, teacher.top1.n)


def test_other_runs_are_of_the_same_pair_and_have_names_of_their_own(tmp_path):
    about = subject(make_lm(1), None, make_lm(2))
    config = about.config.model_dump()
    paths = [tmp_path / "a" / "full", tmp_path / "b" / "full", tmp_path / "esr"]
    for path in paths:
        (path / "checkpoints" / "step-000030").mkdir(parents=True)
        write_json(path / "checkpoints" / "step-000030" / "state.json", {})
        write_json(path / "config.json", config)
    found = other_students(about, [RunDir(path) for path in paths])
    assert [o.name for o in found] == [str(paths[0]), str(paths[1]), "esr"]
    assert found[2].reference == f"{paths[2]} step 30"
    write_json(paths[2] / "config.json", {**config, "teacher": {**config["teacher"], "model": "another"}})
    with pytest.raises(UserError, match="a run of s and another, not of s and t"):
        other_students(about, [RunDir(path) for path in paths])


def test_the_second_to_fifth_choice_ends_with_the_fifth():
    """Ranks 1, 2, 5 and 6, one response each: a quarter, two quarters, a quarter."""
    ranks = torch.tensor([1, 2, 5, 6])
    model = Commitment(
        [torch.arange(4.0)], [torch.full((4,), 0.5)], [ranks], [torch.full((4,), 0.5)], [torch.arange(4)]
    )
    row = analysis.row("before", model, torch.arange(4))
    assert (row.rank_1.value, row.rank_2_5.value, row.rank_beyond.value) == (0.25, 0.5, 0.25)
