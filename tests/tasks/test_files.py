"""Odd data files, each format and each defect: what is read, what is left out, what is said."""

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from esr.config import TaskConfig
from esr.console import console
from esr.errors import UserError
from esr.tasks import load
from esr.tasks.files import is_file

GOOD = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(6)]
FIVE = GOOD[:5]


def lines(*rows: Any, end: str = "\n") -> bytes:
    """JSON lines; text and bytes stand as they are."""
    packed = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    return b"".join(row + end.encode() for row in packed)


def row(question: Any = "a?", answer: Any = "1") -> dict[str, Any]:
    return {"question": question, "answer": answer}


def zst(data: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def csv(*rows: str, sep: str = ",") -> bytes:
    return "\n".join([f"question{sep}answer", *rows, *(f"q{i}{sep}{i}" for i in range(5))]).encode()


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


READ: list[tuple[str, str, bytes, int, str]] = [
    # name of the case, file, its bytes, problems read, what is said ("" for nothing)
    ("plain lines", "a.jsonl", lines(*GOOD), 6, ""),
    ("another ending", "a.ndjson", lines(*GOOD), 6, ""),
    ("gzip", "a.jsonl.gz", gzip.compress(lines(*GOOD)), 6, ""),
    ("zstd", "a.jsonl.zst", zst(lines(*GOOD)), 6, ""),
    ("bzip2", "a.jsonl.bz2", bz2.compress(lines(*GOOD)), 6, ""),
    ("packed csv", "a.csv.gz", gzip.compress(csv()), 5, ""),
    ("BOM", "a.jsonl", b"\xef\xbb\xbf" + lines(*GOOD), 6, ""),
    ("CRLF", "a.jsonl", lines(*GOOD, end="\r\n"), 6, ""),
    ("blank lines", "a.jsonl", lines(*FIVE, "", "   ", GOOD[5]), 6, ""),
    ("no end of line", "a.jsonl", lines(*GOOD).rstrip(), 6, ""),
    ("line separators inside text", "a.jsonl", lines(*FIVE, '{"question": "a\u2028b", "answer": 1}'), 6, ""),
    ("columns more than needed", "a.jsonl", lines(*({**r, "x": [1]} for r in GOOD)), 6, ""),
    ("a list of objects", "a.json", json.dumps(GOOD).encode(), 6, ""),
    ("a list in an object", "a.json", json.dumps({"version": 1, "data": GOOD}).encode(), 6, ""),
    ("lines called .json", "a.json", lines(*GOOD), 6, ""),
    ("one object", "a.json", json.dumps(GOOD[0]).encode(), 1, ""),
    ("csv", "a.csv", csv(), 5, ""),
    ("csv with BOM", "a.csv", b"\xef\xbb\xbf" + csv(), 5, ""),
    ("csv with CRLF", "a.csv", csv().replace(b"\n", b"\r\n"), 5, ""),
    ("csv with quotes and line ends", "a.csv", csv('"a, ""b""\nc",7'), 6, ""),
    ("tsv", "a.tsv", csv(sep="\t"), 5, ""),
    ("integer answers", "a.jsonl", lines(*FIVE, row(answer=7)), 6, ""),
    ("decimal answers", "a.jsonl", lines(*FIVE, row(answer=0.5)), 6, ""),
    ("boolean answers", "a.jsonl", lines(*FIVE, row(answer=True)), 5, "'answer' is true or false"),
    ("answer in a list of one", "a.jsonl", lines(*FIVE, row(answer=["7"])), 6, ""),
    ("zero as an answer", "a.jsonl", lines(*FIVE, row(answer=0)), 6, ""),
    ("a long row", "a.jsonl", lines(*FIVE, row("x" * 500_000)), 6, ""),
    ("tabs and line ends in a question", "a.jsonl", lines(*FIVE, row("a\tb\nc\r\nd")), 6, ""),
    ("empty question", "a.jsonl", lines(*FIVE, row("")), 5, "line 6: 'question' is empty"),
    ("blank question", "a.jsonl", lines(*FIVE, row(" \n")), 5, "'question' is empty"),
    ("no question", "a.jsonl", lines(*FIVE, row(None)), 5, "'question' is empty"),
    ("question that is a number", "a.jsonl", lines(*FIVE, row(7)), 5, "'question' is a number"),
    ("question that is an object", "a.jsonl", lines(*FIVE, row({"text": "a"})), 5, "'question' is an object"),
    ("question that is a list", "a.jsonl", lines(*FIVE, row(["a", "b"])), 5, "a turn in 'question' is text"),
    ("question too long", "a.jsonl", lines(*FIVE, row("x" * 1_000_001)), 5, "more than 1,000,000 characters"),
    ("question without column", "a.jsonl", lines(*FIVE, {"answer": 1}), 5, "no column 'question'"),
    ("no answer", "a.jsonl", lines(*FIVE, row(answer=None)), 5, "'answer' is empty"),
    ("blank answer", "a.jsonl", lines(*FIVE, row(answer=" ")), 5, "'answer' is empty"),
    ("answer without column", "a.jsonl", lines(*FIVE, {"question": "a"}), 5, "no column 'answer'"),
    ("NaN as an answer", "a.jsonl", lines(*FIVE, '{"question": "a", "answer": NaN}'), 5, "NaN or infinite"),
    ("infinite answer", "a.jsonl", lines(*FIVE, '{"question": "a", "answer": -Infinity}'), 5, "NaN or infinite"),
    ("nested answer", "a.jsonl", lines(*FIVE, row(answer={"v": 1})), 5, "'answer' is an object"),
    ("several answers", "a.jsonl", lines(*FIVE, row(answer=[1, 2])), 5, "'answer' is a list"),
    ("nothing after the mark", "a.jsonl", lines(*FIVE, row(answer="text ####")), 5, "nothing after ####"),
    ("backspace", "a.jsonl", lines(*FIVE, '{"question": "in \\boxed{}", "answer": 1}'), 5, "U+0008"),
    ("form feed", "a.jsonl", lines(*FIVE, '{"question": "\\frac{1}{2}", "answer": 1}'), 5, "double the backslash"),
    ("tab of a command", "a.jsonl", lines(*FIVE, '{"question": "2 \\times 3", "answer": 1}'), 5, "U+0009"),
    ("form feed in the answer", "a.jsonl", lines(*FIVE, '{"question": "a", "answer": "\\frac12"}'), 5, "'answer' holds"),
    ("zero byte", "a.jsonl", lines(*FIVE, row("a\0b")), 5, "U+0000"),
    ("lone surrogate", "a.jsonl", lines(*FIVE, '{"question": "\\ud83d", "answer": 1}'), 5, "half of a character"),
    ("torn line", "a.jsonl", lines(*FIVE, '{"question": "a'), 5, "line 6: not valid JSON"),
    ("line that is a list", "a.jsonl", lines(*FIVE, '["a", 1]'), 5, "line 6: not an object"),
    ("line that is null", "a.jsonl", lines("null", *FIVE), 5, "line 1: not an object"),
    ("two objects in a line", "a.jsonl", lines(*FIVE, '{"question": "a"} {"question": "b"}'), 5, "not valid JSON"),
    ("line in Latin-1", "a.jsonl", lines(*FIVE, b'{"question": "\xe9", "answer": 1}'), 5, "not UTF-8"),
    ("deeply nested line", "a.jsonl", lines(*FIVE, "[" * 100_000), 5, "not valid JSON"),
    ("object that is none", "a.json", json.dumps([*FIVE, 7]).encode(), 5, "row 6: not an object"),
    ("csv with an empty cell", "a.csv", csv("a,"), 5, "'answer' is empty"),
    ("csv with a short row", "a.csv", csv("a"), 5, "'answer' is empty"),
    ("csv with a long row", "a.csv", csv("a,1,2"), 5, "more cells than the header has"),
    ("csv in Latin-1", "a.csv", csv("é,1").decode().encode("latin-1"), 5, "half of a character"),
    ("question twice", "a.jsonl", lines(*FIVE, FIVE[0]), 5, "1 of 6 questions occur again"),
]  # fmt: skip

REFUSED: list[tuple[str, str, bytes, str]] = [
    ("empty file", "a.jsonl", b"", "has no rows"),
    ("only blank lines", "a.jsonl", b"\n \n", "has no rows"),
    ("empty list", "a.json", b"[]", "has no rows"),
    ("only a header", "a.csv", b"question,answer\n", "has no rows"),
    ("half of the rows", "a.jsonl", lines(*FIVE[:2], row(""), row(None)), "2 of 4 rows cannot be used"),
    ("every row lost a backslash", "a.jsonl", lines('{"question": "\\boxed{}", "answer": 1}'), "double the backslash"),
    ("other columns", "a.jsonl", lines({"text": "a", "gold": 1}), r"`question` to one .* \('text', 'gold'\)"),
    ("UTF-16", "a.jsonl", "x".encode("utf-16"), "save it as UTF-8"),
    ("not gzip", "a.jsonl.gz", b"x", "cannot be read"),
    ("gzip cut off", "a.jsonl.gz", gzip.compress(lines(*GOOD * 99))[:-20], "cannot be read"),
    ("broken JSON", "a.json", b"[{", "not valid JSON"),
    ("no Parquet", "a.parquet", b"no parquet", "not a readable Parquet file"),
    ("no Arrow", "a.arrow", b"no arrow", "not a readable Arrow file"),
    ("another format", "a.xlsx", b"PK", "a data file is one of"),
]


def read(path: Path | str, **keys: Any) -> tuple[list[Any], str]:
    """Problems, and what was said meanwhile."""
    with console.capture() as said:
        problems = list(load(TaskConfig(source=str(path), **keys), "eval", need_answer=True).problems)
    return problems, " ".join(said.get().split())


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


def test_there_are_sixty_odd_files() -> None:
    assert len(READ) + len(REFUSED) > 60


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
