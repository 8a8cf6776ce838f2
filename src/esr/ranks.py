"""The processes of one run (*ranks*): which of them this is, and what they know and decide together.

A launcher (`accelerate launch`, `torchrun`) starts the same command in each process and says in the environment how many
there are. Without one there is a single rank, nothing of `torch.distributed` is started, and every operation here gives
back what it was given. All ranks call the same operations in the same order; rank 0 alone writes files. torch is loaded where
there are several.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from esr.console import console, say
from esr.errors import RunStopped

if TYPE_CHECKING:
    from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")
PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another: longer than a batch of an evaluation takes."""


class RankLost(RunStopped):
    """The connection to another rank broke, or it did not answer in time."""

    common = False

    def __init__(self) -> None:
        super().__init__(
            "Another process of this run has ended or does not answer, so this one ends too. What was saved is kept; the same "
            "command goes on from there, with as many processes or another number."
        )


class Ranks:
    """One of `world` processes, number `rank`."""

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part; all parts in the order of the ranks are the whole, in its order."""
        return items[len(items) * self.rank // self.world : len(items) * (self.rank + 1) // self.world]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order. They are pickled; tensors in them should be on the CPU."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[T] = [value] * self.world
        with answering():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, value: T | None) -> T:
        """Rank 0's value; the others' does not count."""
        return self.gather(value if self.first else None)[0]  # type: ignore[return-value]

    def vote(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        return any(self.gather(mine))

    def together(self, work: Callable[[], T], shared: type[Exception] = Exception) -> T:
        """`work()`, with one outcome for all: a `shared` error on a rank is raised on every rank (that of the lowest rank).

        Ranks must not speak to each other in it, unless all they do there comes before a shared error.
        """
        if self.world == 1:
            return work()
        error: Exception | None = None
        try:
            result = work()
        except shared as caught:
            error = caught
        raised = [other for other in self.gather(_sendable(error)) if other is not None]
        if raised:
            raised[0].common = True  # type: ignore[attr-defined]
            raise raised[0] from error
        return result

    def dealt(self, items: Sequence[S], work: Callable[[S], T]) -> Iterator[T]:
        """`work` of each item, in their order. The ranks take the items in turn, and every rank gets all that they made.

        Alone, an item is worked on when its result is asked for. As in `together`, ranks do not speak to each other in `work`.
        """
        for start in range(0, len(items), self.world):
            mine = items[start : start + self.world][self.rank : self.rank + 1]
            for made in self.gather(self.together(lambda mine=mine: [work(item) for item in mine])):  # type: ignore[misc]
                yield from made

    def add(self, tensors: "Iterable[Tensor]") -> None:
        """Replace each tensor by its sum over the ranks, in one message. All ranks have the same shapes."""
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        whole = list(tensors)
        flat = torch.cat([t.detach().float().flatten() for t in whole])
        with answering():
            dist.all_reduce(flat)
        for tensor, total in zip(whole, flat.split([t.numel() for t in whole]), strict=True):
            tensor.detach().copy_(total.view_as(tensor))


def _sendable(error: Exception | None) -> Exception | None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raise `RankLost` if another rank closes its connection, or does not answer in time."""
    try:
        yield
    except RuntimeError as error:
        import torch.distributed as dist

        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RankLost from error
        raise


_HERE = Ranks()


def here() -> Ranks:
    """The ranks that this process is one of: alone, unless it was `joined`."""
    return _HERE


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside this, the processes that a launcher started belong together. Rank 0 speaks for all."""
    global _HERE
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend, timeout=PATIENCE)
    _HERE = Ranks(dist.get_rank(), dist.get_world_size())
    if _HERE.first:
        say(f"{_HERE.world} processes work together.")
    else:
        console.quiet = True
        sys.stdout = open(os.devnull, "w")
    try:
        yield
    finally:
        _HERE = Ranks()
