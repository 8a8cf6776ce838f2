"""Files that are at every instant whole: JSON, lines of JSON, directories. No torch here."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from esr.errors import UserError

R = TypeVar("R", bound=BaseModel)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn a refusal by the file system into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another directory.") from None


def dumps(value: Any) -> str:
    """JSON on one line; a number that is not finite becomes null."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """`value` with every number that is not finite replaced by None."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def write_text(file: Path, text: str) -> None:
    """Write a file so that it is at every instant either the old or the new one."""
    with _temporary(file) as out:
        out.write(text)


@contextlib.contextmanager
def _temporary(file: Path) -> Iterator[IO[str]]:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(file: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    write_text(file, json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(file: Path) -> Any:
    """Parse a JSON file. Raises `UserError` if it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}).") from None


def read_record(file: Path, kind: type[R]) -> R:
    """A result record. Raises `UserError` if the file is not one."""
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        where = ".".join(str(p) for p in error.errors()[0]["loc"])
        raise UserError(f"{file}: not a {kind.__name__.lower()} record of this version ({where}).") from None


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `.jsonl` file; whatever is no JSON object, such as a torn last line, is skipped.

    Raises `UserError` if the file cannot be read at all.
    """
    try:
        with open(file, encoding="utf-8") as lines:
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield row
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error}).") from None


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Fill a directory under a temporary name; it appears as `target`, whole, when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield work
        for file in (work, *work.rglob("*")):
            os.chmod(file, 0o755 if file.is_dir() else 0o644)
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
