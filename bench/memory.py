"""Peak memory of a training step, planned (`esr.budget`) and measured, in a process of its own for each setting.

    python bench/memory.py [--student DIR] [--teacher DIR]

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

SETTINGS: tuple[dict[str, object], ...] = (
    {"rows": 4, "n": 100, "micro": 1024},
    {"rows": 8, "n": 100, "micro": 512},
    {"rows": 8, "n": 100, "micro": 2048, "checkpointing": True},
    {"rows": 2, "n": 400, "micro": 2048},
    {"rows": 4, "n": 100, "micro": 1024, "r": 8},
    {"rows": 2, "n": 100, "micro": 1024, "full": True},
)
PROMPT = 60


def measure(
    student: str, teacher: str, rows: int, n: int, micro: int, checkpointing: bool, r: int, full: bool
) -> dict[str, int]:
    """Bytes planned and measured for one step, in this process."""
    import torch

    from esr.config import Config
    from esr.distill import Distiller, gradient, update
    from esr.footprint import footprint
    from esr.meters import PeakMemory, Phases
    from esr.method.events import one_vocabulary
    from esr.method.events.positions import same
    from esr.method.tensors import Prompts, Rollout
    from esr.microbatch import Batch
    from esr.models.dropout import seeds
    from esr.models.lm import resolve_device
    from esr.models.load import load_student, load_teacher
    from esr.sampling.sampler import Sampler

    tree = {
        "student": {"model": student, "lora": {"r": r}, "train": "full" if full else "lora"},
        "teacher": {"model": teacher}, "data": {"source": "none.jsonl"},
    }  # fmt: skip
    config = Config.model_validate(tree)
    device = resolve_device("auto")
    before = held(device)
    ours = load_student(config.student, device, (2,), 0)
    theirs = load_teacher(config.teacher, ours, device, (2,))
    holding = footprint(ours, theirs, device)
    if checkpointing:
        ours.causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in ours.module.parameters() if p.requires_grad], lr=1e-4)
    size = min(ours.vocab_size, theirs.vocab_size)
    events, keys = one_vocabulary(size, (0, 2)).to(device), [str(i) for i in range(rows)]
    distiller = Distiller(config, ours, theirs, events, Sampler(n, (2,)), optimizer, micro, print)
    ids = torch.randint(3, size, (rows, PROMPT + n), device=device)
    mask = torch.ones_like(ids, dtype=torch.bool)
    prompts = Prompts(ids[:, :PROMPT], mask[:, :PROMPT])
    rollout = Rollout(ids[:, PROMPT:], mask[:, PROMPT:], torch.ones(rows, dtype=torch.long, device=device))
    batch = Batch(same(rollout), prompts, prompts, torch.rand(rows, n, device=device), seeds(0, keys).to(device), keys)
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
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setting:
        print(
            json.dumps(
                measure(args.student, args.teacher, **{"checkpointing": False, "r": 32, "full": False, **args.setting})
            )
        )
        return
    print(f"{'setting':58}{'planned':>10}{'measured':>10}{'ratio':>8}")
    for setting in SETTINGS:
        command = [sys.executable, str(Path(__file__)), "--student", args.student, "--teacher", args.teacher]
        done = subprocess.run(
            [*command, "--setting", json.dumps(setting)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        text = ", ".join(f"{key} {value}" for key, value in setting.items())
        cells = [f"{found[key] / 2**30:.2f} GiB" for key in ("planned", "measured")]
        print(f"{text:58}{cells[0]:>10}{cells[1]:>10}{found['planned'] / found['measured']:8.2f}", flush=True)


if __name__ == "__main__":
    main()
