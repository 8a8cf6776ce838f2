"""Tasks: files, the hub (unreachable here, or replaced), generators; ids, limits, and what each mistake says."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from esr.config import TaskConfig
from esr.errors import UserError
from esr.models import hub
from esr.records.problem import Problem
from esr.tasks import describe, disjoint
from esr.tasks import load as load_all

ROWS = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(30)]


def task(source: object, **keys: Any) -> TaskConfig:
    return TaskConfig(source=str(source), **keys)


def load(source: TaskConfig, purpose: Any, need_answer: bool) -> list[Problem]:
    return list(load_all(source, purpose, need_answer).problems)


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=["jsonl", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "jsonl":
        return jsonl(tmp_path / "sums.jsonl", ROWS)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "sums.parquet")
    return tmp_path / "sums.parquet"


# files


def test_a_file(file: Path) -> None:
    problems = load(task(file), "eval", need_answer=True)
    assert [(p.question, p.answer, p.grader) for p in problems] == [
        (row["question"], str(row["answer"]), "answers") for row in ROWS
    ]
    assert len({p.id for p in problems}) == 30
    assert problems == load(task(file), "eval", need_answer=True)
    assert problems[3].id.startswith("sums-00003-")


def test_columns_are_mapped_and_answers_left_alone_in_training(file: Path) -> None:
    problems = load(task(file, question="question", answer="nowhere"), "train", need_answer=False)
    assert {p.answer for p in problems} == {None}
    swapped = load(task(file, answer="question"), "eval", need_answer=True)
    assert swapped[0].answer == ROWS[0]["question"]


def test_a_missing_column_names_those_there(file: Path) -> None:
    with pytest.raises(UserError, match=r"1: no column 'prompt'; set the task's `question` .*\('question', 'answer'\)"):
        load(task(file, question="prompt"), "train", need_answer=False)
    with pytest.raises(UserError, match=r"1: no column 'gold'; set the task's `answer` .*\('question', 'answer'\)"):
        load(task(file, answer="gold"), "eval", need_answer=True)


def test_the_mark_of_gsm8k(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "g.jsonl", [{"question": "q", "answer": "So 3 + 4.\n#### 7"}])
    assert load(task(path), "eval", need_answer=True)[0].answer == "7"


def test_equal_questions_have_ids_of_their_own(tmp_path: Path) -> None:
    problems = load(task(jsonl(tmp_path / "d.jsonl", [ROWS[0]] * 3)), "train", need_answer=False)
    assert len({p.id for p in problems}) == 3


def test_limit_draws_by_seed_and_keeps_the_order(file: Path) -> None:
    every = load(task(file), "train", need_answer=False)
    few = load(task(file, limit=5, seed=1), "train", need_answer=False)
    assert few == load(task(file, limit=5, seed=1), "train", need_answer=False)
    assert [p for p in every if p in few] == few
    assert few != every[:5]
    assert few != load(task(file, limit=5, seed=2), "train", need_answer=False)
    assert load(task(file, limit=99), "train", need_answer=False) == every


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows"),
        ("\n  \n", "has no rows"),
        ('{"question": "a"}\n\n{"question": \n', "line 3: not valid JSON"),
        ('{"question": "a"}\n["b"]\n', "line 2: not an object"),
        ('{"question": "a"}\n{"question": 7}\n', "line 2: 'question' is a number, but a question must be text"),
        ('{"question": [{"role": "user"}]}\n', "line 1: a turn in 'question' is empty"),
        ('{"question": ""}\n', "line 1: 'question' is empty"),
        ('{"question": null}\n', "line 1: 'question' is empty"),
        ("[" * 100_000, "line 1: not valid JSON"),
    ],
)
def test_a_bad_jsonl_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=f"bad.jsonl.*{says}"):
        load(task(path), "train", need_answer=False)


def test_answers_that_are_no_answers(tmp_path: Path) -> None:
    for bad, says in ((["1", "2"], "is a list, but an answer must be text or a number"), (None, "is empty")):
        path = jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": bad}])
        with pytest.raises(UserError, match=says):
            load(task(path), "eval", need_answer=True)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"question": "\xff\xfe"}\n')
    (tmp_path / "x.parquet").write_bytes(b"no parquet\n")
    with pytest.raises(UserError, match=r"x.jsonl: .*line 1: not UTF-8 text"):
        load(task(tmp_path / "x.jsonl"), "train", need_answer=False)
    with pytest.raises(UserError, match=r"x.parquet: not a readable Parquet file"):
        load(task(tmp_path / "x.parquet"), "train", need_answer=False)
    with pytest.raises(UserError, match=r"gone.jsonl: no such file"):
        load(task(tmp_path / "gone.jsonl"), "train", need_answer=False)


# the hub


def test_an_unreachable_hub_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"nobody/nothing cannot be reached on the hub \(connection refused\).*local"):
        load(task("nobody/nothing"), "train", need_answer=False)
    assert time.monotonic() - start < 15


class FakeHub:
    """Stands in for the hub: answers the probe, and remembers what was asked of `load_dataset`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
        import datasets

        self.asked: tuple[Any, ...] = ()
        self.rows = rows
        monkeypatch.setattr(hub, "trouble", lambda kind, name: "")
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, name: str, subset: str | None, split: str) -> Any:
        self.asked = (name, subset, split)
        if split == "typo":
            raise ValueError("Unknown split \"typo\". Should be one of ['train', 'test'].")
        import datasets

        return datasets.Dataset.from_list(self.rows)


def test_named_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(monkeypatch, [{"problem": "p", "answer": 204}])
    expected = {
        "math500": ("HuggingFaceH4/MATH-500", None, "test"),
        "aime24": ("HuggingFaceH4/aime_2024", None, "train"),
        "aime25": ("math-ai/aime25", None, "test"),
    }
    for name, asked in expected.items():
        problem = load(task(name), "eval", need_answer=True)[0]
        assert (problem.question, problem.answer, fake.asked) == ("p", "204", asked)
        assert problem.id.startswith(f"{name}-00000-")
        with pytest.raises(UserError, match=f"{name} is a test set"):
            load(task(name), "train", need_answer=False)


def test_gsm8k_and_other_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(monkeypatch, [{"question": "q", "answer": "3 + 4 = 7\n#### 7"}])
    assert load(task("gsm8k"), "eval", need_answer=True)[0].answer == "7"
    assert fake.asked == ("openai/gsm8k", "main", "test")
    load(task("gsm8k"), "train", need_answer=False)
    assert fake.asked == ("openai/gsm8k", "main", "train")
    load(task("some/where", subset="hard", split="validation"), "eval", need_answer=True)
    assert fake.asked == ("some/where", "hard", "validation")
    with pytest.raises(UserError, match=r"some/where.*no column 'problem'"):
        load(task("some/where", question="problem"), "train", need_answer=False)
    with pytest.raises(UserError, match=r"some/where cannot be loaded: Unknown split .*'test'.*`split`"):
        load(task("some/where", split="typo"), "train", need_answer=False)


def test_an_unknown_source_names_what_is_near() -> None:
    with pytest.raises(UserError, match=r"'math5000' is unknown \(did you mean math500\?\)"):
        load(task("math5000"), "eval", need_answer=True)
    with pytest.raises(UserError, match="is unknown: give a hub data set"):
        load(task("some data"), "eval", need_answer=True)


# generators


def test_reasoning_gym_is_reproducible_and_evaluates_on_other_problems() -> None:
    sums = task("reasoning_gym:chain_sum", size=20, params={"max_terms": 3}, seed=5)
    train, evaluation = (load(sums, purpose, need_answer=True) for purpose in ("train", "eval"))  # type: ignore[arg-type]
    assert train == load(sums, "train", need_answer=True)
    assert not {p.question for p in train} & {p.question for p in evaluation}
    assert (train[0].grader, train[0].data["task"], len({p.id for p in train})) == ("gym", "chain_sum", 20)
    assert train[0].data["entry"]["answer"] == train[0].answer
    later = load(sums.model_copy(update={"seed": 6}), "train", need_answer=True)
    assert train[1].question == later[0].question  # seeds are neighbours: why evaluation starts far away


def test_reasoning_gym_with_few_different_questions_still_has_unique_ids() -> None:
    coins = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    sums = task("reasoning_gym:chain_sum", size=300, params=coins)
    train, evaluation = load(sums, "train", True), load(sums, "eval", True)
    assert len({p.question for p in train}) < 300 == len({p.id for p in train})
    assert len({p.question for p in evaluation}) == len(evaluation) < 300
    kept, removed = disjoint(train, evaluation)
    assert removed > 0
    assert len(kept) == len(evaluation) - removed
    assert not {p.question for p in train} & {p.question for p in kept}


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("chainsum", {}, "there is no such task; did you mean chain_sum"),
        ("chain_sum", {"max_termz": 3}, r"has no parameter max_termz in `params`; it has min_terms, max_terms"),
        ("chain_sum", {"seed": 3}, "has no parameter seed"),
        ("chain_sum", {"min_terms": 9, "max_terms": 3}, "does not accept its `params`.*max_terms"),
        ("chain_sum", {"min_terms": "two"}, "does not accept its `params`"),
    ],
)
def test_reasoning_gym_mistakes(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"reasoning_gym:{name}.*{says}"):
        load(task(f"reasoning_gym:{name}", params=params), "train", need_answer=False)


def test_reasoning_gym_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(UserError, match=r'pip install "esr-distill\[tasks\]"'):
        load(task("reasoning_gym:chain_sum"), "train", need_answer=False)


def test_the_lab_is_asked_for_its_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Problem(id=f"lab-{i}", question=str(i), grader="lab") for i in range(4)]
    asked: list[Any] = []
    stub = SimpleNamespace(problems=lambda *args: asked.append(args) or made)
    monkeypatch.setitem(sys.modules, "esr.tasks.lab", stub)  # type: ignore[arg-type]
    monkeypatch.setattr("esr.tasks.lab", stub, raising=False)
    few = load(task("lab:arithmetic", params={"level": "easy"}, size=4, limit=2), "eval", need_answer=True)
    assert asked == [("arithmetic", {"level": "easy"}, 4, 0, "eval")]
    assert len(few) == 2


def test_describe() -> None:
    assert describe(task("/a/b/sums.jsonl")) == "sums.jsonl"
    assert describe(task("math500")) == "math500"
    assert describe(task("openai/gsm8k", subset="main", split="test")) == "openai/gsm8k/main/test"
    assert describe(task("reasoning_gym:chain_sum")) == "reasoning_gym:chain_sum"
