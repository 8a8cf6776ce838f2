"""Intervals: known values, edges, and coverage on simulated clustered data."""

import json
import math

import numpy as np
import pytest

from esr.errors import UserError
from esr.intervals import accuracy, bootstrap, mean, paired_difference, ratio, t_quantile
from esr.records.base import Estimate, as_text

T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 20: 2.086, 30: 2.042, 60: 2.000,
           120: 1.980, 1000: 1.962}  # fmt: skip


@pytest.mark.parametrize(("df", "value"), T_TABLE.items())
def test_t_quantile_is_the_tabulated_one(df: int, value: float) -> None:
    assert t_quantile(df) == pytest.approx(value, rel=1.5e-3)


def test_one_sample_per_problem_is_close_to_the_plain_wilson_interval() -> None:
    estimate = accuracy([[1.0]] * 40 + [[0.0]] * 60)
    assert (estimate.value, estimate.n) == (0.4, 100)
    assert estimate.low == pytest.approx(0.3094, abs=4e-3)  # Wilson, n = 100
    assert estimate.high == pytest.approx(0.4980, abs=4e-3)


def test_copies_of_a_sample_add_nothing() -> None:
    once = accuracy([[1.0]] * 40 + [[0.0]] * 60)
    assert accuracy([[1.0] * 8] * 40 + [[0.0] * 8] * 60) == once


@pytest.mark.parametrize("groups", [[[0.0] * 4] * 20, [[1.0] * 4] * 20, [[1.0]], [[0.0]], [[1.0, 0.0]], [[0.5]] * 9])
def test_edges_give_an_interval_with_width_inside_0_1(groups: list[list[float]]) -> None:
    estimate = accuracy(groups)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0.1


def test_problems_weigh_the_same_whatever_their_number_of_samples() -> None:
    assert accuracy([[1.0], [0.0] * 9, []]).value == 0.5
    assert accuracy([[1.0], [0.0] * 9, []]).n == 2


def test_nothing_graded_is_refused() -> None:
    for empty in ([], [[]]):
        with pytest.raises(UserError, match="no graded response"):
            accuracy(empty)
    with pytest.raises(UserError, match="no value"):
        mean([])


def test_mean_is_a_t_interval() -> None:
    estimate = mean([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * math.sqrt(2.5 / 5)
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((3 - half, 3, 3 + half), rel=2e-3)


def test_one_unit_has_an_infinite_interval_that_survives_the_disk() -> None:
    estimate = mean([2.0])
    assert (estimate.low, estimate.high, estimate.n) == (-math.inf, math.inf, 1)
    text = estimate.model_dump_json()
    json.loads(text, parse_constant=pytest.fail)
    assert Estimate.model_validate_json(text) == estimate


def test_ratio_weighs_samples_and_ignores_problems_without_any() -> None:
    estimate = ratio([4, 0, 1, 0], [4, 2, 4, 0])
    assert estimate is not None
    assert (estimate.value, estimate.n) == (0.5, 3)
    assert estimate.low < 0.5 < estimate.high
    assert ratio([0, 0], [0, 0]) is None


def test_ratio_with_equal_denominators_is_accuracy() -> None:
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 2, (30, 4)).astype(float)
    left, right = ratio(list(grades.sum(1)), [4.0] * 30), accuracy(grades.tolist())
    assert left is not None
    assert (left.value, left.low, left.high) == pytest.approx((right.value, right.low, right.high))


def test_paired_difference_uses_the_common_problems_only() -> None:
    a = {"p": [1.0, 1.0], "q": [1.0, 0.0], "r": [1.0], "s": []}
    b = {"p": [0.0, 1.0], "q": [0.0], "x": [0.0], "s": [1.0]}
    estimate = paired_difference(a, b)
    assert (estimate.value, estimate.n) == (0.5, 2)
    with pytest.raises(UserError, match="no graded problem in common"):
        paired_difference({"a": [1.0]}, {"b": [1.0]})


def test_equal_differences_still_have_an_uncertain_mean() -> None:
    same = {str(i): [1.0] for i in range(30)}
    estimate = paired_difference(same, same)
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((-0.1, 0.0, 0.1))
    single = paired_difference({"a": [1.0]}, {"a": [0.0]})
    assert (single.low, single.high) == (-1.0, 1.0)


@pytest.mark.parametrize("n", [40, 100, 200])
@pytest.mark.parametrize(("alpha", "beta"), [(2, 2), (0.5, 0.5), (4, 1)])
def test_accuracy_interval_covers(n: int, alpha: float, beta: float) -> None:
    rng, runs = np.random.default_rng(n), 800
    inside = 0
    for _ in range(runs):
        estimate = accuracy(rng.binomial(1, rng.beta(alpha, beta, n)[:, None], (n, 4)).astype(float))  # type: ignore[arg-type]
        inside += estimate.low <= alpha / (alpha + beta) <= estimate.high
    assert 0.93 <= inside / runs <= 0.97


@pytest.mark.parametrize("n", [40, 200])
def test_ratio_interval_covers(n: int) -> None:
    """Finish rate and accuracy both vary by problem, and are correlated."""
    rng, runs = np.random.default_rng(n), 800
    inside = 0
    for _ in range(runs):
        p = rng.beta(2, 2, n)
        finished = rng.binomial(4, 0.2 + 0.8 * p)
        estimate = ratio(list(rng.binomial(finished, p)), list(finished))
        truth = (0.2 * 0.5 + 0.8 * 0.3) / (0.2 + 0.8 * 0.5)  # E[p^2] = 0.3 for Beta(2, 2)
        inside += estimate is not None and estimate.low <= truth <= estimate.high
    assert 0.93 <= inside / runs <= 0.97


@pytest.mark.parametrize("n", [40, 100, 200])
def test_paired_difference_interval_covers(n: int) -> None:
    rng, runs = np.random.default_rng(n), 800
    inside = 0
    for _ in range(runs):
        p = rng.beta(1, 1, n)
        a = rng.binomial(1, (0.2 + 0.8 * p)[:, None], (n, 4))
        b = rng.binomial(1, p[:, None], (n, 4))
        ids = [str(i) for i in range(n)]
        estimate = paired_difference(dict(zip(ids, a, strict=True)), dict(zip(ids, b, strict=True)))  # type: ignore[arg-type]
        inside += estimate.low <= 0.1 <= estimate.high
    assert 0.93 <= inside / runs <= 0.97


def test_an_estimate_has_one_text():
    share = Estimate(value=0.5214, low=0.48, high=0.562, n=3)
    assert (share.text(), share.text(unit="%")) == ("52.1 [48.0, 56.2]", "52.1% [48.0, 56.2]")
    assert Estimate(value=0.05, low=-0.01, high=0.11, n=3).text(sign=True) == "+5.0 [-1.0, +11.0]"
    assert Estimate(value=1.2345, low=1, high=2, n=3).text("nats") == "1.234 [1.000, 2.000]"
    assert (as_text(None), as_text(share)) == ("-", share.text())


def test_a_bootstrap_of_a_mean_is_its_t_interval_and_of_equal_units_the_rule_of_three():
    table = np.random.default_rng(0).random((200, 2))
    first, quotient = bootstrap(table, lambda m: np.stack([m[..., 0], m[..., 0] / m[..., 1]], axis=-1))
    by_hand = mean(list(table[:, 0]))
    assert first.value == pytest.approx(by_hand.value)
    assert [first.low, first.high] == pytest.approx([by_hand.low, by_hand.high], abs=0.01)
    assert quotient.value == pytest.approx(table[:, 0].mean() / table[:, 1].mean())
    assert quotient.low < quotient.value < quotient.high
    (same,) = bootstrap(np.full((30, 1), 0.4), lambda m: m)
    assert [same.low, same.high] == pytest.approx([0.3, 0.5])
    with pytest.raises(UserError):
        bootstrap(np.zeros((0, 1)), lambda m: m)
