"""One piece of bench/gpu/run.py: a step of one pair at one length, in this process. Prints one JSON line.

python bench/gpu/piece.py STUDENT TEACHER N [--tiny]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from esr import budget
from esr.budget.footprint import footprint
from esr.config import Config
from esr.distill import Distiller, PromptPair, step
from esr.meters import resident_peak
from esr.method.events import event_space
from esr.method.events.positions import Positions, same
from esr.method.tensors import Rollout
from esr.models import dropout
from esr.models.adapters import fresh_adapter
from esr.models.lm import LM, STUDENT
from esr.records.problem import Problem
from esr.sampling.kept import Kept
from esr.sampling.sampler import Sampler
from models import make

BATCH, PROMPT, STEPS = 16, 150, 2


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second at which the device copies a tensor: read and written."""
    big, seconds = torch.ones(size, dtype=torch.uint8, device=device), []
    for _ in range(6):
        wait(device)
        start = time.perf_counter()
        big.clone()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size / min(seconds)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def distiller(args: argparse.Namespace, device: torch.device, rows: int) -> Distiller:
    """Both models and the optimiser as a run has them. Vocabularies of two sizes share events by the remainder of the id."""
    tree = {
        "student": {"model": args.student}, "teacher": {"model": args.teacher}, "data": {"source": "none.jsonl"},
        "rollout": {"prompts_per_step": rows, "max_new_tokens": args.n},
    }  # fmt: skip
    config = Config.model_validate(tree)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    adapted = fresh_adapter(make(args.student, device, dtype, args.tiny), config.student, 0)
    student = LM(adapted, None, config.student, (), STUDENT, dropout=dropout.install(adapted))  # type: ignore[arg-type]
    teacher = LM(make(args.teacher, device, dtype, args.tiny), None, config.teacher, ())  # type: ignore[arg-type]
    size = min(student.vocab_size, teacher.vocab_size)

    def read(rollout: Rollout) -> Positions:
        found = same(rollout)
        return replace(found, teacher=replace(found.teacher, response_ids=found.teacher.response_ids % size))

    ours, theirs = (np.arange(lm.vocab_size) % size for lm in (student, teacher))
    events = event_space(ours, theirs, read).to(device)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=5e-5)
    sampler = Sampler(args.n, (), config.rollout.temperature, config.rollout.top_p)
    return Distiller(config, student, teacher, events, sampler, optimizer, 0, print, kept=Kept())


def measure(args: argparse.Namespace) -> dict[str, object]:
    device = torch.device("cpu" if args.tiny else "cuda")
    rows, prompt = (2, 12) if args.tiny else (BATCH, PROMPT)
    run = distiller(args, device, rows)
    held = footprint(run.student, run.teacher, device)
    free = budget.available(device) + held.student.weights + held.teacher.weights
    planned = budget.plan(run.config, held, free, prompt)
    run.micro_batch_tokens = planned.micro_batch_tokens
    if planned.checkpointing:
        run.student.causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore
    draw = np.random.default_rng(0)
    pairs = []
    for i in range(rows):
        ids = draw.integers(0, min(run.student.vocab_size, run.teacher.vocab_size), prompt).tolist()
        pairs.append(PromptPair(Problem(id=str(i), question=""), ids, ids))
    metrics = [step(run, pairs, index, 5e-5).metrics for index in range(STEPS + 1)][1:]
    middle = {key: statistics.median(row[key] for row in metrics) for key in metrics[0]}
    read = sum(p.numel() * p.element_size() for p in run.student.causal_lm.parameters() if not p.requires_grad)
    kept = run.kept.slots if run.kept else None
    return {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else "the CPU, at small shapes: no measurement",
        "seconds": middle["time/step"],
        **{phase: middle[f"time/{phase}"] for phase in ("sync", "generate", "score", "train")},
        "tokens": middle["tokens/generated"],
        "ms_a_token": 1e3 * middle["time/generate"] / args.n,
        "floor_ms": 1e3 * read / bandwidth(device, 2**20 if args.tiny else 2**31),
        "peak_gib": resident_peak() / 2**30 if device.type == "cpu" else max(row["memory/peak_gib"] for row in metrics),
        "planned_gib": max(planned.training, planned.writing) / 2**30,
        "micro_batch_tokens": planned.micro_batch_tokens,
        "checkpointing": planned.checkpointing,
        "graphs": len(kept.graphs.graphs) if kept else 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("teacher")
    parser.add_argument("n", type=int)
    parser.add_argument("--tiny", action="store_true")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
