"""Grading: a table of cases, failures of the verifier, voting, loops."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from esr import grading
from esr.errors import UserError
from esr.grading import grade, majority, pool
from esr.grading.answers import normalise, same
from esr.grading.find import extract, repetitive, unboxed
from esr.records.evaluation import Grade
from esr.records.problem import Problem

CASES = json.loads((Path(__file__).parents[1] / "grading_cases.json").read_text())
HANG = r"\boxed{9^{9^{9^{9}}}}"


def problem(answer: str | None, name: str = "p") -> Problem:
    return Problem(id=name, question="?", answer=answer)


def gym(task: str, entry: dict[str, object], **params: object) -> Problem:
    return Problem(id="g", question="?", grader="gym", data={"task": task, "params": params, "entry": entry})


def verdict(grade: Grade) -> list[bool | None]:
    return [grade.first, grade.last, grade.any]


@pytest.fixture(autouse=True, scope="module")
def _no_workers_left() -> object:
    yield
    pool.stop_workers()


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 200
    assert sum(case["expected"][1] is False for case in CASES) > len(CASES) / 2
    assert len({case["source"] for case in CASES}) == len(CASES)


def test_cases_in_one_batch() -> None:
    quick = [case for case in CASES if not case.get("slow")]
    grades = grade([problem(case["target"], case["source"]) for case in quick], [case["output"] for case in quick])
    got = {case["source"]: verdict(grade) for case, grade in zip(quick, grades, strict=True)}
    assert got == {case["source"]: case["expected"] for case in quick}


@pytest.mark.parametrize("case", [case for case in CASES if case.get("slow")], ids=lambda case: case["source"])
def test_a_hang_ends_in_time_and_is_no_wrong_answer(case: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "DEADLINE", 1.0)
    grade([problem("x")], [r"\boxed{y}"])  # a worker is up
    start = time.monotonic()
    assert [verdict(g) for g in grade([problem(case["target"])], [case["output"]])] == [case["expected"]]
    assert time.monotonic() - start < 4


def test_good_answers_beside_a_hang_are_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "DEADLINE", 3.0)
    texts = [HANG, r"\boxed{(x+1)^2}", HANG, r"\boxed{x}", r"\boxed{x^2+2x+1}"]
    grades = grade([problem("x^2+2x+1")] * 5, texts)
    assert [g.last for g in grades] == [None, True, None, False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_workers_of_its_own() -> None:
    def running() -> list[int]:
        return [each.process.pid for each in pool._workers.queue if each.process is not None]

    grade([problem("x")] * 4, [r"\boxed{y}"] * 4)
    before = running()
    if not (child := os.fork()):
        os._exit(len(running()))
    assert before and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert grade([problem("5")] * 4, [r"\boxed{\sqrt{25}}"] * 4)[0].last is True
    assert sorted(running()) == sorted(before)


def test_a_worker_that_dies_costs_its_response_only() -> None:
    worker = pool._workers.queue[0]
    grade([problem("x")] * 4, [r"\boxed{y}"] * 4)

    def kill() -> None:
        time.sleep(0.5)
        for each in workers:
            if each.process is not None:
                each.process.send_signal(signal.SIGKILL)

    workers = list(pool._workers.queue)
    assert worker in workers
    killer = threading.Thread(target=kill)
    killer.start()
    assert verdict(grade([problem("5")], [HANG])[0]) == [None, None, None]
    killer.join()
    assert grade([problem("5")] * 3, [r"\boxed{\sqrt{25}}"] * 3)[0].last is True  # also after death while idle


def test_it_works_off_the_main_thread() -> None:
    got: list[Grade] = []
    thread = threading.Thread(target=lambda: got.extend(grade([problem("2")], [r"\boxed{\sqrt{4}}"])))
    thread.start()
    thread.join()
    assert got[0].last is True


def test_a_worker_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pool.stop_workers()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="cannot start its worker"):
        grade([problem("x")], [r"\boxed{y}"])


def test_the_worker_ends_with_its_parent() -> None:
    script = (
        "from esr import grading; from esr.grading import pool; from esr.records.problem import Problem\n"
        r"grading.grade([Problem(id='p', question='', answer='x')], ['\\boxed{y}'])" "\n"
        "import os; print(*[w.process.pid for w in pool._workers.queue if w.process], flush=True); os._exit(1)"
    )  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(Path(grading.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    end = time.monotonic() + 5
    while any(_runs(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_no_torch_comes_along() -> None:
    code = (
        "import sys, esr.grading.worker as w, reasoning_gym;"
        " [make() for make in w.CHECKERS.values()]; assert 'torch' not in sys.modules"
    )
    env = os.environ | {"PYTHONPATH": str(Path(grading.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_missing_reference_and_uneven_batch() -> None:
    with pytest.raises(UserError, match="p has no reference answer"):
        grade([problem(None)], ["1"])
    with pytest.raises(ValueError, match="1 problems, but 0 texts"):
        grade([problem("1")], [])
    assert grade([], []) == []


@pytest.mark.parametrize(
    ("task", "entry", "text", "right"),
    [
        ("chain_sum", {"answer": "1234", "metadata": {}}, r"so \boxed{1,234}", True),
        ("chain_sum", {"answer": "1234", "metadata": {}}, "5 + 1229 = 1234.", True),
        ("chain_sum", {"answer": "1234", "metadata": {}}, "Answer: **1234**\nGood.", True),
        ("chain_sum", {"answer": "1234", "metadata": {}}, "**Answer:**\n1234\nI checked it in 2 ways.", True),
        ("chain_sum", {"answer": "-4", "metadata": {}}, "it is\n\n−4 apples", True),
        ("chain_sum", {"answer": "4", "metadata": {}}, "it is -4", False),
        ("chain_sum", {"answer": "4", "metadata": {}}, "no idea", False),
        ("chain_sum", {"answer": "4", "metadata": {}}, "", False),
        ("fraction_simplification",
         {"answer": "1/2", "metadata": {"simplified_numerator": 1, "simplified_denominator": 2}},
         r"\boxed{\frac{1}{2}}", True),
        ("leg_counting", {"answer": "12", "metadata": {}}, r"\boxed{12 \text{ legs}}", True),
        ("caesar_cipher", {"answer": "HELLO WORLD", "metadata": {}}, "I shift by 3.\nHELLO WORLD.", True),
        ("caesar_cipher", {"answer": "HELLO WORLD", "metadata": {}}, "<answer>HELLO WORLD</answer>", True),
        ("caesar_cipher", {"answer": "HELLO WORLD", "metadata": {}}, r"\boxed{\text{HELLO WORD}}", False),
    ],
)  # fmt: skip
def test_reasoning_gym_uses_the_tasks_own_verifier(task: str, entry: dict[str, object], text: str, right: bool) -> None:
    assert grade([gym(task, entry)], [text])[0].last is right


def test_reasoning_gym_first_last_any_and_the_tasks_parameters() -> None:
    entry = {"answer": "0.12", "metadata": {}}
    result = grade([gym("chain_sum", {"answer": "3"})], [r"\boxed{3} \boxed{4}"])[0]
    assert (*verdict(result), result.answer, result.answers) == (True, False, True, "4", 2)
    broken = grade([gym("chain_sum", entry, no_such_parameter=1)], ["1"])[0]
    assert verdict(broken) == [None, None, None]


def test_extract_is_linear_in_hostile_text() -> None:
    start = time.process_time()
    assert extract(r"\boxed{" * 100_000) == []
    assert extract("{" * 300_000 + "}" * 300_000) == []
    assert extract(r"\boxed{" * 100_000 + "1" + "}" * 100_000) == ["1"]
    for text in ("a " * 100_000, "1," * 100_000, "\\" * 200_000, "1" * 200_000, "a.'- " * 50_000, " " * 200_000):
        normalise(text)
    for text in ("answer " * 300, "**answer" * 300, "\n#### answer " + "\t" * 1900, "answer is" + "$a$ and , " * 200):
        unboxed(text)
    assert time.process_time() - start < 3


def test_the_voting_key() -> None:
    same = [[r"\dfrac12", "1/2", "0.50", r"\frac{2}{4}", ".5"], ["1,000", "1000.0", r"$1000$", r"1000^\circ"],
            [r"\text{Even}", "even", "EVEN."], [r"\left( 1, 2\right)", "(1,2)"]]  # fmt: skip
    for spellings in same:
        assert len({normalise(s) for s in spellings}) == 1, spellings
    assert len({normalise(group[0]) for group in same}) == len(same)
    assert normalise("1/0") == "1/0"
    apart = ["12", "1 2", "1234", "1, 234", "102, 201", "102201", "2 1/2", "21/2", "no", "on", "p-q", "pq", "52_8", "52",
             "x^2", "x2", "12 cm", "12 mm"]  # fmt: skip
    assert len({normalise(each) for each in apart}) == len(apart)


@pytest.mark.parametrize(
    "answer", ["p - q", "2 1/2", "102, 201", r"\frac{\pi}{2}", "12 cm", "(1, 2)", "x = 5", "½", "New York"]
)
def test_an_answer_is_surely_itself_and_surely_not_nonsense_or_nothing(answer: str) -> None:
    assert same(answer, answer) is True
    assert same("", answer) is False
    assert not same("8191.25", answer)


def vote(answer: str | None, last: bool | None) -> Grade:
    return Grade(first=last, last=last, any=last, answer=answer)


def test_majority() -> None:
    right, wrong, none = vote("1", True), vote("2", False), vote(None, False)
    assert majority([right, right, wrong]) == 1
    assert majority([right, wrong, wrong]) == 0
    assert majority([right, wrong]) == 0.5
    assert majority([right, wrong, none]) == pytest.approx(1 / 3)
    assert majority([right, none, none]) == 0
    assert majority([vote("1", None), right, wrong]) == 1  # a failed grading still votes
    with pytest.raises(ValueError, match="no grades"):
        majority([])


def test_repetitive() -> None:
    rng = random.Random(0)
    words = ["the", "sum", "of", "two", "is", "then", "we", "find", "so", "and", "number", "equals", "by", "half"]
    prose = " ".join(rng.choice(words) + rng.choice(["", ",", str(rng.randint(1, 99))]) for _ in range(400))
    steps = "\n".join(
        f"Step {i}: {(a := rng.randint(1, 99))} + {(b := rng.randint(1, 99))} = {a + b}, leaving {rng.randint(1, 999)}."
        for i in range(40)
    )
    assert not repetitive(prose)
    assert not repetitive(steps)
    assert not repetitive("ha" * 99)
    assert repetitive(prose + " So the answer is \\boxed{4}." * 40)
    assert repetitive(prose + prose[:120] * 9)
    assert not repetitive(prose[:700] + prose[:300])
    assert not repetitive("")


def test_what_a_worker_sends_late_is_no_verdict_on_the_next_job():
    """A job whose verdicts nobody took: the process that still has them is replaced."""
    worker = pool.Worker()
    try:
        worker._hand_over(("answers", "4", ["4"], None))
        assert [v.right for v in worker.judge(("answers", "5", ["4", "5"], None))] == [False, True]
    finally:
        worker.stop()
