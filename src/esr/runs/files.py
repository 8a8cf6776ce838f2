"""Files that are at every instant whole: JSON, lines of JSON, directories. No torch here."""

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from esr.console.foreign import COMMANDS, brief
from esr.errors import UserError
from esr.records.base import FORMAT_VERSION

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes a half of a character beyond the first 65536."""
PAGE = b"<!doctype html>"
"""How a page begins."""
PROBE = 1 << 16
"""Bytes written to see whether there is room for a record."""
R = TypeVar("R", bound=BaseModel)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn a refusal by the file system into one sentence."""
    try:
        yield
    except (OSError, RecursionError) as error:  # the latter for a path of hundreds of levels
        why = getattr(error, "strerror", "it is nested too deeply")
        raise UserError(
            f"{brief(str(path), 200)[1:-1]}: cannot be written ({why}); choose another directory."
        ) from None


def is_model(folder: Path) -> bool:
    """Whether a directory is a model's: its `config.json` is one that transformers writes."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        tree = json.loads((folder / "config.json").read_bytes())
        return isinstance(tree, dict) and "student" not in tree and bool(tree.keys() & {"model_type", "architectures"})
    return False


def aside(path: Path) -> Path:
    """`NAME~1`, or the first such name that is free."""
    number = 1
    path = path if path.name not in ("", "..") else path.resolve()
    while (target := path.with_name(f"{path.name}~{number}")).exists():
        number += 1
    return target


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON, on one line or indented; a number that is not finite becomes null, and what a terminal would obey is escaped."""
    text = json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def loads(text: str) -> Any:
    """The value of a JSON text. A half of a character, which no file can hold, becomes U+FFFD."""
    value = json.loads(text)
    return _whole(value) if HALF.search(text) else value


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {_whole(k): _whole(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole(v) for v in value]
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


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


def write_page(file: Path, text: str) -> None:
    """Write a page, and the directories above it. Raises `UserError` if something else is there, which would be lost."""
    with writable(file):
        if file.exists() and not (file.is_file() and file.read_bytes()[: len(PAGE)].lower() in (b"", PAGE)):
            raise UserError(f"{file} exists and is no page; name another file.")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left half-written in `folder`."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        owner = re.fullmatch(r"\..+\.(\d+)-[0-9a-f]{8}\.tmp", path.name)
        if owner and not _alive(int(owner[1])):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _alive(process: int) -> bool:
    if os.name == "nt":  # where asking by signal 0 would end it
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk, so that a power cut keeps them."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _temporary(file: Path) -> Iterator[IO[str]]:
    name = _temporary_name(file)
    try:
        with open(name, "x", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, file)
        sync(file.parent)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def write_json(file: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    write_text(file, dumps(value, indent=1) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `UserError` if it is damaged, or of another format than this version's."""
    try:
        value = loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        reason = brief(str(error), 100).strip("'\"")
        raise UserError(f"{file}: damaged, no JSON ({reason}); put a copy in its place, or remove it.") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: damaged, no JSON object; put a copy in its place, or remove it.")
    check_format(value, str(file))
    return value


def check_format(value: Any, where: str) -> None:
    """Raises `UserError` for a file that another version of `esr` wrote in another format."""
    written = value.get("format_version", FORMAT_VERSION) if isinstance(value, dict) else FORMAT_VERSION
    if written != FORMAT_VERSION or isinstance(written, bool):
        raise UserError(
            f"{where}: written in format {brief(written)}; this version of esr reads format {FORMAT_VERSION}: use the "
            "version that wrote it (env.json names it)."
        )


def read_record(file: Path, kind: type[R]) -> R:
    """A result record. Raises `UserError` if the file is not one."""
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        where = ".".join(str(p) for p in error.errors()[0]["loc"]) or "the whole"
        raise UserError(
            f"{file}: damaged, no {kind.__name__.lower()} record (at {brief(where)}); put a copy in its place, or remove it."
        ) from None


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `.jsonl` file; whatever is no JSON object, such as a torn last line, is skipped.

    Raises `UserError` if the file cannot be read at all.
    """
    try:
        with open(file, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    row = loads(line.decode("utf-8"))
                    if isinstance(row, dict):
                        yield row
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from None


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Fill a directory under a temporary name; it appears as `target`, whole and on the disk, when the block ends well."""
    with writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    work = _temporary_name(target)
    work.mkdir()
    try:
        yield work
        rights = work.stat().st_mode & 0o666  # what the user's umask leaves; safetensors keeps its files to their owner
        for file in (*work.rglob("*"), work):
            if file.is_file():
                file.chmod(rights)
            sync(file)
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def check_room(folder: Path) -> None:
    """Find out before long work that `folder` can be written to. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = _temporary_name(folder / "probe")
    try:
        probe.write_bytes(bytes(PROBE))
    finally:
        probe.unlink(missing_ok=True)
