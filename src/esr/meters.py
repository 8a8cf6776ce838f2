"""Seconds per phase and true peak memory."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

PHASES = ("sync", "generate", "score", "train")


class Phases:
    """Wall-clock seconds of named phases; they never overlap."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.seconds[name] += self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class PeakMemory:
    """The highest memory since it was made: allocated bytes on CUDA, resident set of the process on a CPU."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def gib(self) -> float:
        """GiB. Where the kernel cannot reset the resident peak, it is that of the whole process so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return resident_peak() / 2**30


def resident_peak() -> int:
    """Bytes: peak resident set since the last reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024
