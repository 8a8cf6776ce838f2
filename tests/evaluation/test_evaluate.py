"""The summary of an evaluation by hand."""

from itertools import combinations

import pytest

from esr.evaluation.summarise import difference, passes, summarise
from esr.records.evaluation import Evaluated, Evaluation, Grade, Sample, comparable, grouped

TEACHER = Evaluated(who="teacher")


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
    got = summarise(SAMPLES, TEACHER, "m", "t", {}, 1.0)
    assert (got.problems, got.samples, got.grader_failures) == (3, 2, 1)
    assert got.avg.value == pytest.approx((1 + 0 + 1) / 3)
    assert got.finish_rate.value == pytest.approx(4 / 6)
    assert got.avg_given_finish.value == pytest.approx(2 / 3)
    assert got.pass_at_k.value == pytest.approx(2 / 3)
    assert got.tokens["p50"] == 10


def test_pass_at_j_is_the_mean_over_all_ways_to_draw_j_responses():
    """By enumeration: each subset of j responses, and whether one of them is right."""
    groups = [[True, False, False, True], [False] * 4, [True] * 4, [False, True, False, False]]
    for j in range(1, 5):
        drawn = [[any(subset) for subset in combinations(group, j)] for group in groups]
        expected = sum(sum(each) / len(each) for each in drawn) / len(groups)
        assert passes(groups)[str(j)].value == pytest.approx(expected)
    assert passes([[True], [True, False]])["2"].n == 1
    got = summarise(SAMPLES, TEACHER, "m", "t", {}, 1.0)
    assert got.pass_at["1"].value == pytest.approx(got.avg.value)


def test_accuracy_is_finish_rate_times_accuracy_given_finish_when_unfinished_ones_are_wrong():
    rows = [sample(str(i), j, (i + j) % 3 == 0 and i % 2 == 0, i % 2 == 0) for i in range(6) for j in range(3)]
    got = summarise(rows, TEACHER, "m", "t", {}, 1.0)
    assert got.avg.value == pytest.approx(got.finish_rate.value * got.avg_given_finish.value)


def test_responses_that_keep_their_checker_from_a_verdict_cannot_raise_the_accuracy_unseen():
    late = Grade(first=None, last=None, any=None, note="no verdict in time")
    raised = Grade(first=None, last=None, any=None, note="the verifier raised ValueError: 'x'")
    right, wrong = SAMPLES[0].grade, SAMPLES[2].grade
    samples = [
        s.model_copy(update={"problem": str(i), "sample": 0, "grade": grade})
        for i, (s, grade) in enumerate(zip(SAMPLES, [right, right, wrong, late, late, raised], strict=True))
    ]
    got = summarise(samples, TEACHER, "m", "t", {}, 1.0)
    assert (got.avg.value, got.avg.n) == (pytest.approx(2 / 3), 3)
    assert (got.avg_at_least.value, got.avg_at_least.n) == (pytest.approx(2 / 6), 6)
    assert got.failures == {"no verdict in time": 2, "the verifier raised ValueError": 1}
    assert summarise(samples[:3], TEACHER, "m", "t", {}, 1.0).avg_at_least is None


def test_difference_is_paired_by_problem():
    worse = [s.model_copy(update={"grade": sample("", 0, False, True).grade}) for s in SAMPLES]
    assert difference(worse, SAMPLES, "x", "y").avg.value == pytest.approx(-2 / 3)


def test_what_the_grader_failed_on_is_not_measured():
    """Never an accuracy of zero: a rate over nothing is None, and so is a difference without a graded problem."""
    failed = [s.model_copy(update={"grade": Grade(first=None, last=None, any=None)}) for s in SAMPLES]
    got = summarise(failed, TEACHER, "m", "t", {}, 1.0)
    assert (got.avg, got.maj, got.pass_at_k, got.avg_first, got.avg_any, got.avg_given_finish) == (None,) * 6
    assert (got.grader_failures, got.finish_rate.value) == (6, pytest.approx(4 / 6))
    assert difference(failed, SAMPLES, "x", "y").avg is None
    assert Evaluation.model_validate_json(got.model_dump_json()) == got


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step-000000", ("student", 0, "", "before")), ("step-001200", ("student", 1200, "", "step 1200")),
        ("teacher@gsm8k-0a1b2c", ("teacher", None, "gsm8k-0a1b2c", "teacher")),
    ],
)  # fmt: skip
def test_a_record_that_still_has_a_name_is_read(name, expected):
    got = summarise(SAMPLES, TEACHER, "m", "t", {}, 1.0)
    old = {k: v for k, v in got.model_dump().items() if k not in ("who", "step", "variant")} | {"name": name}
    read = Evaluation.model_validate(old)
    assert (read.who, read.step, read.variant, read.label) == expected
    assert read.name == name and "name" not in read.model_dump()


def test_a_record_from_before_there_were_prompts_of_their_own_is_comparable():
    old, new = ({"samples": 2}, {"samples": 2, "prompt": None, "system_prompt": None, "stop": [], "tools": "template"})
    first, second, third = (
        summarise(SAMPLES, TEACHER, "m", "t", how, 1.0) for how in (old, new, {**new, "prompt": "{question}!"})
    )
    assert comparable(first, second)
    assert not comparable(second, third)


def test_only_the_seed_of_sampling_may_differ_between_comparable_evaluations():
    def evaluation(task="t", **settings):
        return summarise(SAMPLES, TEACHER, "m", task, {"samples": 2, "seed": 0, "seed_sampling": 1, **settings}, 1.0)

    base = evaluation()
    assert comparable(base, evaluation(seed_sampling=2))
    others = [evaluation(samples=4), evaluation(seed=1), evaluation(task="u"), evaluation(top_p=0.9)]
    assert not any(comparable(base, other) for other in others)
    mixed = [base, others[0], evaluation(seed_sampling=2), others[1]]
    assert grouped(mixed, lambda e: e) == [[mixed[0], mixed[2]], [mixed[1]], [mixed[3]]]


def test_scores_count_among_finished_responses_as_they_do_among_all():
    scored = Grade(first=False, last=False, any=False, score=0.5, answers=1)
    samples = [
        Sample(problem="a", sample=i, text="", tokens=5, finished=i == 0, repetitive=False, grade=scored)
        for i in (0, 1)
    ]
    got = summarise(samples, TEACHER, "m", "t", {}, 1.0)
    assert got.avg.value == got.avg_given_finish.value == 0.5
