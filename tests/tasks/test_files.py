"""Odd data files, each format and each defect: what is read, what is left out, what is said."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from esr.config import TaskConfig
from esr.errors import UserError
from esr.tasks import load
from esr.tasks.files import is_file
from odd_files import GOOD, READ, REFUSED, document, lines, row
from odd_files import said_of as read


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(("name", "file", "data", "count", "says"), READ, ids=[case[0] for case in READ])
def test_what_is_read_left_out_and_said(
    tmp_path: Path, name: str, file: str, data: bytes, count: int, says: str
) -> None:
    (tmp_path / file).write_bytes(data)
    problems, said = read(tmp_path / file)
    assert len(problems) == count
    assert says in said if says else said == ""


@pytest.mark.parametrize(("name", "file", "data", "says"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_is_refused(tmp_path: Path, name: str, file: str, data: bytes, says: str) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises(UserError, match=says):
        read(tmp_path / file)


def test_there_are_sixty_odd_files_and_the_document_says_what_becomes_of_them() -> None:
    assert len(READ) + len(REFUSED) > 60
    assert (Path(__file__).parents[2] / "docs" / "data-files.md").read_text() == document()


def test_reasons_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*GOOD, row(""), row(None), row(7)))
    loaded = load(TaskConfig(source=str(tmp_path / "a.jsonl")), "eval", need_answer=True)
    assert loaded.left_out == {"'question' is empty": 2, "'question' is a number, but a question must be text": 1}


def test_answers_are_kept_as_they_are(tmp_path: Path) -> None:
    answers: list[Any] = [7, 0.5, " x ", r"\frac{1}{2}", "1,234", ["9"], "So\n#### 4"]
    (tmp_path / "a.jsonl").write_bytes(lines(*(row(f"q{i}", a) for i, a in enumerate(answers))))
    assert [p.answer for p in read(tmp_path / "a.jsonl")[0]] == [
        "7",
        "0.5",
        "x",
        r"\frac{1}{2}",
        "1,234",
        "9",
        "4",
    ]


def test_an_answer_inside_an_object(tmp_path: Path) -> None:
    nested = [{"question": f"q{i}", "reward_model": {"ground_truth": str(i)}} for i in range(3)]
    (tmp_path / "a.jsonl").write_bytes(lines(*nested))
    parquet(tmp_path / "a.parquet", nested)
    for file in ("a.jsonl", "a.parquet"):
        problems, _ = read(tmp_path / file, answer="reward_model.ground_truth")
        assert [p.answer for p in problems] == ["0", "1", "2"]


def test_several_files_by_a_pattern_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(lines(*GOOD[3:], row("")))
    (tmp_path / "a.jsonl").write_bytes(lines(*GOOD[:3]))
    problems, said = read(tmp_path / "*.jsonl")
    assert [p.question for p in problems] == [r["question"] for r in GOOD]
    assert "b.jsonl, line 4: 'question' is empty" in said
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "*.csv")


def test_parquet_arrow_and_what_save_to_disk_writes(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(GOOD)
    table.save_to_disk(str(tmp_path / "saved"))
    parquet(tmp_path / "a.parquet", GOOD)
    for path in (tmp_path / "saved", tmp_path / "a.parquet", next((tmp_path / "saved").glob("*.arrow"))):
        assert len(read(path)[0]) == 6
    datasets.DatasetDict(train=table).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(UserError, match="holds the splits train"):
        read(tmp_path / "splits")
    with pytest.raises(UserError, match="directory without an Arrow data set"):
        read(tmp_path)


@pytest.mark.parametrize("source", ["data/q.json", "data/q.csv", "data/x.jsonl.gz", "./x", "../x/y", "~/x", "/x"])
def test_a_path_is_never_taken_for_a_data_set_of_the_hub(source: str) -> None:
    assert is_file(source)
    with pytest.raises(UserError, match="no such file"):
        read(source)


def test_only_the_problems_that_are_asked_for_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*({"question": f"What is {i}?"} for i in range(20_000))))
    built: list[str] = []
    make: Callable[..., Any] = __import__("esr.tasks.rows", fromlist=["Problem"]).Problem
    monkeypatch.setattr("esr.tasks.rows.Problem", lambda **keys: built.append(keys["id"]) or make(**keys))
    tracemalloc.start()
    problems = load(TaskConfig(source=str(tmp_path / "a.jsonl")), "train", need_answer=False).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(problems), built) == (20_000, [])
    assert problems[7].question == "What is 7?"
    assert len(built) == 1
    assert peak < 400 * len(problems)  # bytes
