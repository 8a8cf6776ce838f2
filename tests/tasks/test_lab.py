"""The lab's task: solutions check, strategies differ when precedence matters, splits never meet."""

import random
import re

import pytest

from esr.errors import UserError
from esr.tasks.lab import (
    LARGEST,
    LEVELS,
    Expression,
    boxed_answers,
    execute,
    grade,
    is_correct,
    make_drill,
    make_problems,
    parse_problem,
    plan_of,
    problems,
    render,
    split_of,
    strategy_of,
)

STYLES = ("concise", "verbose")
STRATEGIES = ("right", "wrong")
PROBLEMS = [problem for level in LEVELS for problem in make_problems(100, level=level, seed=3)]


def evaluate(expression: str) -> int:
    """Python's own arithmetic, as the reference."""
    return eval(expression, {"__builtins__": {}})


def test_answer_is_pythons_value() -> None:
    for problem in PROBLEMS:
        assert problem.answer == evaluate(problem.expression)


@pytest.mark.parametrize("style", STYLES)
def test_right_strategy_checks_and_wrong_one_does_not(style: str) -> None:
    rng = random.Random(0)
    for problem in PROBLEMS:
        assert is_correct(problem, render(problem, strategy="right", style=style, rng=rng))
        assert not is_correct(problem, render(problem, strategy="wrong", style=style, rng=rng))


@pytest.mark.parametrize("style", STYLES)
def test_strategies_agree_when_precedence_does_not_matter(style: str) -> None:
    problem = parse_problem("2*3+4-5")
    assert not problem.decisive
    assert is_correct(problem, render(problem, strategy="wrong", style=style, rng=random.Random(0)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plan_is_recognised(style: str, strategy: str) -> None:
    rng = random.Random(1)
    for problem in PROBLEMS:
        assert plan_of(render(problem, strategy=strategy, style=style, rng=rng)) == (style, strategy)


def test_first_plan_counts() -> None:
    assert strategy_of("Left to right. No: Products first.") == "wrong"
    assert strategy_of("Products") is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_step_is_sound(strategy: str) -> None:
    for problem in PROBLEMS:
        steps = execute(problem, strategy)
        assert len(steps) == len(problem.operators)
        assert all(evaluate(step.operation) == step.value for step in steps)
        assert all(abs(step.value) <= LARGEST[strategy] for step in steps)
        if strategy == "right":
            assert {evaluate(step.rest) for step in steps} == {problem.answer}


def test_slips_are_carried_to_a_wrong_answer() -> None:
    rng = random.Random(2)
    slipped = [render(problem, rng=rng, slip=1.0) for problem in PROBLEMS]
    right = [is_correct(problem, text) for problem, text in zip(PROBLEMS, slipped, strict=True)]
    assert sum(right) < 0.2 * len(right)
    assert all(len(boxed_answers(text)) == 1 for text in slipped)


@pytest.mark.parametrize("level", LEVELS)
def test_splits_are_disjoint(level: str) -> None:
    splits = {split: set(make_problems(60, split=split, level=level)) for split in ("train", "dev", "test")}
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["dev"]
    assert not splits["dev"] & splits["test"]
    assert all(split_of(problem) == split for split, problems in splits.items() for problem in problems)


def test_problems_are_deterministic_and_distinct() -> None:
    once, again = make_problems(300, split="test", seed=5), make_problems(300, split="test", seed=5)
    assert once == again
    assert len(set(once)) == 300
    assert once != make_problems(300, split="test", seed=6)


def test_an_exhausted_split_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than"):
        make_problems(1000, split="test", level="easy")


def test_rendering_is_deterministic() -> None:
    problem = Expression((2, 3, 4), "+*")
    first, second = (render(problem, style="verbose", rng=random.Random(9)) for _ in range(2))
    assert first == second


def test_question_round_trips() -> None:
    assert all(parse_problem(problem.question) == problem for problem in PROBLEMS)
    with pytest.raises(ValueError, match="no expression"):
        parse_problem("Compute nothing.")


def test_verbose_solutions_are_long_with_a_tail() -> None:
    rng = random.Random(4)
    lengths = {
        style: sorted(len(render(problem, style=style, rng=rng)) for problem in make_problems(500)) for style in STYLES
    }
    assert 60 < lengths["concise"][250] < 100
    assert 350 < lengths["verbose"][250] < 550
    assert lengths["verbose"][-5] > 1.4 * lengths["verbose"][250]


def test_source_and_grader() -> None:
    train, test = (problems("arithmetic", {"level": "hard"}, 50, 0, purpose) for purpose in ("train", "eval"))
    assert not {problem.question for problem in train} & {problem.question for problem in test}
    problem = test[0]
    good = grade(problem, rf"Products first. \boxed{{1000}} \boxed{{{problem.answer}}}")
    assert (good.first, good.last, good.any, good.answers, good.strategy) == (False, True, True, 2, True)
    nothing = grade(problem, "Left to right.")
    assert (nothing.last, nothing.answer, nothing.strategy) == (False, None, False)


@pytest.mark.parametrize(
    ("name", "params", "size"),
    [
        ("algebra", {}, 5),
        ("arithmetic", {"levle": "easy"}, 5),
        ("arithmetic", {"level": "extreme"}, 5),
        ("arithmetic", {"split": "all"}, 5),
        ("arithmetic", {"level": "easy"}, 5000),
    ],
)
def test_source_refuses(name: str, params: dict, size: int) -> None:
    with pytest.raises(UserError):
        problems(name, params, size, 0, "eval")


def test_hard_drills_add_and_subtract_two_large_numbers_only() -> None:
    rng = random.Random(3)
    drill = [pair for _ in range(20) for pair in make_drill(rng, differences=1.0)]
    for given, wanted in drill:
        found = re.fullmatch(r"(-?\d+)([+-])(\d+)=", given)
        assert found, given
        left, right = int(found[1]), int(found[3])
        assert 10 <= right <= 99
        assert wanted == f"{left + right if found[2] == '+' else left - right}. "


def test_drills_without_the_share_are_what_they_always_were() -> None:
    """The shipped models were built from them: the share takes no random number when it is zero."""
    assert make_drill(random.Random(5)) == make_drill(random.Random(5), differences=0.0)
