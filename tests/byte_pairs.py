"""Byte-pair encoding on a small alphabet, small enough to be checked by eye: what two tokenizers are tested with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from esr.method.events.positions import Reader

CASES = int(os.environ.get("ESR_CASES", "100"))
"""Random cases of a property: 100 among the tests, 10,000 by `make properties`."""

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

    def spell(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces[i] or END for i in ids)


def reader(student: BytePairs, teacher: BytePairs) -> Reader:
    return Reader(student.pieces, teacher.pieces, {}, teacher.encode, teacher.end)


@st.composite
def tokenizers(draw, alphabet: bytes, most: int = 8) -> BytePairs:
    """A tokenizer of up to `most` random merges."""
    merges: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, most))):
        known = BytePairs(alphabet, tuple(merges)).tokens
        pair = draw(st.sampled_from(known)), draw(st.sampled_from(known))
        if pair not in merges:
            merges.append(pair)
    return BytePairs(alphabet, tuple(merges))
