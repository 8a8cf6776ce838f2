"""First-piece event classes: which tokens of two vocabularies are one event.

A token that one side lacks is the same event as the first token that side's own tokenizer gives for its bytes: if the
teacher has `Hello` and the student spells it `Hel|lo`, a perfect student puts on `Hel` what the teacher puts on `Hello`.
Connected components of these links are the events. "Tokens that both have, and one event for the rest" would charge such
a student for it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from esr.method.events.spelling import Pieces

Labels = NDArray[np.int64]
"""(V,) the class of each column of a model's logits; `LEFT_OUT` for a column that is not compared."""
LEFT_OUT = -1

Encode = Callable[[Sequence[bytes]], list[list[int]]]
"""A tokenizer: the ids of each of some texts."""


def first_piece(
    student: Pieces, teacher: Pieces, encode: tuple[Encode, Encode], same: Sequence[tuple[int, int]] = ()
) -> tuple[Labels, Labels]:
    """The classes of both sides' columns. `same` are pairs of ids that are one event though they spell nothing.

    Columns that neither spell anything nor stand in `same` are one class, if both sides have some.
    """
    links = _alike(student, teacher) + list(same)
    links += [(i, j) for i, j in _missing(student, teacher, encode[1])]
    links += [(i, j) for j, i in _missing(teacher, student, encode[0])]
    return _labels(student, teacher, links, same)


def shared_plus_rest(student: Pieces, teacher: Pieces, same: Sequence[tuple[int, int]] = ()) -> tuple[Labels, Labels]:
    """The usual events, as a baseline: tokens that both sides spell alike, and one class of all others."""
    links = _alike(student, teacher) + list(same)
    known = [set(side) for side in zip(*links, strict=True)] or [set(), set()]
    rest = [[i for i in range(len(side)) if i not in ids] for side, ids in zip((student, teacher), known, strict=True)]
    if all(rest):
        links += [(i, rest[1][0]) for i in rest[0]] + [(rest[0][0], j) for j in rest[1]]
    return _labels(student, teacher, links, same)


def components(count: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """(count,) the smallest member of each node's connected component, for (L, 2) links between nodes."""
    label = np.arange(count)
    while True:
        low = label[links].min(1)
        lower = label.copy()
        for end in label[links].T:
            np.minimum.at(lower, end, low)
        lower = lower[lower]
        if np.array_equal(lower, label):
            return label
        label = lower


def _alike(student: Pieces, teacher: Pieces) -> list[tuple[int, int]]:
    """Pairs of ids with the same bytes: every id of one side with an id of the other."""
    ours, theirs = _by_bytes(student), _by_bytes(teacher)
    links = [(i, theirs[piece]) for i, piece in enumerate(student) if piece in theirs]
    return links + [(ours[piece], j) for j, piece in enumerate(teacher) if piece in ours]


def _missing(side: Pieces, other: Pieces, encode: Encode) -> list[tuple[int, int]]:
    """Each id whose bytes the other side has no token for, with the first token that the other side writes instead."""
    known = set(other)
    ids = [i for i, piece in enumerate(side) if piece is not None and piece not in known]
    written = encode([side[i] or b"" for i in ids])
    return [(i, row[0]) for i, row in zip(ids, written, strict=True) if row and other[row[0]] is not None]


def _by_bytes(pieces: Pieces) -> Mapping[bytes | None, int]:
    """An id for each byte string; None is in no mapping."""
    return {piece: i for i, piece in enumerate(pieces) if piece is not None}


def _labels(
    student: Pieces, teacher: Pieces, links: list[tuple[int, int]], same: Sequence[tuple[int, int]]
) -> tuple[Labels, Labels]:
    """Classes from links. A class without a member on one side is left out: nothing there can be compared."""
    named = [set(side) for side in zip(*same, strict=True)] or [set(), set()]
    silent = [
        [i for i, piece in enumerate(side) if piece is None and i not in ids]
        for side, ids in zip((student, teacher), named, strict=True)
    ]
    if all(silent):
        links = links + [(i, silent[1][0]) for i in silent[0]] + [(silent[0][0], j) for j in silent[1]]
    ours, theirs = len(student), len(teacher)
    nodes = np.array(links, dtype=np.int64).reshape(-1, 2) + np.array([0, ours])
    root = components(ours + theirs, nodes)
    sides = root[:ours], root[ours:]
    both = np.intersect1d(*sides)
    return tuple(np.where(np.isin(side, both), side, LEFT_OUT) for side in sides)  # type: ignore[return-value]
