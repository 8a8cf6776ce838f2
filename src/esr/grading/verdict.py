"""What a worker says about one answer."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """A verdict; the default is that of a verifier that was late or failed."""

    right: bool | None = None
    found: str | None = None
    """The answer that the verifier itself found in the text."""
    score: float | None = None
    """In [0, 1], where the grader gives one."""
    note: str | None = None
    """What went wrong in the verifier, or the remarks of a user's grader."""
