"""Peak memory of a training step, planned (`esr.budget`) and measured, in a process of its own for each setting.

    python bench/memory.py [--student DIR] [--teacher DIR] [--out FILE]

On a CPU the resident set above that of the process before it loads anything counts, on a CUDA device the allocated bytes.
The C library's allocator is told to give back what is freed (MALLOC_MMAP_THRESHOLD_): what it keeps otherwise is its own.
Rollouts are not sampled but made up at their full length, so that every setting does exactly what it says.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SETTINGS: tuple[dict[str, object], ...] = (
    {"rows": 4, "n": 100, "micro": 1024},
    {"rows": 8, "n": 100, "micro": 512},
    {"rows": 8, "n": 100, "micro": 2048, "checkpointing": True},
    {"rows": 2, "n": 400, "micro": 2048},
    {"rows": 4, "n": 100, "micro": 1024, "r": 8},
    {"rows": 2, "n": 100, "micro": 1024, "full": True},
)
PROMPT = 60


ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For the environment of a process whose resident set is to be what it holds."""


def made_up(
    student: str, teacher: str, rows: int, prompt: int, n: int, micro: int, checkpointing: bool = False, **options: Any
) -> tuple[Any, Any]:
    """A distiller, and a batch of rollouts that were not sampled. `options` are keys of `student`."""
    import torch

    from esr.config import Config
    from esr.distill import Distiller
    from esr.method.events import one_vocabulary
    from esr.method.events.positions import same
    from esr.method.tensors import Prompts, Rollout
    from esr.microbatch import Batch
    from esr.models.dropout import seeds
    from esr.models.lm import resolve_device
    from esr.models.load import load_student, load_teacher
    from esr.sampling.sampler import Sampler

    sides = {
        "student": {"model": student, "dtype": "float32", **options},
        "teacher": {"model": teacher, "dtype": "float32"},
    }
    config, device = Config.model_validate({**sides, "data": {"source": "none.jsonl"}}), resolve_device("auto")
    ours = load_student(config.student, device, (2,), 0)
    theirs = load_teacher(config.teacher, ours, device, (2,))
    if checkpointing:
        ours.causal_lm.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    optimizer = torch.optim.AdamW([p for p in ours.module.parameters() if p.requires_grad], lr=1e-4)
    size = min(ours.vocab_size, theirs.vocab_size)
    events, keys = one_vocabulary(size, (0, 2)).to(device), [str(i) for i in range(rows)]
    ids = torch.randint(3, size, (rows, prompt + n), generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.ones_like(ids, dtype=torch.bool)
    prompts = Prompts(ids[:, :prompt], mask[:, :prompt])
    rollout = Rollout(ids[:, prompt:], mask[:, prompt:], torch.ones(rows, dtype=torch.long, device=device))
    noise = torch.rand(rows, n, device=device)
    return (
        Distiller(config, ours, theirs, events, Sampler(n, (2,)), optimizer, micro, print),
        Batch(same(rollout), prompts, prompts, noise, seeds(0, keys).to(device), keys),
    )


def measure(
    student: str, teacher: str, rows: int, n: int, micro: int, checkpointing: bool, r: int, full: bool
) -> dict[str, int]:
    """Bytes planned and measured for two steps, in this process."""
    import esr.train  # noqa: F401  (what is imported is no part of what is measured)
    from esr.distill import gradient, update
    from esr.footprint import footprint
    from esr.meters import PeakMemory, Phases
    from esr.models.lm import resolve_device

    device = resolve_device("auto")
    before = held(device)
    options = {"lora": {"r": r}, "train": "full" if full else "lora"}
    distiller, batch = made_up(student, teacher, rows, PROMPT, n, micro, checkpointing, **options)
    holding = footprint(distiller.student, distiller.teacher, device)
    peak = PeakMemory(device)
    for index in range(2):
        gradient(distiller, batch, index, Phases(device), micro)
        update(distiller, 1e-4)
    tokens = min(micro, rows * (PROMPT + n)) // (PROMPT + n) * (PROMPT + n)
    fixed = holding.student.weights + holding.teacher.weights + holding.optimizer
    planned = fixed + holding.micro_batch(tokens, tokens * n // (PROMPT + n), checkpointing)
    return {"planned": planned, "measured": int(peak.gib() * 2**30) - before}


def held(device) -> int:  # type: ignore[no-untyped-def]
    """Bytes that the process holds already."""
    if device.type == "cuda":
        return 0
    import psutil

    return int(psutil.Process().memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="models/smollm2/student")
    parser.add_argument("--teacher", default="models/smollm2/teacher")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setting:
        print(
            json.dumps(
                measure(args.student, args.teacher, **{"checkpointing": False, "r": 32, "full": False, **args.setting})
            )
        )
        return
    results = []
    print(f"{'setting':58}{'planned':>10}{'measured':>10}{'ratio':>8}")
    for setting in SETTINGS:
        command = [sys.executable, str(Path(__file__)), "--student", args.student, "--teacher", args.teacher]
        done = subprocess.run(
            [*command, "--setting", json.dumps(setting)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, **ALLOCATOR},
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        results.append({"setting": setting, **found})
        text = ", ".join(f"{key} {value}" for key, value in setting.items())
        cells = [f"{found[key] / 2**30:.2f} GiB" for key in ("planned", "measured")]
        print(f"{text:58}{cells[0]:>10}{cells[1]:>10}{found['planned'] / found['measured']:8.2f}", flush=True)
    if args.out:
        args.out.write_text(json.dumps({"prompt": PROMPT, "settings": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
