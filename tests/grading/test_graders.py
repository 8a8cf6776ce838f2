"""The other graders, and what a worker keeps from them: the environment, the network, code in an answer."""

import os
from pathlib import Path

import pytest

from esr.errors import UserError
from esr.grading import grade, pool
from esr.grading.choice import letter
from esr.grading.gym import harmless
from esr.grading.verdict import Verdict
from esr.grading.worker import _verdict
from esr.records.evaluation import Grade
from esr.records.problem import Problem


def judged(grader: str, answer: str | None, text: str) -> Grade:
    return grade([Problem(id="p", question="Why?", answer=answer, grader=grader)], [text])[0]


@pytest.fixture(autouse=True, scope="module")
def _no_workers_left() -> object:
    yield
    pool.stop_workers()


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A user's file with a grader for each thing that can happen."""
    (tmp_path / "helper.py").write_text("LIMIT = 3\n")
    (tmp_path / "mine.py").write_text(
        "import os, socket, time, helper\n"
        "def right(problem, response): return problem['answer'] in response\n"
        "def short(problem, response): return helper.LIMIT / len(response)\n"
        "def remarks(problem, response): return 0.5, 'half of ' + problem['question']\n"
        "def crash(problem, response): return 1 / 0\n"
        "def loop(problem, response):\n    while True: pass\n"
        "def wait(problem, response):\n    time.sleep(float(response)); return True\n"
        "def wrong_type(problem, response): return 'good'\n"
        "def too_large(problem, response): return 1.5\n"
        "def not_a_number(problem, response): return float('nan')\n"
        "def leave(problem, response): os._exit(0)\n"
        "def token(problem, response): return 'HF_TOKEN' in os.environ or 'HOME' in os.environ\n"
        "def network(problem, response):\n"
        "    try: socket.create_connection(('127.0.0.1', int(response)), timeout=1); return True\n"
        "    except OSError: return False\n"
        "def memory(problem, response): return len(bytes(6 << 30)) > 0\n"
    )
    return f"python:{tmp_path / 'mine.py'}"


def test_a_users_grader_is_given_problem_and_response(own: str) -> None:
    assert judged(f"{own}:right", "42", "It is 42.").last is True
    assert judged(f"{own}:right", "42", "It is 41.").last is False
    scored = judged(f"{own}:short", None, "six...")
    assert (scored.last, scored.score, scored.points) == (False, 0.5, 0.5)
    assert judged(f"{own}:short", None, "abc").last is True
    assert judged(f"{own}:remarks", None, "x").note == "half of Why?"


@pytest.mark.parametrize(
    ("function", "note"),
    [
        ("crash", "ZeroDivisionError"),
        ("wrong_type", "returned 'good'"),
        ("too_large", "returned 1.5"),
        ("not_a_number", "returned nan"),
        ("leave", "no verdict"),
        ("memory", "no verdict"),
        ("missing", "AttributeError"),
    ],
)
def test_a_users_grader_that_fails_is_no_wrong_answer_and_is_said(own: str, function: str, note: str) -> None:
    failed = judged(f"{own}:{function}", "42", "It is 42.")
    assert (failed.first, failed.last, failed.any, failed.score) == (None, None, None, None)
    assert note in str(failed.note)


@pytest.mark.parametrize("patience", [4, 10_000])
def test_a_users_endless_loop_is_ended(own: str, patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that it has had, long before the clock says so too."""
    monkeypatch.setattr(pool, "DEADLINE", 0.5)
    monkeypatch.setattr(pool, "PATIENCE", patience)
    assert judged(f"{own}:loop", None, "x").last is None
    assert judged(f"{own}:right", "a", "a").last is True


def test_a_deadline_is_processor_time_so_that_other_work_takes_none_of_it(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "DEADLINE", 0.5)
    monkeypatch.setattr(pool, "PATIENCE", 100)
    assert judged(f"{own}:wait", None, "1.5").last is True
    monkeypatch.setattr(pool, "PATIENCE", 2)
    assert judged(f"{own}:wait", None, "30").note == pool.LATE


@pytest.mark.parametrize(
    ("name", "says"), [("mine.py", "write python:"), ("gone.py:f", "no file"), ("a.py:b c", "write python:")]
)
def test_a_users_grader_that_is_not_there(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        judged(f"python:{name}", None, "x")


def test_a_worker_sees_no_token(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.stop_workers()
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert judged(f"{own}:token", None, "x").last is False


@pytest.mark.skipif(os.name != "posix" or not Path("/proc/self/ns/net").exists(), reason="no namespaces")
def test_a_worker_has_no_network(own: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        assert judged(f"{own}:network", None, str(port)).last is False


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (r"\boxed{B}", True), ("B", True), ("(B) because it is", True), ("The answer is **B**.", True),
        ("Option B is right.", True), (r"\textbf{(B)}\ 12", True), ("Not (A). So (B).", True), ("b", True),
        ("<think>(A)</think>The correct choice is B.", True), ("B) 12", True), ("Answer: (B) 12 apples", True),
        ("(A)", False), ("The answer is C.", False), ("Be careful.", False), ("", False), (r"\boxed{B} or \boxed{C}", False),
        ("I do not know.", False), ("A", False),
    ],
)  # fmt: skip
def test_a_choice_is_a_letter(text: str, right: bool) -> None:
    assert judged("choice", "(B)", text).last is right


def test_a_choice_needs_a_letter() -> None:
    assert [letter(text) for text in ("B", "b)", "Option C", "(D) 12", "12", "Bob")] == ["B", "B", "C", "D", None, None]
    with pytest.raises(UserError, match="must be a letter"):
        judged("choice", "12", "B")


@pytest.mark.parametrize(
    ("grader", "answer", "text", "right"),
    [
        ("text", "Paris", "Paris\n", True), ("text", "Paris", "<answer>Paris</answer>", True), ("text", "Paris", "paris", False),
        ("text:exact", "Paris", r"It is \boxed{Paris}.", True), ("text", "Paris", "It is Paris", False),
        ("text:contains", "Paris", "It is Paris.", True), ("text:contains", "Paris", "<think>Paris</think>Rome", False),
        ("text:regex", "^[A-Z]{3}$", "ABC", True), ("text:regex", "^[A-Z]{3}$", "ABCD", False),
        ("text:numeric", "3.5", "It is 3.50 metres", True), ("text:numeric", "3.5", "3.51", False),
        ("text:numeric:0.01", "3.5", "about 3.51", True), ("text:numeric:0.01", "-3.5", "3.5", False),
        ("text:numeric", "1234", "1,234", True), ("text:numeric", "5", "none", False),
    ],
)  # fmt: skip
def test_text_rules(grader: str, answer: str, text: str, right: bool) -> None:
    assert judged(grader, answer, text).last is right


@pytest.mark.parametrize("grader", ["text:fuzzy", "text:numeric:many", "text:numeric:2", "text:exact:0.1"])
def test_text_rules_that_do_not_exist(grader: str) -> None:
    with pytest.raises(UserError, match="write text:RULE"):
        judged(grader, "a", "a")


def test_a_pattern_that_takes_forever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "DEADLINE", 0.5)
    assert judged("text:regex", "(a+)+$", "a" * 60 + "b").last is None


ATTACKS = [
    "__import__('os').system('touch {0}')", "open('{0}', 'w')", "[c for c in ().__class__.__base__.__subclasses__()]",
    "(lambda: open('{0}', 'w'))()", "__import__('os').system('touch {0}')!", "getattr(1, 'real')", "print(1)", "exec('1')",
    "f'{{open(\"{0}\", \"w\")}}'", "sqrt.__globals__", "open('{0}', 'w') = 3 +", "eval('1')!",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_answer_is_not_run_as_code(attack: str, tmp_path: Path) -> None:
    target = tmp_path / "made"
    text = attack.format(target)
    assert not harmless(text)
    entry = {"answer": "1 + 2", "metadata": {"numbers": [1, 2], "target": 3, "valid_solutions": [], "solutions": []}}
    problems = [
        Problem(id=task, question="?", grader="gym", data={"task": task, "params": {}, "entry": entry})
        for task in ("n_queens", "countdown", "puzzle24")
    ]
    assert [g.last for g in grade(problems, [rf"\boxed{{{text}}}"] * 3)] != [True] * 3
    assert not target.exists()


@pytest.mark.parametrize(
    "answer", ["1 + 2*(3 - 4)", "[['_', 'Q'], ['Q', '_']]", "x**2 + 3*sin(x)", "5!", "1 2 3", "2^3", "(1, 2)"]
)
def test_literals_and_formulas_are_let_through(answer: str) -> None:
    assert harmless(answer)


def test_a_malformed_answer_at_which_a_verifier_raises_is_wrong_if_the_verifier_knows_its_own() -> None:
    def check(reference: str, candidate: str) -> Verdict:
        return Verdict({"good": True, "bad": False}[candidate])

    assert _verdict(check, "", "good", own="good").right is True
    assert _verdict(check, "", "rubbish", own="good") == (False, None, None, "the verifier raised KeyError: 'rubbish'")
    for own in ("bad", "rubbish", None):
        assert _verdict(check, "", "rubbish", own=own).right is None
