"""The summary of an evaluation by hand."""

import pytest

from esr.evaluate import difference, summarise
from esr.records.evaluation import Grade, Sample


def sample(problem: str, number: int, right: bool | None, finished: bool, tokens: int = 10) -> Sample:
    grade = Grade(first=right, last=right, any=right, answer="1" if right else "2", answers=1)
    return Sample(
        problem=problem, sample=number, text="", tokens=tokens, finished=finished, repetitive=False, grade=grade
    )


SAMPLES = [
    sample("a", 0, True, True), sample("a", 1, True, True), sample("b", 0, False, True), sample("b", 1, False, False),
    sample("c", 0, True, False, 30), sample("c", 1, None, True, 30),
]  # fmt: skip


def test_summary_by_hand():
    got = summarise(SAMPLES, "x", "m", "t", {}, 1.0)
    assert (got.problems, got.samples, got.grader_failures) == (3, 2, 1)
    assert got.avg.value == pytest.approx((1 + 0 + 1) / 3)
    assert got.finish_rate.value == pytest.approx(4 / 6)
    assert got.avg_given_finish.value == pytest.approx(2 / 3)
    assert got.pass_at_k.value == pytest.approx(2 / 3)
    assert got.tokens["p50"] == 10


def test_accuracy_is_finish_rate_times_accuracy_given_finish_when_unfinished_ones_are_wrong():
    rows = [sample(str(i), j, (i + j) % 3 == 0 and i % 2 == 0, i % 2 == 0) for i in range(6) for j in range(3)]
    got = summarise(rows, "x", "m", "t", {}, 1.0)
    assert got.avg.value == pytest.approx(got.finish_rate.value * got.avg_given_finish.value)


def test_difference_is_paired_by_problem():
    worse = [s.model_copy(update={"grade": sample("", 0, False, True).grade}) for s in SAMPLES]
    assert difference(worse, SAMPLES, "x", "y").avg.value == pytest.approx(-2 / 3)
