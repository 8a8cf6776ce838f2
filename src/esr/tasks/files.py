"""Problems from a local JSONL or Parquet file."""

import json
from collections.abc import Iterator
from pathlib import Path

from esr.config import TaskConfig
from esr.errors import UserError
from esr.records.problem import Problem
from esr.tasks.rows import Row, to_problems

SUFFIXES = (".jsonl", ".parquet")


def problems(task: TaskConfig, need_answer: bool) -> list[Problem]:
    """One problem for each row. Raises `UserError` for a file that is missing, broken or empty, or lacks a column."""
    path = Path(task.source).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; a relative path starts at the working directory, {Path.cwd()}.")
    columns = [task.question, task.answer] if need_answer else [task.question]
    rows = _jsonl(path) if path.suffix == ".jsonl" else _parquet(path, columns)
    return to_problems(rows, str(path), path.stem, task.question, task.answer if need_answer else None)


def _jsonl(path: Path) -> Iterator[Row]:
    """Blank lines are skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: not valid JSON ({error}).") from None
            if not isinstance(row, dict):
                raise UserError(f'{path}, line {number}: expected an object like {{"question": ..., "answer": ...}}.')
            yield f"line {number}", row


def _parquet(path: Path, columns: list[str]) -> Iterator[Row]:
    """Only `columns` are read; where one is missing, all of them, so that the message can name what is there."""
    import pyarrow
    import pyarrow.parquet

    try:
        there = pyarrow.parquet.read_schema(path).names
        table = pyarrow.parquet.read_table(path, columns=columns if set(columns) <= set(there) else None)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}).") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row
