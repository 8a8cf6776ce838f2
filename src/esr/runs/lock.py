"""One process at a time in a directory. No torch here."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from esr.errors import UserError
from esr.runs.files import writable

LOCK = ".lock"
"""The file that the process at work in a directory holds."""


def in_use(path: Path) -> bool:
    """Whether a process works there now."""
    if not (path / LOCK).exists():
        return False
    try:
        with FileLock(path / LOCK).acquire(timeout=0):
            return False
    except (Timeout, OSError):
        return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make the directory, and keep a second process out of it. Raises `UserError` if one is there."""
    with writable(path):
        path.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(path / LOCK).acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{path} is in use by another esr process; give the command again when that has ended."
            ) from None
    with held:
        yield
