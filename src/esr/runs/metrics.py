"""Rows of `metrics.jsonl`, one for each optimiser step. No torch here."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.runs.files import read_lines

EVERY_STEP = ("step", "time/step", "tokens/generated", "memory/peak_gib")
"""Numbers that each row has, that of a skipped step too."""


def read(file: Path) -> list[dict[str, Any]]:
    """The rows; none if there is no such file. Raises `UserError` if one lacks a number that every step has."""
    rows = list(read_lines(file)) if file.exists() else []
    for number, row in enumerate(rows, 1):
        if lost := [key for key in EVERY_STEP if not isinstance(row.get(key), (int, float))]:
            raise UserError(
                f"{file} is damaged: row {number} has no number for {lost[0]}. Put a copy in its place, or add --fresh to "
                "move this run aside and start anew."
            )
    return rows


def lengths(rows: Iterable[dict[str, Any]], cap: int) -> list[float]:
    """The N of each step, in tokens; in rows of older versions, which lack it, it was the cap of rollouts."""
    return [row.get("rollout/n", cap) for row in rows]
