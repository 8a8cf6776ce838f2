"""The position profile on constructed cases whose answer is known."""

from types import SimpleNamespace

import pytest
import torch

from conftest import make_lm
from esr.analysis import profile
from esr.events import EventSpace
from esr.results import Problem
from esr.sampling import Sampler

PROBLEMS = [
    Problem(id=str(i), question=q) for i, q in enumerate(["what is 2+2?", "hi", "a longer one: 17 * 3", "b", "cc"])
]
SAMPLER = Sampler(40, (2,), 0.8, 0.95)


def run(before, after, teacher):
    return profile.compute(
        before, after, teacher, PROBLEMS, SAMPLER, EventSpace(64), n=10, step=6, seed=1, source="test"
    )


def test_identical_models_have_no_profile_and_no_change():
    record = run(make_lm(1), make_lm(1), make_lm(1))
    for curve in record.curves:
        assert all(abs(b.reverse_kl.value) < 1e-6 and b.agreement == 1 for b in curve.bins)
    assert abs(record.inside.value) < 1e-6


def test_a_student_that_became_the_teacher_drops_to_zero_everywhere():
    record = run(make_lm(1), make_lm(2), make_lm(2))
    curves = {(c.model, c.trajectories): c for c in record.curves}
    before, after = curves["before", "common"], curves["after", "common"]
    assert all(b.reverse_kl.value > 0.5 for b in before.bins)
    assert all(abs(b.reverse_kl.value) < 1e-6 for b in after.bins)
    assert record.inside.high < -0.5
    assert record.beyond.high < -0.5
    assert [b.tokens for b in before.bins] == [b.tokens for b in after.bins]
    assert before.bins[0].tokens <= 10 * len(PROBLEMS)


def scored(rows: list[list[float]]):
    width = max(map(len, rows))
    mask = torch.tensor([[j < len(r) for j in range(width)] for r in rows])
    kl = torch.tensor([r + [0.0] * (width - len(r)) for r in rows])
    return [SimpleNamespace(stats=SimpleNamespace(reverse_kl=kl), mask=mask)]


def test_change_by_hand():
    """Paired by response, means over each response's positions, shorter responses left out beyond their end."""
    before, after = scored([[1, 2, 3], [4, 4], [1, 1, 9]]), scored([[0, 1, 1], [1, 1], [1, 1, 5]])
    inside, beyond = profile.change(before, after, 0, 2), profile.change(before, after, 2, None)
    assert inside.value == pytest.approx((-1 - 3 + 0) / 3)
    assert (beyond.value, beyond.n) == (pytest.approx((-2 - 4) / 2), 2)
    assert profile.change(before, after, 3, None) is None
