"""Peak memory of a training step, planned (`esr.budget`) and measured, in a process of its own for each setting.

    python bench/memory.py [--student DIR] [--teacher DIR] [--out FILE]

On a CPU the resident set above that of the process before it loads anything counts, on a CUDA device the allocated bytes.
The C library's allocator is told to give back what is freed (MALLOC_MMAP_THRESHOLD_): what it keeps otherwise is its own.
Rollouts are not sampled but made up at their full length, so that every setting does exactly what it says. One setting, in which little
but the weights is held, is measured with the teacher beside the student and with an offloaded one: peak, and the loss of both steps.
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
OFFLOADED: dict[str, object] = {"rows": 2, "n": 16, "micro": 1024, "checkpointing": True}
PROMPT = 60


ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For the environment of a process whose resident set is to be what it holds."""


def made_up(
    student: str,
    teacher: str,
    rows: int,
    prompt: int,
    n: int,
    micro: int,
    checkpointing: bool = False,
    placement: str = "same",
    **options: Any,
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
        "teacher": {"model": teacher, "dtype": "float32", "placement": placement},
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
    student: str, teacher: str, rows: int, n: int, micro: int, checkpointing: bool, r: int, full: bool, placement: str
) -> dict[str, Any]:
    """Bytes planned and measured for two steps, in this process, with the steps' losses and the weights' bytes."""
    import esr.train  # noqa: F401  (what is imported is no part of what is measured)
    from esr.budget import Placed
    from esr.budget.footprint import footprint
    from esr.distill import gradient, update
    from esr.meters import PeakMemory, Phases
    from esr.models.lm import resolve_device

    device = resolve_device("auto")
    before = held(device)
    options = {"lora": {"r": r}, "train": "full" if full else "lora"}
    distiller, batch = made_up(student, teacher, rows, PROMPT, n, micro, checkpointing, placement, **options)
    holding = footprint(distiller.student, distiller.teacher, device)
    peak, losses = PeakMemory(device), []
    for index in range(2):
        losses.append(gradient(distiller, batch, index, Phases(device), micro).loss)
        update(distiller, 1e-4)
    tokens = min(micro, rows * (PROMPT + n)) // (PROMPT + n) * (PROMPT + n)
    weights = {"student": holding.student.weights, "teacher": holding.teacher.weights}
    fixed = weights["student"] + Placed(placement).teacher_bytes(holding.teacher) + holding.optimizer  # type: ignore[arg-type]
    planned = fixed + holding.micro_batch(tokens, tokens * n // (PROMPT + n), checkpointing)
    return {"planned": planned, "measured": int(peak.gib() * 2**30) - before, "losses": losses, "weights": weights}


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
        usual = {"checkpointing": False, "r": 32, "full": False, "placement": "same"}
        print(json.dumps(measure(args.student, args.teacher, **{**usual, **args.setting})))
        return
    print(f"{'setting':72}{'planned':>10}{'measured':>10}{'ratio':>8}")
    settings = [in_a_process(args, setting) for setting in SETTINGS]
    placements = [in_a_process(args, {**OFFLOADED, "placement": where}) for where in ("same", "offloaded")]
    if args.out:
        kept = [{key: s[key] for key in ("setting", "planned", "measured")} for s in settings]
        record = {"prompt": PROMPT, "settings": kept, "placements": placements}
        args.out.write_text(json.dumps(record, indent=1) + "\n")


def in_a_process(args: argparse.Namespace, setting: dict[str, object]) -> dict[str, Any]:
    """What `measure` finds in a setting, which is printed."""
    command = [sys.executable, str(Path(__file__)), "--student", args.student, "--teacher", args.teacher]
    environment = {**os.environ, **ALLOCATOR}
    run = [*command, "--setting", json.dumps(setting)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    text = ", ".join(f"{key} {value}" for key, value in setting.items())
    cells = [f"{found[key] / 2**30:.2f} GiB" for key in ("planned", "measured")]
    print(f"{text:72}{cells[0]:>10}{cells[1]:>10}{found['planned'] / found['measured']:8.2f}", flush=True)
    return {"setting": setting, **found}


if __name__ == "__main__":
    main()
