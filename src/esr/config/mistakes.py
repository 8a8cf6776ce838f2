"""What pydantic finds wrong with a configuration, as part of a sentence that says what to write instead. No torch here."""

import difflib
from typing import Any

from esr.config import ConfigSection
from esr.config.keys import keys
from esr.console.foreign import brief, visible

QUOTES = "'\""


REMEDIES = {
    "model_type": "it should be a section",
    "finite_number": "it should be a finite number",
    "list_type": "it should be a list",
    "string_type": "it should be text",
    "bool_type": "it should be true or false",
    "int_type": "it should be a whole number",
    "float_type": "it should be a number",
    "dict_type": "it should be a mapping of keys to values",
}
"""What pydantic's kinds of mistake are called here."""


def explain(error: Any, top: type[ConfigSection]) -> str:
    """One validation error as part of a sentence."""
    key = ".".join(str(part) for part in error["loc"])
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, keys(top), n=1, cutoff=0.5) or _same_leaf(key, top)
        return f"unknown key {brief(key).strip(QUOTES)}" + (f" (did you mean {near[0]}?)" if near else "")
    if kind == "missing":
        return f"{key} is missing"
    if not key:
        return _plain(error["msg"])
    return f"{visible(key)[:80]} is {brief(given)}, but {REMEDIES.get(kind) or _plain(error['msg'])}{_hint(key, kind, given)}"


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return (text[0].lower() + text[1:]).replace("input should", "it should")


def _hint(key: str, kind: str, given: Any) -> str:
    """What to write instead, where that can be told."""
    if kind == "model_type" and isinstance(given, str) and key in ("student", "teacher", "data", "eval"):
        first = "source" if key in ("data", "eval") else "model"
        return f"; write `{key}: {{{first}: {visible(given)[:60]}}}`"
    if kind == "list_type" and isinstance(given, str):
        return f"; write `[{visible(given)[:60]}]`"
    if kind == "string_type" and isinstance(given, (bool, int, float)):
        return "; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(given, str):
        return ", written plainly, such as 200 or 5e-5"
    return ""


def _same_leaf(key: str, top: type[ConfigSection]) -> list[str]:
    """Valid keys whose last part resembles that of `key` (the right name in the wrong section)."""
    leaves = {k.rsplit(".", 1)[-1]: k for k in keys(top)}
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1][:100], list(leaves), n=1, cutoff=0.8)
    return [leaves[n] for n in near]
