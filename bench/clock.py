"""The clock of benches that compare: seconds of the processor on a CPU, so that other work on the machine does not count."""

import time

import torch

from esr.meters import Phases


def now() -> float:
    """Seconds: of this process on a CPU (meant for one thread), of the wall on a CUDA device once it has nothing left to do."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Seconds(Phases):
    """The phases of a step by this clock."""

    def _now(self) -> float:
        return now()
