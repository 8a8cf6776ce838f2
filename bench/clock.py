"""The clock of benches that compare: seconds of the processor on a CPU, so that other work on the machine does not count. And
what a record says of the machine."""

import os
import time
from typing import Any

import torch

from esr.meters import Phases


def now() -> float:
    """Seconds: of this process on a CPU (meant for one thread), of the wall on a CUDA device once it has nothing left to do."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> dict[str, Any]:
    """Cores, the instructions that torch's kernels use, and how many processes were computing in the last minute."""
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"cores": os.cpu_count(), "kernels": kernels, "load": os.getloadavg()[0]}


class Seconds(Phases):
    """The phases of a step by this clock."""

    def _now(self) -> float:
        return now()
