"""What each token id spells, in bytes: the common ground of two tokenizers. Plain data in, plain data out."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

Kind = Literal["bytes", "sentencepiece", "text"]
"""How a vocabulary writes its tokens: one character a byte (byte-level BPE), `\u2581` for a space and `<0xNN>` for a
byte (SentencePiece), or as they read."""

Pieces = tuple[bytes | None, ...]
"""The bytes of each token id; None for one that stands for no text (a special token, an unused id)."""

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


def spell(token: str, kind: Kind) -> bytes:
    """The bytes of one token of a vocabulary."""
    if kind == "bytes":
        table = byte_characters()
        return bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()
    if kind == "sentencepiece":
        byte = BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode()
    return token.encode()


def pieces(vocabulary: Mapping[str, int], added: Mapping[int, str | None], size: int, kind: Kind) -> Pieces:
    """The bytes of ids 0 to `size` - 1.

    `added` are tokens beside the model's vocabulary: text that stands for itself, or None for a special token.
    """
    found: list[bytes | None] = [None] * size
    for token, i in vocabulary.items():
        if i < size:
            found[i] = spell(token, kind) or None
    for i, text in added.items():
        if i < size:
            found[i] = (text.replace("\u2581", " ") if kind == "sentencepiece" else text).encode() if text else None
    return tuple(found)
