"""Odd data files: each format, each defect, and what is read, left out and said.

    python tests/tasks/odd_files.py > docs/data-files.md

`tests/tasks/test_files.py` runs every case and holds the document against the answers.
"""

import bz2
import gzip
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow

from esr.config import TaskConfig
from esr.console import console
from esr.errors import UserError
from esr.tasks import load

GOOD = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(6)]
FIVE = GOOD[:5]


def lines(*rows: Any, end: str = "\n") -> bytes:
    """JSON lines; text and bytes stand as they are."""
    packed = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    return b"".join(row + end.encode() for row in packed)


def row(question: Any = "a?", answer: Any = "1") -> dict[str, Any]:
    return {"question": question, "answer": answer}


def chat(role: str, *contents: Any) -> dict[str, Any]:
    """A conversation whose turns alternate between `role` and the assistant."""
    return {"messages": [{"role": (role, "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]}


FIVE_CHATS = [chat("user", f"q{i}") for i in range(5)]


def zst(data: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def csv(*rows: str, sep: str = ",") -> bytes:
    return "\n".join([f"question{sep}answer", *rows, *(f"q{i}{sep}{i}" for i in range(5))]).encode()


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
    ("csv in Latin-1", "a.csv", csv("é,1").decode().encode("latin-1"), 5, "line 2: not UTF-8 text"),
    ("messages", "a.jsonl", lines(*(chat("user", f"q{i}") for i in range(5))), 5, "5 rows are read as OpenAI messages"),
    ("several turns", "a.jsonl", lines(*FIVE_CHATS, chat("user", "a", "b", "c")), 6, "read as OpenAI messages"),
    ("no turn of the user", "a.jsonl", lines(*FIVE_CHATS, {"messages": []}), 5, "'messages' has no turn of the user"),
    ("a picture", "a.jsonl", lines(*FIVE_CHATS, chat("user", [{"type": "image"}])), 5, "a part of the type image"),
    ("an unknown role", "a.jsonl", lines(*FIVE_CHATS, chat("narrator", "a")), 5, "has the role 'narrator'"),
    ("functions that are no JSON", "a.jsonl", lines(*FIVE, {**row(), "tools": "{"}), 5, "'tools' is no JSON"),
    ("rows without answers", "a.jsonl", lines(*({"question": f"q{i}"} for i in range(5))), 5, ""),
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


def said_of(path: Path | str, **keys: Any) -> tuple[list[Any], str]:
    """Problems, and what was said meanwhile."""
    with console.capture() as said:
        problems = list(load(TaskConfig(source=str(path), **keys), "eval", need_answer=True).problems)
    return problems, " ".join(said.get().split())


def document() -> str:
    """All cases with what is read and said, as Markdown."""
    lines = [
        "# Odd data files, and what `esr` reads of them",
        "",
        "Written by `python tests/tasks/odd_files.py > docs/data-files.md`; `tests/tasks/test_files.py` holds it against the program.",
        "A row that holds no problem is left out, counted and said; a file is refused where half of its rows or more are.",
        "",
        "| case | file | read | said |",
        "|---|---|---|---|",
    ]
    for name, file, data, *_ in (*READ, *((*case[:3], 0, "") for case in REFUSED)):
        with tempfile.TemporaryDirectory() as home:
            path = Path(home, file)
            path.write_bytes(data)
            try:
                problems, said = said_of(path)
                count = str(len(problems))
            except UserError as error:
                count, said = "refused", str(error)
        said = re.sub(r"\s+", " ", said.replace(f"{home}/", "")).replace("|", "\\|")
        lines.append(f"| {name} | `{file}` | {count} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
