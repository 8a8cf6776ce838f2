"""The responses that are being written at the moment: one a row, all at the same column of one cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from esr.sampling.cache import keep_columns, replace_rows
from esr.sampling.fixed import FixedCache
from esr.sampling.graphs import Graphs
from esr.sampling.sampler import Sampler, choose, draw


@dataclass(frozen=True)
class Status:
    """What the host is told at once: by row whether it is being written, ended with a terminator, and how long it is."""

    live: list[bool]
    ended: list[bool]
    lengths: list[int]
    missed: bool
    """A nucleus was wider than its candidates, so that tokens since the last status are wrong."""


class Slots:
    """Rows for responses. The tensors keep their addresses, whatever is written in them; `rows` of them are in use."""

    def __init__(
        self, rows: int, columns: int, sampler: Sampler, cache: DynamicCache | FixedCache, device: torch.device
    ):
        number = {"dtype": torch.long, "device": device}
        truth = {"dtype": torch.bool, "device": device}
        self.whole = {
            "token": torch.zeros(rows, 1, **number),  # type: ignore[call-overload]
            "position": torch.zeros(rows, 1, **number),  # type: ignore[call-overload]
            "length": torch.zeros(rows, **number),  # type: ignore[call-overload]
            "live": torch.zeros(rows, **truth),  # type: ignore[call-overload]
            "ended": torch.zeros(rows, **truth),  # type: ignore[call-overload]
            "ids": torch.zeros(rows, sampler.max_new_tokens, **number),  # type: ignore[call-overload]
            "uniform": torch.zeros(rows, sampler.max_new_tokens, device=device),
            "mask": torch.zeros(rows, columns, **truth),  # type: ignore[call-overload]
        }
        self.sampler, self.cache = sampler, cache
        self.stops = torch.tensor(sampler.terminators, device=device)
        self.limit = torch.tensor(sampler.max_new_tokens, device=device)
        self.missed = torch.zeros((), dtype=torch.bool, device=device)
        self.graphs = Graphs(device, "The model")
        self.owner: list[int | None] = [None] * rows
        """Which response each row writes; None: nothing that is still wanted."""
        self.start = [0] * rows
        """The column at which each row's prompt begins."""
        self.written = [0] * rows
        """How many tokens each row had when the host was last told."""
        self.column = 0
        """Columns in use; all rows write the next one."""
        self.use(rows, columns)

    def use(self, rows: int, columns: int) -> None:
        """Take part with the first rows, and of a fixed cache the first columns, only."""
        self.rows, self.columns = rows, columns
        self.token, self.position, self.length = (self.whole[name][:rows] for name in ("token", "position", "length"))
        self.live, self.ended = self.whole["live"][:rows], self.whole["ended"][:rows]
        self.ids, self.uniform = self.whole["ids"][:rows], self.whole["uniform"][:rows]
        self.mask = self.whole["mask"][:rows, :columns]
        if isinstance(self.cache, FixedCache):
            self.cache.use(rows, columns)

    @property
    def capacity(self) -> int:
        """Columns that there is room for."""
        return self.whole["mask"].shape[1]

    @property
    def fixed(self) -> bool:
        return isinstance(self.cache, FixedCache)

    def seen(self) -> Tensor:
        """(rows, columns) what each row may attend to, the column that is written now included."""
        if isinstance(self.cache, FixedCache):
            self.mask.index_fill_(1, self.cache.column.view(1), True)
            return self.mask
        self.mask[:, self.column] = True
        return self.mask[:, : self.column + 1]

    def take(self, logits: Tensor, wide: bool) -> None:
        """Draw every row's next token from (rows, V) logits, and write down those of the rows that are live."""
        place = self.length.clamp(max=self.ids.shape[1] - 1)[:, None]
        uniform = self.uniform.gather(1, place).squeeze(1)
        if self.fixed:
            token, right = draw(logits, uniform, self.sampler, wide)
            self.missed.logical_or_((self.live & ~right).any())
        else:
            token = choose(logits, uniform, self.sampler)
        self.token.copy_(token[:, None])
        self.ids.scatter_(1, place, torch.where(self.live[:, None], self.token, self.ids.gather(1, place)))
        stopped = (self.token == self.stops).any(1) & self.live
        self.length.add_(self.live)
        self.ended.logical_or_(stopped)
        self.live.logical_and_(~stopped & (self.length < self.limit))

    def status(self) -> Status:
        """Ask the device: the one time that the host waits for it."""
        told = torch.cat([self.live.long(), self.ended.long(), self.length, self.missed.long()[None]]).tolist()
        n = self.rows
        return Status(
            [bool(x) for x in told[:n]], [bool(x) for x in told[n : 2 * n]], told[2 * n : 3 * n], bool(told[-1])
        )

    def marks(self) -> list[Tensor]:
        """What `go_back` needs to undo the steps that follow, with a fixed cache."""
        own = [self.whole[name] for name in ("token", "position", "length", "live", "ended", "mask")]
        return [t.clone() for t in (*own, self.cache.column)]  # type: ignore[union-attr]

    def go_back(self, marks: list[Tensor], column: int) -> None:
        """Undo the steps since `marks`, when `column` columns were in use."""
        own = [self.whole[name] for name in ("token", "position", "length", "live", "ended", "mask")]
        for tensor, before in zip((*own, self.cache.column), marks, strict=True):  # type: ignore[union-attr]
            tensor.copy_(before)
        self.missed.fill_(False)
        self.column = column

    def replace(self, rows: Sequence[int], new: "Slots") -> None:
        """Put the rows of `new`, whose prompts take no more columns than are in use, in the place of the given ones."""
        at = torch.tensor(rows, device=self.live.device)
        first = self.column - new.column
        for name, given in new.whole.items():
            into = self.whole[name]
            if name == "mask":
                given = torch.nn.functional.pad(given[:, : new.column], (first, into.shape[1] - self.column))
            into[:, : given.shape[1]].index_copy_(0, at, given) if given.dim() > 1 else into.index_copy_(0, at, given)
        if isinstance(self.cache, FixedCache):
            self.cache.replace_rows(at, new.cache, self.column)  # type: ignore[arg-type]
        else:
            replace_rows(self.cache, at, new.cache)  # type: ignore[arg-type]
        for row, owner, start, written in zip(rows, new.owner, new.start, new.written, strict=True):
            self.owner[row], self.start[row], self.written[row] = owner, start + first, written

    def keep(self, rows: Sequence[int], room: int) -> None:
        """The given rows become the first ones, of `room` that stay in use."""
        at = torch.tensor(rows, device=self.live.device)
        for tensor in self.whole.values():
            tensor[: len(rows)] = tensor.index_select(0, at)
        if isinstance(self.cache, FixedCache):
            self.cache.keep_rows(at)
        else:
            self.cache.reorder_cache(at)
        self.whole["live"][len(rows) : room] = False
        self.owner = [self.owner[row] for row in rows] + [None] * (room - len(rows))
        self.start = [self.start[row] for row in rows] + [self.column] * (room - len(rows))
        self.written = [self.written[row] for row in rows] + [0] * (room - len(rows))
        self.use(room, self.columns)

    def forget(self, count: int) -> None:
        """Forget the first `count` columns, which no row needs any more."""
        mask = self.whole["mask"]
        mask[:, : self.column - count] = mask[:, count : self.column].clone()
        mask[:, self.column - count :] = False
        if isinstance(self.cache, FixedCache):
            self.cache.keep_columns(count, self.column)
        else:
            keep_columns(self.cache, self.column - count)
        self.column -= count
        self.start = [max(0, start - count) for start in self.start]


@dataclass(frozen=True)
class Response:
    """One response that has ended: its place among all, its tokens, and whether a terminator ended it."""

    index: int
    ids: Tensor
    finished: bool
