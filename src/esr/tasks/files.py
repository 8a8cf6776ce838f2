"""Problems from local files: JSONL, JSON, CSV, Parquet, Arrow directories; compressed; several by a pattern."""

import csv
import glob
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from esr.config import TaskConfig
from esr.errors import UserError
from esr.tasks.forms import needed
from esr.tasks.rows import LazyProblems, Row, batched, to_problems

Wanted = tuple[str, str | None]
"""The columns of the question and of the answer (None: it is not read)."""

SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
PACKED = (".gz", ".zst", ".bz2")
_SAVE_AS_UTF8 = "save it as UTF-8"
_BYTES = re.compile("[\udc80-\udcff]")
"""Bytes that are no UTF-8, as `surrogateescape` reads them."""


def is_file(source: str) -> bool:
    """Whether a source names files: by its ending, by being there, or by how a path is written."""
    return kind_of(Path(source)) in SUFFIXES or source.startswith(("/", "./", "../", "~")) or Path(source).exists()


def identity(source: str) -> str:
    """Local files by their name and a digest of what they hold, wherever they lie: `test.jsonl 3fa1c09b`.

    A source that is gone is itself.
    """
    read = hashlib.sha256()
    try:
        paths = _paths(source)
    except UserError:
        return source
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                read.update(file.read_bytes())
    return f"{Path(source).name} {read.hexdigest()[:8]}"


def kind_of(path: Path) -> str:
    """The ending that tells the format, without that of the compression: `.jsonl` for `x.jsonl.gz`."""
    return (Path(path.stem) if path.suffix in PACKED else path).suffix


def problems(task: TaskConfig, need_answer: bool) -> LazyProblems:
    """One problem for each usable row of all files that the source names, in the order of their names.

    Raises `UserError` for a file that is missing, of another format, unreadable or empty, or lacks a column.
    """
    paths = _paths(task.source)
    wanted = task.question, task.answer if need_answer else None
    source = Path(task.source).name
    rows = (row for path in paths for row in _named(path, _rows(path, wanted), len(paths) > 1))
    name = source[: -len("".join(Path(source).suffixes[-2:]))] if Path(source).suffix in PACKED else Path(source).stem
    where = str(paths[0] if len(paths) == 1 else task.source)
    return to_problems(rows, where, name, task, need_answer)


def _paths(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True)) if glob.has_magic(source) else []
    if not found:
        raise UserError(f"{path}: no such file; a relative path starts at the working directory, {Path.cwd()}.")
    return found


def _named(path: Path, rows: Iterator[Row], several: bool) -> Iterator[Row]:
    return ((f"{path.name}, {place}" if several else place, row) for place, row in rows)


def _rows(path: Path, wanted: Wanted) -> Iterator[Row]:
    kind = kind_of(path)
    if path.is_dir():
        return _arrow_directory(path, wanted)
    if kind in (".parquet", ".arrow"):
        return _parquet(path, wanted) if kind == ".parquet" else _arrow(path, wanted)
    if kind in (".csv", ".tsv"):
        return _csv(path, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson"):
        return _jsonl(path)
    if kind == ".json":
        return _json(path)
    raise UserError(f"{path}: a data file is one of {', '.join(SUFFIXES)} (also with {', '.join(PACKED)}).")


def _open(path: Path) -> IO[bytes]:
    """Raises `UserError` for a file that cannot be opened, or is UTF-16."""
    import pyarrow

    try:
        packed = path.suffix in PACKED
        stream = io.BufferedReader(pyarrow.input_stream(str(path), compression="detect")) if packed else path.open("rb")  # type: ignore[arg-type]
        if stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):  # type: ignore[union-attr]
            raise UserError(f"{path} is UTF-16; {_SAVE_AS_UTF8}.")
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from None
    return stream  # type: ignore[return-value]


def _lines(path: Path) -> Iterator[bytes]:
    with _open(path) as file:
        try:
            yield from file
        except OSError as error:  # a compressed file that is cut off
            raise UserError(f"{path} cannot be read to its end ({str(error).splitlines()[0]}).") from None


def _jsonl(path: Path) -> Iterator[Row]:
    """Blank lines are skipped."""
    for number, line in enumerate(_lines(path), 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield f"line {number}", _object(line)


def _object(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode(), object_pairs_hook=_once)
    except _Twice:
        return "a key stands there twice"
    except UnicodeDecodeError:
        return f"not UTF-8 text; {_SAVE_AS_UTF8}"
    except (ValueError, RecursionError):
        return "not valid JSON"
    return row if isinstance(row, dict) else 'not an object like {"question": ..., "answer": ...}'


class _Twice(ValueError):
    """Of two values for one key, JSON's readers keep the last without a word."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice
    return made


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, alone or as the only list in an object; or JSON lines by another name."""
    raw = b"".join(_lines(path)).removeprefix(b"\xef\xbb\xbf")
    try:
        whole = json.loads(raw.decode()) if raw.strip() else []
    except (ValueError, RecursionError):
        if b"\n{" in raw.strip():
            yield from _jsonl(path)
            return
        raise UserError(f"{path}: not valid JSON; give a list of objects, or a .jsonl file.") from None
    lists = [value for value in whole.values() if isinstance(value, list)] if isinstance(whole, dict) else [whole]
    rows = lists[0] if len(lists) == 1 else [whole]
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield f"row {number}", row if isinstance(row, dict) else "not an object"


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, restval=None)
        try:
            for row in rows:
                place, extra = f"line {rows.line_num}", row.pop(None, None)  # type: ignore[call-overload]
                if any(_BYTES.search(cell) for cell in row.values() if cell):
                    yield place, f"not UTF-8 text; {_SAVE_AS_UTF8}"
                else:
                    yield place, "more cells than the header has" if extra else row
        except (csv.Error, OSError) as error:
            raise UserError(f"{path}, line {rows.line_num}: not readable as CSV ({error}).") from None


def _parquet(path: Path, wanted: Wanted) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(columns=list(needed(file.schema_arrow.names, *wanted)) or None, batch_size=8192)
            yield from batched(row for batch in batches for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}).") from None


def _arrow(path: Path, wanted: Wanted) -> Iterator[Row]:
    import datasets

    try:
        return from_dataset(datasets.Dataset.from_file(str(path)), wanted)
    except Exception as error:  # the library raises many kinds
        raise UserError(f"{path}: not a readable Arrow file ({str(error).splitlines()[0]}).") from None


def _arrow_directory(path: Path, wanted: Wanted) -> Iterator[Row]:
    """What `save_to_disk` of the datasets library writes."""
    import datasets

    try:
        table = datasets.load_from_disk(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{path} is a directory without an Arrow data set ({reason}); for files in it write {path}/*.jsonl."
        ) from None
    if isinstance(table, datasets.DatasetDict):
        raise UserError(
            f"{path} holds the splits {', '.join(table)}; give one of them, as {path}/{next(iter(table), '')}."
        )
    return from_dataset(table, wanted)


def from_dataset(table: Any, wanted: Wanted) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, of which only the wanted columns are decoded."""
    columns = list(needed(table.column_names, *wanted))
    return batched(table.select_columns(columns) if columns else table)
