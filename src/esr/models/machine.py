"""The machine that torch computes on: how many threads, and what its processor can do."""

import contextlib
from collections.abc import Iterator

import torch

from esr.runs.environment import Machine


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with `number` threads inside this, since sums on a CPU depend on it; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device) -> Machine:
    """The present one."""
    return Machine(str(device), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
