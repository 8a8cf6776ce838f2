"""Byte-pair encoding on a small alphabet, small enough to be checked by eye: what two tokenizers are tested with."""

from collections.abc import Sequence
from dataclasses import dataclass

from esr.method.events.positions import Reader

END = b""
"""The last id of every tokenizer here: it ends a turn and spells nothing."""


@dataclass(frozen=True)
class BytePairs:
    """Single bytes, then merges of two tokens each, then the terminator."""

    alphabet: bytes
    merges: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def tokens(self) -> list[bytes]:
        return list(dict.fromkeys([bytes([b]) for b in self.alphabet] + [a + b for a, b in self.merges]))

    @property
    def pieces(self) -> tuple[bytes | None, ...]:
        return (*self.tokens, None)

    @property
    def end(self) -> int:
        return len(self.tokens)

    def split(self, text: bytes) -> list[bytes]:
        """Merges in their order, each from left to right wherever it fits."""
        parts = [bytes([b]) for b in text]
        for a, b in self.merges:
            out: list[bytes] = []
            for part in parts:
                if out and out[-1] == a and part == b:
                    out[-1] = a + b
                else:
                    out.append(part)
            parts = out
        return parts

    def encode(self, texts: Sequence[bytes]) -> list[list[int]]:
        known = {token: i for i, token in enumerate(self.tokens)}
        return [[known.get(part, -1) for part in self.split(text)] for text in texts]


def reader(student: BytePairs, teacher: BytePairs) -> Reader:
    return Reader(student.pieces, teacher.pieces, {}, teacher.encode, teacher.end)
