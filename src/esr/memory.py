"""Running out of memory: noticed whatever raised it, and survived by doing the same work in halves."""

import gc
from collections.abc import Callable
from typing import Protocol, TypeVar
from weakref import WeakSet

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from esr.console import say
from esr.errors import OutOfMemory

R = TypeVar("R")
SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "Cannot allocate memory")
"""In messages of errors that are none of the types made for it."""


class Spare(Protocol):
    """Something that is kept to save time, and can be given up."""

    def drop(self) -> None: ...


SPARE: WeakSet[Spare] = WeakSet()
"""What `release` gives up."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the host ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and (
        any(sign in str(error) for sign in SIGNS) or (isinstance(error, Exception) and should_reduce_batch_size(error))
    )


def release() -> None:
    """Give back what a failed attempt still holds: the graph in the backward engine's queue, cycles, cached blocks; and `SPARE`."""
    for spare in SPARE:
        spare.drop()
    with torch.enable_grad():
        torch.zeros((), requires_grad=True).mul(1).backward()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_halves(work: Callable[[Tensor], R], rows: Tensor, what: str, unit: str = "response") -> list[R]:
    """`work(rows)`; where memory runs out, the same for each half of the rows, and so on. Results in the order of the rows.

    `work` must give each row the same whatever it is worked on with. Raises `OutOfMemory` if a single row does not fit.
    """
    try:
        return [work(rows)]
    except (RuntimeError, MemoryError, OSError) as error:
        if not out_of_memory(error):
            raise
    release()
    if len(rows) == 1:
        raise OutOfMemory(
            f"Out of memory while {what}, with a single {unit}; allow fewer new tokens or use a smaller model."
        )
    say(f"Out of memory while {what}, {len(rows)} {unit}s at once; done again in halves.")
    return [result for half in rows.tensor_split(2) for result in in_halves(work, half, what, unit)]
