"""References that no response could match, and verifiers that accept everything, are found before grading."""

from pathlib import Path

import pytest

from esr.errors import UserError
from esr.grading import check as module
from esr.grading import pool
from esr.grading.check import check
from esr.records.problem import Problem


@pytest.fixture(autouse=True, scope="module")
def _no_workers_left() -> object:
    yield
    pool.stop_workers()


def problem(answer: str | None, grader: str = "answers") -> Problem:
    return Problem(id=str(answer), question="?", answer=answer, grader=grader)


GOOD = ["5", "2*pi", "sqrt 2", "1e-5", r"\frac{1}{2}", "x^2+1", "102, 201", "p - q", "(1,2]", "Evelyn", r"\text{(C)}", "52_8", "12 cm",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "3x - 4 = 5"]  # fmt: skip
BAD = ["NaN", "proof", "notfound", "}", r"\frac{", "?", "null"]


def test_references_that_are_none_are_left_out_and_counted() -> None:
    checked = check([problem(answer) for answer in GOOD + BAD])
    assert [p.answer for p in checked.problems] == GOOD
    assert checked.left_out.total() == len(BAD)


def test_letters_patterns_and_numbers() -> None:
    assert len(check([problem(answer, "choice") for answer in ("B", "(C)", "12")]).problems) == 2
    assert len(check([problem(answer, "text:regex") for answer in ("^a$", ".*", "(")]).problems) == 1
    assert len(check([problem(answer, "text:numeric") for answer in ("1.5", "many")]).problems) == 1


def test_a_users_grader_that_calls_nonsense_right(tmp_path: Path) -> None:
    (tmp_path / "g.py").write_text("def yes(p, r): return True\ndef no(p, r): return False\n")
    got = [check([problem("1", f"python:{tmp_path / 'g.py'}:{name}")]) for name in ("yes", "no")]
    assert [len(each.problems) for each in got] == [0, 1]
    assert got[0].left_out == {"the grader calls nonsense right": 1}


def test_a_verifier_that_accepts_everything() -> None:
    import reasoning_gym

    problems = []
    for task in ("game_of_life_halting", "chain_sum"):
        entries = reasoning_gym.create_dataset(task, size=8, seed=0)
        for i in range(8):
            data = {"task": task, "params": {}, "entry": entries[i]}
            problems.append(
                Problem(id=f"{task}-{i}", question="?", answer=str(entries[i]["answer"]), grader="gym", data=data)
            )
    checked = check(problems)
    assert [p.id.partition("-")[0] for p in checked.problems] == ["chain_sum"] * 8
    assert set(checked.left_out) <= {
        "the verifier calls nonsense right",
        "the verifier does not call the reference right",
    }


def test_of_many_references_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKED", 3)
    checked = check([problem(f"x^{i} + y") for i in range(10)] * 2)
    assert (len(checked.problems), checked.unchecked) == (20, 7)


@pytest.mark.parametrize("grader", ["math", "answers:x", "text:fuzzy", "python:gone.py:f"])
def test_graders_that_are_not_there(grader: str) -> None:
    with pytest.raises(UserError, match="Grader"):
        check([problem("1", grader)])
