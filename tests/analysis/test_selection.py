"""Shares of selections on constructed cases whose answer is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.analysis import selection as analysis
from esr.analysis.selection import KINDS, KeptTokens
from esr.errors import UserError
from esr.method.selection import weights
from esr.method.tensors import PositionStats
from esr.records.selection import SelectionSettings
from subjects import PROBLEMS, constant, subject
from tiny import make_lm, make_tokenizer


def run(student, teacher, k=6, cap=40):
    record = analysis.compute(subject(student, None, teacher), SelectionSettings(k=k, max_new_tokens=cap))
    return {row.by: row for row in record.selections}, record


def test_all_selections_of_full_rollouts():
    rows, record = run(make_lm(1), make_lm(2))
    assert set(rows) == set(KINDS)
    lengths = record.settings["responses_longer_than_k"]
    assert 0 < lengths <= record.responses == len(PROBLEMS)
    for row in rows.values():
        assert row.positions == rows["first"].positions <= 6 * len(PROBLEMS)
        assert set(row.overlap) == set(KINDS) - {row.by}
        assert all(0 <= v <= 1 for v in row.overlap.values())
        assert 0 <= row.share_of_kl.low <= row.share_of_kl.value <= row.share_of_kl.high <= 1
        assert [t for t, _ in row.example] == [t for t, _ in rows["first"].example]
        assert row.overlap["top_kl"] == pytest.approx(rows["top_kl"].overlap[row.by]) if row.by != "top_kl" else True
    best = rows["top_kl"]
    assert all(best.share_of_kl.value >= row.share_of_kl.value - 1e-6 for row in rows.values())
    assert all(best.mean_kl >= row.mean_kl - 1e-6 for row in rows.values())


def test_first_keeps_exactly_the_first_k():
    rows, _ = run(make_lm(1), make_lm(2), k=4)
    flags = [kept for _, kept in rows["first"].example]
    assert flags == [i < 4 for i in range(len(flags))] and len(flags) > 4
    assert rows["first"].mean_position <= 1.5
    assert rows["last"].mean_position > rows["first"].mean_position


def test_identical_models_have_no_kl_to_share():
    rows, _ = run(make_lm(1), make_lm(1))
    for row in rows.values():
        assert (row.share_of_kl.value, row.share_of_kl.low, row.share_of_kl.high, row.share_of_kl.n) == (0, 0, 1, 0)
        assert row.mean_kl == pytest.approx(0, abs=1e-6)


def test_the_same_kl_everywhere_is_kept_in_proportion():
    """Constant models: every selection keeps k of the 40 positions' equal KL, and ties go to the first ones."""
    rows, record = run(constant({"a": 0.6, "b": 0.3}), constant({"a": 0.3, "b": 0.6}), k=10)
    full = [r for r in rows.values() if record.settings["responses_longer_than_k"] == 5]
    assert full
    assert {round(r.share_of_kl.value, 4) for r in full} == {round(rows["first"].share_of_kl.value, 4)}
    assert rows["top_kl"].mean_kl == pytest.approx(rows["last"].mean_kl, abs=1e-5)


def test_share_overlap_and_tokens_by_hand():
    kept = {by: torch.tensor([True, False, False, True]) for by in KINDS}
    kept["last"] = torch.tensor([False, False, True, True])
    response = KeptTokens(torch.tensor([7, 8, 7, 7]), torch.tensor([3.0, 1.0, 1.0, 0.0]), kept)
    nothing = KeptTokens(torch.tensor([8, 8, 8, 8]), torch.zeros(4), kept)
    row = analysis.describe("first", 2, [response, nothing], response, make_tokenizer())
    assert (row.share_of_kl.value, row.share_of_kl.n) == (pytest.approx(3 / 5), 1)
    assert (row.positions, row.mean_kl, row.mean_position) == (4, pytest.approx(3 / 4), pytest.approx(1.5))
    assert row.overlap["last"] == 0.5
    assert row.overlap["random"] == 1
    assert [(t.token, t.count, t.share) for t in row.tokens] == [
        ("b", 2, pytest.approx(2 / 3)),
        ("c", 2, pytest.approx(2 / 5)),
    ]
    assert row.example == [("b", True), ("c", False), ("b", False), ("b", True)]


def test_a_k_that_keeps_everything_is_refused():
    with pytest.raises(UserError, match="choose a smaller --k"):
        run(make_lm(1), make_lm(2), k=40)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**20), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_no_selection_keeps_more_kl_than_the_largest(k, seed, lengths):
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    stats = PositionStats(*(torch.rand(mask.shape, generator=draw) for _ in PositionStats.__dataclass_fields__))
    noise = torch.rand(mask.shape, generator=draw)
    kept = {by: weights(by, k, mask, stats, noise) for by in KINDS}
    best = (kept["top_kl"] * stats.reverse_kl).sum(1)
    for weight in kept.values():
        assert torch.equal(weight.sum(1), mask.sum(1).clamp(max=k).float())
        assert bool(((weight * stats.reverse_kl).sum(1) <= best + 1e-5).all())
