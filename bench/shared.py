"""Scoring and training on 8 samples of one prompt, the prompt passed once or once for each sample.

    python bench/shared.py [--student DIR] [--teacher DIR] [--samples 8] [--n 50] [--prompt 150] [--repeats 5] [--out FILE]

Both ways run in a process of their own for the memory, and interleaved in one process for the seconds, of which medians and the
median of the ratios of neighbours are given. Rollouts are made up at their full length. Memory is the peak of the resident set
above what the process held with both models loaded.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clock import machine
from memory import ALLOCATOR, held, made_up

WAYS = ("shared", "own")


@contextmanager
def way(name: str) -> Iterator[None]:
    """Prompts shared, as usual, or in rows of their own."""
    from esr import distill, scoring

    usual = scoring.shares_prompts
    if name == "own":
        scoring.shares_prompts = distill.shares_prompts = lambda lm: False
    try:
        yield
    finally:
        scoring.shares_prompts = distill.shares_prompts = usual


def open_up(args: argparse.Namespace) -> Any:
    """A distiller, and a batch of samples of one prompt."""
    from dataclasses import replace

    from esr.method.tensors import Prompts

    distiller, batch = made_up(args.student, args.teacher, args.samples, args.prompt, args.n, micro=10**6)
    same = [0] * args.samples
    prompts = Prompts(batch.student_prompts.ids[same], batch.student_prompts.mask[same])
    drops = batch.dropout.clone()
    drops[:, 0] = drops[0, 0]
    return distiller, replace(batch, student_prompts=prompts, teacher_prompts=prompts, dropout=drops)


def gradient(distiller: Any, batch: Any) -> tuple[dict[str, float], Any]:
    """Seconds of scoring and training, and the gradient."""
    import torch

    from esr.distill import gradient
    from esr.meters import Phases

    phases = Phases(distiller.student.device)
    gradient(distiller, batch, 0, phases, 10**6)
    grad = torch.cat([p.grad.flatten() for p in distiller.student.module.parameters() if p.grad is not None])
    distiller.optimizer.zero_grad(set_to_none=True)
    return {name: phases.seconds[name] for name in ("score", "train")}, grad


def peak(args: argparse.Namespace) -> int:
    """Bytes above the loaded models, one way, in this process."""
    from esr.meters import PeakMemory

    distiller, batch = open_up(args)
    with way(args.way):
        from esr import scoring

        scoring.shares_prompts(distiller.student), scoring.shares_prompts(distiller.teacher)
        before, meter = held(distiller.student.device), PeakMemory(distiller.student.device)
        gradient(distiller, batch)
    return int(meter.gib() * 2**30) - before


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, and their gradients compared."""
    distiller, batch = open_up(args)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    grads = {}
    for repeat in range(args.repeats + 1):
        for name in WAYS if repeat % 2 else reversed(WAYS):
            with way(name):
                found, grads[name] = gradient(distiller, batch)
            if repeat:
                seconds[name].append(found)
    a, b = (grads[name].double() for name in WAYS)
    ratios = {
        phase: [theirs[phase] / ours[phase] for ours, theirs in zip(seconds["shared"], seconds["own"], strict=True)]
        for phase in ("score", "train")
    }
    return {
        "seconds": {
            name: {phase: statistics.median(r[phase] for r in rows) for phase in ("score", "train")}
            for name, rows in seconds.items()
        },
        "ratio": {phase: statistics.median(values) for phase, values in ratios.items()},
        "ratios": ratios,
        "gradient_cosine": float(a @ b / (a.norm() * b.norm())),
        "gradient_difference": float((a - b).abs().max() / b.abs().max()),
        "tokens": {
            "shared": args.prompt + args.samples * (args.n - 1),
            "own": args.samples * (args.prompt + args.n - 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="models/smollm2/student")
    parser.add_argument("--teacher", default="models/smollm2/teacher")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--prompt", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(peak(args))
        return
    record = {"machine": machine()} | {key: getattr(args, key) for key in ("samples", "n", "prompt", "repeats")}
    record |= measure(args)
    environment = {**os.environ, **ALLOCATOR}
    record["peak_bytes"] = {
        name: int(subprocess.check_output([sys.executable, *sys.argv, "--way", name], env=environment).split()[-1])
        for name in WAYS
    }
    print(json.dumps(record, indent=1))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
