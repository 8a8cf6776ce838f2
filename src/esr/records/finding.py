"""The records that analyses and studies write, each with a format version. No torch here."""

from typing import Any

from esr.records.base import FORMAT_VERSION, Record


class Finding(Record):
    """What every analysis record tells of itself."""

    format_version: int = FORMAT_VERSION
    models: dict[str, str]
    """Model reference of each role: `student`, `teacher`, and `after` (`RUN step 30`) where there is one."""
    task: str
    """Where the problems come from, in words."""
    problems: int
    settings: dict[str, Any]
    """Every choice that the numbers depend on, seeds included."""
    seconds: float
    """Wall-clock, all sessions of a resumed analysis together."""
