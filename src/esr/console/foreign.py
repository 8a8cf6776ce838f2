"""Text that others wrote: names, paths, messages, rows of data. Shown safely on a terminal; odd characters found. No torch here."""

import re

COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Characters that command a terminal or cannot be encoded; tabs and line ends are none of them."""
MISTAKES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that nobody writes on purpose: control characters, and halves of characters."""
LOST = re.compile(r"\t(?=ext\b|imes\b|heta\b|frac\b)|\r(?=ight\b|ho\b)")
"""Tabs and returns that were the start of a LaTeX command."""
ESCAPES = {"\t": r"\t", "\r": r"\r", "\x08": r"\b", "\x0c": r"\f", "\x07": r"\a", "\x0b": r"\v", "\x00": r"\0"}


def visible(text: object) -> str:
    r"""Any text, fit for a terminal: what would move its cursor, colour it, or cannot be encoded is spelt out (`\x1b`)."""
    return COMMANDS.sub(lambda found: ascii(found[0])[1:-1], str(text))


def brief(value: object, most: int = 80) -> str:
    """`repr` of a value, its middle left out where it is long."""
    text = visible(repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a very large number")
    return text if len(text) <= most else f"{text[: most - 20]}...{text[-16:]}"


def control_character(text: str) -> str | None:
    """What a person should know of the first control character in `text`; None if there is none."""
    found = MISTAKES.search(text) or LOST.search(text)
    if found is None:
        return None
    if found[0] in ESCAPES:
        cause = rf"; between double quotes `{ESCAPES[found[0]]}` is such a character: double the backslash"
    elif "\ud800" <= found[0] <= "\udfff":
        cause = "; it is half of a character, which cannot be stored: repair the text"
    else:
        cause = "; remove it"
    return f"the control character U+{ord(found[0]):04X}{cause}"
