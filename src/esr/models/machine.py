"""The machine that torch computes on: how many threads, what its processor can do, and the type of numbers that suits it."""

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


def bfloat16_units() -> bool:
    """Whether the processor multiplies bfloat16 (AVX512-BF16 or AMX). Without such units it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def auto_dtype(device: torch.device) -> torch.dtype:
    """What `dtype: auto` means on a device: the fastest type that trains."""
    if device.type == "cpu":
        return torch.bfloat16 if bfloat16_units() else torch.float32
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16
    return torch.bfloat16


def machine(device: torch.device) -> Machine:
    """The present one."""
    auto = str(auto_dtype(device)).removeprefix("torch.")
    return Machine(str(device), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), auto)
