"""Cells of a table of problems: read, and refused with a reason that names the column."""

import math
from collections.abc import Mapping
from typing import Any

from esr.console.foreign import control_character

LONGEST = 1_000_000
"""Characters of a text; no model reads more."""


Cells = Mapping[str, Any]


class Unusable(Exception):
    """Why a row is no problem."""


def missing(column: str) -> str:
    """The reason why a row without a column is left out."""
    return f"no column {column!r}"


def cell(row: Cells, column: str) -> Any:
    """What stands in a column; `a.b` is b inside a. Raises `Unusable` if there is nothing."""
    value: Any = row
    for part in [column] if column in row else column.split("."):
        if not isinstance(value, dict) or part not in value:
            raise Unusable(missing(column))
        value = value[part]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unusable(f"{column!r} is empty")
    return value


def text(value: Any, column: str, what: str = "a question") -> str:
    """A cell that must be text."""
    if not isinstance(value, str):
        raise Unusable(f"{column!r} is {kind(value)}, but {what} must be text")
    if len(value) > LONGEST:
        raise Unusable(f"{column!r} has more than {LONGEST:,} characters")
    return readable(value, column)


def readable(value: str, column: str) -> str:
    """Text without characters that no prompt can hold."""
    if trouble := control_character(value):
        raise Unusable(f"{column!r} holds {trouble}")
    return value


def answer(value: Any, column: str) -> str:
    """A reference: text or a number. Of a worked solution that ends in "#### 42", as in GSM8K, what follows the mark."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Unusable(f"{column!r} is {kind(value)}, but an answer must be text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{column!r} is no number (NaN or infinite)")
    found = readable(str(value), column).rpartition("####")[2].strip()
    if not found:
        raise Unusable(f"{column!r} has nothing after ####")
    return found


def kind(value: Any) -> str:
    """What a value is, for people."""
    kinds: dict[type, str] = {
        list: "a list",
        dict: "an object",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")
