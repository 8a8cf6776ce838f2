"""`esr check`: the verdict on constructed numbers, and the whole of it on the lab at the smallest sizes."""

import pytest

from esr.analysis.fit.verdict import expected, judge, shortest
from esr.records.base import Estimate
from esr.records.fit import Cost, Handover, Pilot

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
