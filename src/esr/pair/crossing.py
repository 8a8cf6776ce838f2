"""A student and a teacher with different tokenizers: their common events, and how well they can be compared."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esr.errors import UserError
from esr.method.events import EventSpace, event_space
from esr.method.events.classes import LEFT_OUT, Labels, first_piece, shared_plus_rest
from esr.method.events.positions import Reader
from esr.models.spelling import Spelling, prove
from esr.records.tokenizers import TwoTokenizers

LEAST_COMMON = 0.5
"""A pair is refused if the teacher starts a token at fewer of the student's positions."""
TEXT = 400_000
"""Characters of the data on which a pair is measured."""


@dataclass(frozen=True)
class Crossing:
    """Two spellings, and the tokens that end a turn for each."""

    student: Spelling
    teacher: Spelling
    ends: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def special(self) -> dict[int, int]:
        """The teacher's id of each special token that both have, by the student's; tokens that end a turn are not among them."""
        ours, theirs = (
            {text: i for text, i in side.special.items() if i not in ends and i < len(side.pieces)}
            for side, ends in zip((self.student, self.teacher), self.ends, strict=True)
        )
        return {ours[text]: theirs[text] for text in sorted(ours.keys() & theirs.keys())}

    def same(self, merge: bool) -> list[tuple[int, int]]:
        """Pairs of ids that are one event though they spell nothing: special tokens, and what ends a turn.

        Without `merge`, a token that ends a turn is an event with the other side's token of the same name only.
        """
        pairs = list(self.special.items())
        if merge:
            ours, theirs = self.ends
            return pairs + [(i, theirs[0]) for i in ours] + [(ours[0], j) for j in theirs]
        names = [{i: text for text, i in side.special.items()} for side in (self.student, self.teacher)]
        return pairs + [(i, j) for i in self.ends[0] for j in self.ends[1] if names[0].get(i, "") == names[1].get(j)]

    def labels(self, merge: bool, cross: str = "classes") -> tuple[Labels, Labels]:
        """The class of each column of both sides."""
        pieces, same = (self.student.pieces, self.teacher.pieces), self.same(merge)
        if cross == "shared_plus_rest":
            return shared_plus_rest(*pieces, same)
        key = hashlib.sha256(
            json.dumps(["first_piece", same, *(side.key for side in (self.student, self.teacher))]).encode()
        )
        return cached(key.hexdigest(), lambda: first_piece(*pieces, (self.student.encode, self.teacher.encode), same))

    def events(self, merge: bool, cross: str = "classes") -> EventSpace:
        """The events that both sides' tokens stand for, and the positions at which they are compared."""
        return event_space(*self.labels(merge, cross), read=self.reader())

    def reader(self) -> Reader:
        """Reads the student's responses for the teacher."""
        return Reader(self.student.pieces, self.teacher.pieces, self.special, self.teacher.encode, self.ends[1][0])

    def measure(self, texts: Sequence[str], merge: bool) -> TwoTokenizers:
        """How well the pair can be compared on some texts, each written by both tokenizers.

        Raises `UserError` if a tokenizer does not keep a text's bytes, or if the two seldom start a token together.
        """
        texts = _first(texts, TEXT)
        for spelling in (self.student, self.teacher):
            prove(spelling, texts)
        labels = self.labels(merge)
        written = self.student.encode([text.encode() for text in texts])
        positions = starts = differ = long = 0
        for ids, reading in zip(written, self.reader().read(written), strict=True):
            at = [np.array(s, dtype=np.int64) for s in reading.starts]
            tokens = np.array(ids)[at[0]], np.array(reading.teacher, dtype=np.int64)[at[1]]
            differ += int((labels[0][tokens[0]] != labels[1][tokens[1]]).sum())
            long += len(reading.long)
            starts += len(at[0])
            positions += len(ids)
        found = TwoTokenizers(
            text_bytes=sum(len(text.encode()) for text in texts),
            positions=positions,
            student_tokens=_spelled(self.student),
            teacher_tokens=_spelled(self.teacher),
            shared=len({*self.student.pieces} & {*self.teacher.pieces} - {None}),
            classes=len(np.unique(labels[0][labels[0] != LEFT_OUT])),
            largest=int(np.bincount(np.concatenate([side[side != LEFT_OUT] for side in labels])).max()),
            common=starts / max(positions, 1),
            disagreement=differ / max(starts, 1),
            chunk_rest=long / max(starts, 1),
        )
        if found.common < LEAST_COMMON:
            raise UserError(
                f"Student and teacher start a token together at only {found.common:.0%} of the student's positions in the "
                f"data's text ({LEAST_COMMON:.0%} are needed); choose a teacher whose tokenizer is closer to the student's."
            )
        return found


def cached(key: str, make: Callable[[], tuple[Labels, Labels]]) -> tuple[Labels, Labels]:
    """Labels that were made before, from the user's cache; made and kept there otherwise."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "esr" / "classes"
    file = home / f"{key}.npz"
    try:
        with np.load(file) as kept:
            return kept["student"], kept["teacher"]
    except (OSError, ValueError, KeyError):
        pass
    made = make()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, suffix=".npz", delete=False) as out:
            np.savez(out, student=made[0], teacher=made[1])
        Path(out.name).replace(file)
    except OSError:
        pass  # a cache that cannot be written is none
    return made


def _first(texts: Sequence[str], limit: int) -> list[str]:
    """Texts from the first on, as many as fit `limit` characters; at least one."""
    kept: list[str] = []
    size = 0
    for text in texts:
        if kept and size + len(text) > limit:
            break
        kept.append(text)
        size += len(text)
    return kept


def _spelled(spelling: Spelling) -> int:
    return sum(piece is not None for piece in spelling.pieces)
