"""The lab's task: arithmetic with precedence, solved in words that a program can check. No torch here.

A response commits to a *strategy* in words ("Products first."), executes it one operation at a time, restating what is
left after each, and ends in ``\\boxed{...}``. The wrong strategy ignores precedence and executes just as cleanly.
Two styles: concise (about 80 characters) and verbose (300 to 600, with a tail of repeated checks).
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from esr.errors import UserError
from esr.records.evaluation import Grade
from esr.records.problem import Problem
from esr.tasks.rows import problem_id

Strategy = Literal["right", "wrong"]
Style = Literal["concise", "verbose"]
Split = Literal["train", "dev", "test"]

LEVELS: dict[str, tuple[int, ...]] = {"easy": (3,), "medium": (4, 5), "hard": (5, 6)}  # how many operands
LARGEST: dict[Strategy, int] = {"right": 99, "wrong": 199}  # in size, of any value on the way of a strategy
BUCKETS = 20  # expressions are hashed into this many; 0 and 1 are the test split, 2 and 3 the dev split

PATIENCE = 1000  # draws in a row without a new problem, before a split counts as exhausted

PLANS: dict[tuple[Style, Strategy], tuple[str, ...]] = {
    ("concise", "right"): ("Products first.", "Multiply before adding."),
    ("concise", "wrong"): ("Left to right.", "In the order written."),
    ("verbose", "right"): (
        "Multiplication comes before addition and subtraction, so I do the products first.",
        "The products bind tighter than the sums, so they have to be done before the rest.",
    ),
    ("verbose", "wrong"): (
        "I will simply go from left to right, doing one operation after the other.",
        "The operations are to be done one by one in the order in which they are written.",
    ),
}
OPENINGS = (
    "Let me work through this step by step.",
    "Okay, let me think about this carefully.",
    "We want the value of an expression.",
)
REMARKS = ("Good.", "That looks fine.", "Let me go on.", "So far so good.")
REMARK_RATE = 0.25  # of a remark after a verbose step
CHECK_RATE, MOST_CHECKS = 0.35, 5  # of one more check after a verbose solution, and the most of them

_BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


@dataclass(frozen=True)
class Expression:
    """An expression such as 2+3*4-5: ``operands`` (2, 3, 4, 5) joined by ``operators`` "+*-"."""

    operands: tuple[int, ...]
    operators: str

    @property
    def expression(self) -> str:
        return _join(self.operands, self.operators)

    @property
    def question(self) -> str:
        """The text of the user's turn."""
        return f"Compute {self.expression}."

    @property
    def answer(self) -> int:
        """The value with multiplication before addition and subtraction."""
        return execute(self, "right")[-1].value

    @property
    def decisive(self) -> bool:
        """Whether the strategy matters: the wrong one ends in another value."""
        return execute(self, "wrong")[-1].value != self.answer


@dataclass(frozen=True)
class Step:
    """One operation: ``operation`` "3*4" gives ``value`` 12 and leaves ``rest`` "2+12-5"."""

    operation: str
    value: int
    rest: str


def parse_problem(question: str) -> Expression:
    """Read a problem back from its question or bare expression."""
    found = re.search(r"\d+(?:[+*-]\d+)+", question)
    if found is None:
        raise ValueError(f"no expression in {question!r}")
    return Expression(tuple(map(int, re.findall(r"\d+", found[0]))), "".join(re.findall(r"[+*-]", found[0])))


def make_problems(count: int, *, split: Split = "train", level: str = "medium", seed: int = 0) -> list[Expression]:
    """``count`` different problems of a split; the same arguments give the same list, and splits never share one."""
    chosen: dict[Expression, None] = {}
    idle = 0
    for problem in stream_problems(split=split, level=level, seed=seed):
        idle = idle + 1 if problem in chosen else 0
        chosen.setdefault(problem)
        if len(chosen) == count:
            break
        if idle == PATIENCE:
            raise ValueError(f"split {split!r} of level {level!r} has fewer than {count} different problems")
    return list(chosen)


def stream_problems(*, split: Split = "train", level: str = "medium", seed: int = 0) -> Iterator[Expression]:
    """Endless problems of a split, with repeats; deterministic in (split, level, seed)."""
    rng = random.Random(f"{seed}/{split}/{level}")
    while True:
        size = rng.choice(LEVELS[level])
        problem = Expression(
            tuple(rng.randint(1, 9) for _ in range(size)), "".join(rng.choice("++--**") for _ in range(size - 1))
        )
        if split_of(problem) == split and _fits(problem):
            yield problem


def split_of(problem: Expression) -> Split:
    """The split an expression belongs to, from a hash of its text: disjoint by construction."""
    bucket = zlib.crc32(problem.expression.encode()) % BUCKETS
    return "test" if bucket < 2 else "dev" if bucket < 4 else "train"


def execute(
    problem: Expression, strategy: Strategy, *, slip: float = 0.0, rng: random.Random | None = None
) -> list[Step]:
    """The operations of a strategy, in order. With probability ``slip`` each is miscalculated and carried on."""
    values, operators, steps = list(problem.operands), list(problem.operators), []
    while operators:
        at = operators.index("*") if strategy == "right" and "*" in operators else 0
        value = _apply(values[at], operators[at], values[at + 1])
        if slip and rng is not None and rng.random() < slip:
            value = _miscalculate(value, rng)
        operation = f"{values[at]}{operators[at]}{values[at + 1]}"
        values[at : at + 2] = [value]
        del operators[at]
        steps.append(Step(operation, value, _join(values, operators)))
    return steps


def render(
    problem: Expression,
    *,
    strategy: Strategy = "right",
    style: Style = "concise",
    rng: random.Random,
    slip: float = 0.0,
) -> str:
    """A full response, without terminator: plan, steps, answer. All choices of words come from ``rng``."""
    steps = execute(problem, strategy, slip=slip, rng=rng)
    plan = rng.choice(PLANS[style, strategy])
    write = _write_concise if style == "concise" else _write_verbose
    return write(problem, plan, steps, rng)


def make_drill(rng: random.Random, *, count: int = 12, differences: float = 0.0) -> list[tuple[str, str]]:
    """Single operations and their values, such as ("57-8=", "49. "), evenly over what the steps of solutions can meet.

    A share `differences` of them are sums and differences of two large numbers, where lab models err most.
    """
    drill: list[tuple[str, str]] = []
    while len(drill) < count:
        hard = differences > 0 and rng.random() < differences
        operator = rng.choice("+---" if hard else "++---*")
        left, right = (
            (rng.randint(1, 50), rng.randint(1, 9))
            if operator == "*"
            else (rng.randint(-99, 99), rng.randint(10, 99) if hard else _operand(rng))
        )
        value = _apply(left, operator, right)
        if abs(value) <= LARGEST["right"]:
            drill.append((f"{left}{operator}{right}=", f"{value}. "))
    return drill


def boxed_answers(response: str) -> list[int]:
    """Every boxed integer of a response, in order."""
    return [int(text) for text in _BOXED.findall(response)]


def is_correct(problem: Expression, response: str) -> bool:
    """Whether the last boxed integer is the problem's value; no box is wrong."""
    return boxed_answers(response)[-1:] == [problem.answer]


def plan_of(response: str) -> tuple[Style, Strategy] | None:
    """The style and strategy of the first plan a response states in full, or None when it states none."""
    first = min(
        ((response.find(text), key) for key, texts in PLANS.items() for text in texts if text in response), default=None
    )
    return first and first[1]


def strategy_of(response: str) -> Strategy | None:
    """The strategy a response commits to, or None when it commits to none."""
    plan = plan_of(response)
    return plan and plan[1]


def problems(
    name: str, params: dict[str, Any], size: int, seed: int, purpose: Literal["train", "eval"]
) -> list[Problem]:
    """The prompt source and evaluation task `lab:arithmetic`: ``size`` different problems with their answers.

    ``params`` may hold `level` (easy, medium, hard) and `split`; by default training draws from `train`, evaluation
    from `test`. Raises `UserError` for anything else, and when the split has fewer problems.
    """
    chosen = {"level": "medium", "split": "train" if purpose == "train" else "test"} | params
    if name != "arithmetic" or set(chosen) != {"level", "split"} or chosen["level"] not in LEVELS:
        raise UserError(f"lab:{name} with {params}: the lab has `lab:arithmetic`, with `level` one of {list(LEVELS)}.")
    if chosen["split"] not in ("train", "dev", "test"):
        raise UserError(f"lab:{name} has no split {chosen['split']!r}, only train, dev and test.")
    try:
        made = make_problems(size, seed=seed, **chosen)
    except ValueError as error:
        raise UserError(f"lab:{name}: {error}; make `size` smaller.") from None
    return [
        Problem(
            id=problem_id(f"lab:{name}", i, problem.question),
            question=problem.question,
            answer=str(problem.answer),
            grader="lab",
            data={"level": chosen["level"]},
        )
        for i, problem in enumerate(made)
    ]


def grade(problem: Problem, response: str) -> Grade:
    """First, last and any boxed integer against the answer, and whether the right strategy was committed to."""
    answers = [str(answer) for answer in boxed_answers(response)]
    return Grade(
        first=answers[:1] == [problem.answer],
        last=answers[-1:] == [problem.answer],
        any=problem.answer in answers,
        answer=answers[-1] if answers else None,
        answers=len(answers),
        strategy=strategy_of(response) == "right",
    )


def _write_concise(problem: Expression, plan: str, steps: list[Step], rng: random.Random) -> str:
    lines = [f"{step.operation}={step.value}: {step.rest}." for step in steps[:-1]]
    return " ".join([plan, *lines, f"{steps[-1].operation}={steps[-1].value}. \\boxed{{{steps[-1].value}}}"])


def _write_verbose(problem: Expression, plan: str, steps: list[Step], rng: random.Random) -> str:
    parts = [f"{rng.choice(OPENINGS)} The expression is {problem.expression}. {plan}"]
    for number, step in enumerate(steps, 1):
        left = f"What is left is {step.rest}." if number < len(steps) else "Nothing is left to do."
        remark = f" {rng.choice(REMARKS)}" if rng.random() < REMARK_RATE else ""
        parts.append(f"Step {number}: I compute {step.operation}, which gives {step.value}. {left}{remark}")
    parts += [_check(steps)] * _count_checks(rng)
    parts.append(f"The answer is \\boxed{{{steps[-1].value}}}")
    return "\n".join(parts)


def _check(steps: list[Step]) -> str:
    return f"Let me check: {', '.join(f'{step.operation} is {step.value}' for step in steps)}. It holds."


def _count_checks(rng: random.Random) -> int:
    count = 0
    while count < MOST_CHECKS and rng.random() < CHECK_RATE:
        count += 1
    return count


def _fits(problem: Expression) -> bool:
    """The strategy matters, and every value of both strategies is small enough to compute in the head."""
    return (
        "*" in problem.operators[1:]
        and all(abs(step.value) <= LARGEST[how] for how in LARGEST for step in execute(problem, how))
        and problem.decisive
    )


def _apply(left: int, operator: str, right: int) -> int:
    return left * right if operator == "*" else left + right if operator == "+" else left - right


def _miscalculate(value: int, rng: random.Random) -> int:
    """A near miss; a positive value stays positive, so that it can stand inside an expression."""
    return rng.choice([value + 1, value + 10, value - 1 if value > 1 or value < 0 else value + 2])


def _operand(rng: random.Random) -> int:
    return rng.randint(1, 9) if rng.random() < 0.4 else rng.randint(1, 99)


def _join(values: tuple[int, ...] | list[int], operators: str | list[str]) -> str:
    return str(values[0]) + "".join(f"{operator}{value}" for operator, value in zip(operators, values[1:], strict=True))
