"""What numbers depend on besides the configuration: versions, revision, machine. No torch here."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from esr import __version__
from esr.records.base import FORMAT_VERSION
from esr.runs.files import read_json, write_json

PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "datasets", "math-verify", "reasoning-gym", "numpy",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime",
)  # fmt: skip
EXACT = ("torch", "transformers", "peft")
"""Packages another version of which may round sums in another way."""


@dataclass(frozen=True)
class Machine:
    """What torch computes on."""

    device: str
    threads: int | None = None
    """Of a CPU's computation."""
    processor: str | None = None
    """What torch's kernels use of the CPU, such as `AVX2`."""
    auto: str | None = None
    """What `dtype: auto` means there, such as `float32`."""


def environment(machine: Machine) -> dict[str, Any]:
    """What the numbers depend on besides the configuration."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "format_version": FORMAT_VERSION,
        "esr": __version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **asdict(machine),
        "gpus": _gpus() if machine.device.startswith("cuda") else [],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": versions,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def inexact(first: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two environments differ in that changes the rounding of sums, such as `threads 1 -> 2`; "" for nothing.

    What the first does not know is left out.
    """
    before, after = _rounding(first), _rounding(now)
    return ", ".join(f"{k} {v} -> {after[k]}" for k, v in before.items() if v is not None and v != after[k])


def _rounding(found: Mapping[str, Any]) -> dict[str, Any]:
    device, packages = str(found.get("device", "")).partition(":")[0], found.get("packages", {})
    own = {"device": device or None, "threads": found.get("threads"), "processor": found.get("processor")}
    own["dtype auto"] = found.get("auto")
    return own | {name: packages.get(name) for name in EXACT}


def _gpus() -> list[str]:
    """Name, driver and memory of each NVIDIA card, as its own tool states them."""
    ask = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []


def note_left_out(file: Path, rows: Mapping[str, int]) -> None:
    """Add to `env.json` how many rows of the training data are no prompts, by reason."""
    if rows:
        write_json(file, {**read_json(file), "left_out": dict(rows)})


def _git_revision() -> str | None:
    """Revision of the source tree that `esr` runs from, `+` if it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None
