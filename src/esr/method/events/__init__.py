"""One event space for student and teacher: what a "next event" is, so that their distributions can be compared.

An event is a token, with amendments. Vocabularies that agree but for padding are cut to the common size and renormalised.
All tokens that end a turn, for either model, are one event (*merged terminators*): a base student that stops with one
token and a teacher that stops with another mean the same thing, and a plain KL would punish every stop with tens of nats.
Different vocabularies are compared over classes of tokens (`classes`). In all cases each side has its own map from logits
to events, and an event is called by the first of the student's tokens in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from esr.method.events.classes import LEFT_OUT, Labels
from esr.method.events.positions import Positions, same
from esr.method.tensors import Rollout

IMPOSSIBLE = -1e4
"""Log-probability of an event that no longer exists: finite, and exactly zero as a float32 probability."""


@dataclass(frozen=True)
class Merged:
    """Events of several columns each."""

    events: Tensor
    """(n,) their names."""
    columns: Tensor
    """(n, w) the members of each."""
    padding: Tensor | None
    """(n, w) True where there are fewer members; None if nowhere."""

    def masses(self, logp: Tensor) -> Tensor:
        """(..., V) log-probabilities of columns to (..., n) of events: the members' probabilities summed."""
        members = logp.index_select(-1, self.columns.flatten()).unflatten(-1, self.columns.shape)
        if self.padding is not None:
            members = members.masked_fill(self.padding, IMPOSSIBLE)
        return members.logsumexp(-1)

    def to(self, device: torch.device) -> "Merged":
        padding = None if self.padding is None else self.padding.to(device)
        return Merged(self.events.to(device), self.columns.to(device), padding)


@dataclass(frozen=True)
class Side:
    """How one model's logits become log-probabilities of events."""

    size: int
    """Columns from this one on are left out."""
    names: Tensor
    """(size,) the event that each column belongs to."""
    left_out: Tensor | None = None
    """Further columns that are left out; the others are renormalised."""
    order: Tensor | None = None
    """(E,) the column of each event of one column; None: event e is column e."""
    absent: Tensor | None = None
    """Events that are no event of one column: of several, or names that stand for nothing."""
    merged: tuple[Merged, ...] = ()

    def log_probs(self, logits: Tensor) -> Tensor:
        """(..., V) logits to (..., E) log-probabilities of events, in float32 (float64 stays).

        A merged event's probability is the sum of its members' (a logsumexp); a name without an event is `IMPOSSIBLE`.
        """
        return self.events(self.token_log_probs(logits))

    def token_log_probs(self, logits: Tensor) -> Tensor:
        """(..., V) logits to (..., size) log-probabilities of tokens, renormalised over the columns that are compared."""
        logits = logits[..., : self.size]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.left_out is not None:
            logits = logits.index_fill(-1, self.left_out, -torch.inf)
        return torch.log_softmax(logits, dim=-1)

    def events(self, logp: Tensor) -> Tensor:
        """(..., size) log-probabilities of tokens to (..., E) of events."""
        out = logp if self.order is None else logp.index_select(-1, self.order)
        if self.absent is not None:
            out = out.index_fill(-1, self.absent, IMPOSSIBLE)
        for group in self.merged:
            out = out.index_copy(-1, group.events, group.masses(logp))
        return out

    def event_of(self, token_ids: Tensor) -> Tensor:
        """The event that each token id belongs to (same shape). An id that is left out belongs to none and gets any."""
        return self.names[token_ids.clamp(max=self.size - 1)]

    def to(self, device: torch.device) -> "Side":
        left_out, order, absent = (
            None if t is None else t.to(device) for t in (self.left_out, self.order, self.absent)
        )
        merged = tuple(group.to(device) for group in self.merged)
        return Side(self.size, self.names.to(device), left_out, order, absent, merged)


@dataclass(frozen=True)
class EventSpace:
    """Both sides' maps to the same events, and the map of positions at which they are compared."""

    size: int
    """Names of events: the columns of the student that are compared."""
    student: Side
    teacher: Side
    read: Callable[[Rollout], Positions] = same
    """A student's rollout as the teacher reads it. With one vocabulary: the sampled tokens themselves, each a position."""

    def to(self, device: torch.device) -> "EventSpace":
        return replace(self, student=self.student.to(device), teacher=self.teacher.to(device))


def one_vocabulary(size: int, terminators: Sequence[int] = ()) -> EventSpace:
    """The events of two models with the same tokens: the first `size` columns of both, `terminators` being one event."""
    labels = np.arange(size)
    labels[list(terminators)] = min(terminators, default=0)
    return event_space(labels, labels)


def event_space(student: Labels, teacher: Labels, read: Callable[[Rollout], Positions] = same) -> EventSpace:
    """The events of two models whose columns have these classes; a class has members on both sides."""
    known = np.unique(student[student != LEFT_OUT])
    first = np.full(int(known.max()) + 1, LEFT_OUT)
    ids = np.arange(len(student))[::-1]
    first[student[ids][student[ids] != LEFT_OUT]] = ids[student[ids] != LEFT_OUT]
    names = [np.where(side == LEFT_OUT, LEFT_OUT, first[side]) for side in (student, teacher)]
    size = _end(names[0])
    return EventSpace(size, _side(names[0], size), _side(names[1], size), read)


def _side(names: Labels, events: int) -> Side:
    """The map of one side, whose columns belong to these events."""
    size = _end(names)
    names = names[:size]
    left_out = np.flatnonzero(names == LEFT_OUT)
    compared = np.flatnonzero(names != LEFT_OUT)
    members = np.bincount(names[compared], minlength=events)
    alone = compared[members[names[compared]] == 1]
    order = np.zeros(events, dtype=np.int64)
    order[names[alone]] = alone
    absent = np.flatnonzero(members != 1)
    same = size == events and np.array_equal(order[members == 1], np.flatnonzero(members == 1))
    return Side(
        size,
        torch.from_numpy(np.maximum(names, 0)),
        _tensor(left_out),
        None if same else torch.from_numpy(order),
        _tensor(absent),
        _merged(names, members),
    )


def _merged(names: Labels, members: Labels) -> tuple[Merged, ...]:
    """Events of several columns, in groups of at most twice the width that their members need."""
    by_event = np.argsort(names, kind="stable")
    start = np.searchsorted(names[by_event], np.arange(len(members)))
    groups, width = [], 2
    while width // 2 < members.max(initial=0):
        events = np.flatnonzero((members > max(width // 2, 1)) & (members <= width))
        if len(events):
            wide = np.arange(members[events].max())
            there = wide < members[events][:, None]
            columns = np.where(there, by_event[np.minimum(start[events][:, None] + wide, len(names) - 1)], 0)
            groups.append(
                Merged(
                    torch.from_numpy(events),
                    torch.from_numpy(columns),
                    None if there.all() else torch.from_numpy(~there),
                )
            )
        width *= 2
    return tuple(groups)


def _end(names: Labels) -> int:
    """Columns up to the last that is compared."""
    return int(np.flatnonzero(names != LEFT_OUT).max()) + 1


def _tensor(values: Labels) -> Tensor | None:
    return torch.from_numpy(values) if len(values) else None
