"""Where two models can be compared on a response that each of them reads in its own tokens.

Bytes are the common ground. A *chunk* is a shortest stretch of the response between two places at which both sides
start a token. At the start of every chunk both models' next events are known exactly, and only there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esr.method.events.spelling import Pieces
from esr.method.tensors import Rollout


@dataclass(frozen=True)
class Positions:
    """Both sides' tokens of the same responses, and which of them start a chunk.

    The k-th start in a row of one side and the k-th in the same row of the other are the same place in the text.
    """

    student: Rollout
    teacher: Rollout
    """The same responses in the teacher's tokens, as far as they are needed."""
    student_starts: Tensor
    """(B, T) bool: where the divergence is taken."""
    teacher_starts: Tensor
    """(B, T') bool, as many in each row."""
    student_long: Tensor
    """(B, T) bool: tokens of chunks that are longer than one token for either side."""
    teacher_long: Tensor
    """(B, T') bool."""

    def select(self, rows: Tensor) -> "Positions":
        """The given rows, without columns that none of them needs."""
        student, teacher = self.student.select(rows), self.teacher.select(rows)
        width, other = student.response_ids.shape[1], teacher.response_ids.shape[1]
        return Positions(
            student,
            teacher,
            self.student_starts[rows, :width],
            self.teacher_starts[rows, :other],
            self.student_long[rows, :width],
            self.teacher_long[rows, :other],
        )


def same(rollout: Rollout) -> Positions:
    """One vocabulary: every token is a chunk, and the teacher reads the sampled tokens themselves."""
    every, none = rollout.response_mask, torch.zeros_like(rollout.response_mask)
    return Positions(rollout, rollout, every, every, none, none)


@dataclass(frozen=True)
class Reading:
    """One response in both sides' tokens: token i of a side starts chunk k where `starts[k] == i`."""

    teacher: list[int]
    """The teacher's ids, as far as they are needed."""
    starts: tuple[list[int], list[int]]
    """First tokens of the chunks that are compared, for student and teacher."""
    ends: tuple[list[int], list[int]]
    """The token after each chunk's last."""

    @property
    def long(self) -> list[int]:
        """Chunks of more than one token on either side."""
        spans = [(s, e) for s, e in zip(self.starts, self.ends, strict=True)]
        return [k for k in range(len(self.starts[0])) if any(e[k] - s[k] > 1 for s, e in spans)]


@dataclass(frozen=True)
class Reader:
    """Reads a student's responses for the teacher. The student's sampled ids stay as they are, canonical or not."""

    student: Pieces
    teacher: Pieces
    same: Mapping[int, int]
    """The teacher's id of each special token, by the student's id, that both have."""
    encode: Callable[[Sequence[bytes]], list[list[int]]]
    """The teacher's tokenizer; an id below 0 for a byte that it cannot write."""
    end: int
    """A token that ends the teacher's turn; it is never read, only predicted."""

    def __call__(self, rollout: Rollout) -> Positions:
        """The rollout's responses on both sides, and their chunks."""
        device = rollout.response_ids.device
        readings = self.read(rollout.token_lists())
        teacher, mask = _padded([reading.teacher for reading in readings])
        width = rollout.response_ids.shape[1]
        starts = [_marks([r.starts[side] for r in readings], w) for side, w in ((0, width), (1, teacher.shape[1]))]
        long = [
            _marks([[i for k in r.long for i in range(r.starts[side][k], r.ends[side][k])] for r in readings], w)
            for side, w in ((0, width), (1, teacher.shape[1]))
        ]
        read = Rollout(teacher.to(device), mask.to(device), rollout.stop_reason)
        return Positions(rollout, read, *(m.to(device) for m in (*starts, *long)))

    def read(self, responses: Sequence[Sequence[int]]) -> list[Reading]:
        """Each response in the teacher's tokens."""
        parts = [self._parts(ids) for ids in responses]
        texts = [part for row in parts for part in row if isinstance(part, bytes)]
        written = iter(self.encode(texts))
        return [
            self._reading(ids, [next(written) if isinstance(part, bytes) else [part] for part in row])
            for ids, row in zip(responses, parts, strict=True)
        ]

    def _parts(self, ids: Sequence[int]) -> list[bytes | int]:
        """A response as stretches of text and the teacher's ids of special tokens, up to one that only the student has."""
        parts: list[bytes | int] = [b""]
        for i in ids:
            piece = _piece(self.student, i)
            if piece is not None:
                text = parts.pop() if isinstance(parts[-1], bytes) else b""
                assert isinstance(text, bytes)
                parts.append(text + piece)
            elif i in self.same:
                parts.append(self.same[i])
            else:
                break
        return [part for part in parts if part != b""]

    def _reading(self, ids: Sequence[int], parts: list[list[int]]) -> Reading:
        """The chunks of a response whose stretches the teacher writes as `parts`."""
        theirs = [j for part in parts for j in part]
        ours = _spelled(ids, self.student, self.same)
        spelled = _spelled(theirs, self.teacher, set(self.same.values()))
        agreed = _agreement(b"".join(ours), b"".join(spelled))
        ended = len(ours) < len(ids)
        starts, ends = chunks([len(p) for p in ours], [len(p) for p in spelled], agreed, ended)
        kept = theirs[: ends[1][-1] if ends[1] else 0]
        if ended and len(kept) < ends[1][-1]:
            kept.append(self.end)
        return Reading(kept, starts, ends)


def chunks(
    student: Sequence[int], teacher: Sequence[int], agreed: int, ended: bool
) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]:
    """First tokens of the chunks, and the tokens after their last, for both sides.

    `student` and `teacher` are the lengths of the tokens in bytes; the first `agreed` bytes are the same text. A response
    that `ended` has one more token on both sides, the terminator, which is a chunk. One that was cut loses its last chunk,
    unless that is one token for both: what would have followed could still have become part of a longer one.
    """
    at = [np.cumsum([0, *lengths]) for lengths in (student, teacher)]
    common, ours, theirs = np.intersect1d(at[0], at[1], return_indices=True)
    inside = common <= agreed
    ours, theirs = ours[inside], theirs[inside]
    starts, ends = (ours[:-1], theirs[:-1]), (ours[1:], theirs[1:])
    if ended and agreed == at[0][-1] == at[1][-1]:
        starts, ends = (ours, theirs), (np.append(ours[1:], len(student) + 1), np.append(theirs[1:], len(teacher) + 1))
    elif len(starts[0]) and any(e[-1] - s[-1] > 1 for s, e in zip(starts, ends, strict=True)):
        starts, ends = (ours[:-2], theirs[:-2]), (ours[1:-1], theirs[1:-1])
    return (starts[0].tolist(), starts[1].tolist()), (ends[0].tolist(), ends[1].tolist())


def _spelled(ids: Sequence[int], pieces: Pieces, special: Mapping[int, int] | set[int]) -> list[bytes]:
    """The bytes of each token up to one that neither spells anything nor is a special token of both sides.

    A special token counts as one byte that occurs in no text.
    """
    out: list[bytes] = []
    for i in ids:
        piece = _piece(pieces, i)
        if piece is None and i not in special:
            break
        out.append(b"\xff" if piece is None else piece)
    return out


def _piece(pieces: Pieces, i: int) -> bytes | None:
    return pieces[i] if 0 <= i < len(pieces) else None


def _agreement(a: bytes, b: bytes) -> int:
    """Bytes that two texts have in common from the start."""
    if a == b:
        return len(a)
    short = min(len(a), len(b))
    differ = np.frombuffer(a[:short], np.uint8) != np.frombuffer(b[:short], np.uint8)
    return int(differ.argmax()) if differ.any() else short


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ragged ids as right-padded (B, T) ids and mask."""
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row, dtype=torch.long), True
    return ids, mask


def _marks(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    """(B, width) bool, True at the given places of each row."""
    out = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        out[i, torch.tensor(row, dtype=torch.long)] = True
    return out
