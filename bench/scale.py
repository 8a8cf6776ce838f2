"""What fits on which cards, and what a step costs there at least: from the shapes of real models, with no card at hand.

    python bench/scale.py [table] [measured] [--out results/bench/scale.json]

What fits is the memory plan (`esr.budget.plan`) of a configuration, two models' shapes (bench/gpu/shapes, made on the meta device)
and a card's memory. Seconds are a floor: weights and caches read at the card's full bandwidth, products at its full speed, weights
that travel at the link's; nothing else, so that a real step takes longer. The same floor stands beside every step that was measured.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from transformers import AutoConfig

from esr.budget import SHARE, Placed, plan
from esr.budget.footprint import Footprint, footprint
from esr.config import ESR_N, FULL_ROLLOUT_CAP, Config
from esr.models.lm import LM
from esr.models.load import shapes
from esr.models.quiet import quiet

HERE = Path(__file__).parent
RECORDS = HERE.parent / "results" / "bench"
PAIRS = (
    ("qwen2.5-math-1.5b", "qwen3-1.7b"),
    ("qwen3-1.7b", "qwen3-4b"),
    ("gemma-2-2b", "qwen3-4b"),
    ("qwen3-1.7b", "qwen3-32b"),
    ("qwen2.5-7b", "qwen2.5-32b"),
    ("qwen2.5-32b", "qwen2.5-72b"),
)
TRAINED = ("lora", "full")
PROMPT, LENGTHS, CARDS = 150, (ESR_N, FULL_ROLLOUT_CAP), (1, 2, 4, 8)
"""Tokens of every prompt; values of N, to which every response goes; numbers of cards that are tried."""
FLOAT32 = 4


@dataclass(frozen=True)
class Machine:
    """A card, or a processor, in bytes, bytes a second and floating-point operations a second."""

    memory: float
    bandwidth: float
    flops: float
    """Dense, bfloat16 (of a processor: float32)."""
    link: float
    """To another card, one way."""
    host: float
    """From the host's memory."""
    source: str


MACHINES = {
    "H100": Machine(80e9, 3.35e12, 989e12, 450e9, 64e9, "H100 SXM5 80 GB: NVIDIA's data sheet; NVLink 4, PCIe 5.0 x16"),
    "A100-80": Machine(
        80e9, 2.039e12, 312e12, 300e9, 32e9, "A100 SXM4 80 GB: NVIDIA's data sheet; NVLink 3, PCIe 4.0 x16"
    ),
    "RTX 4090": Machine(
        24e9, 1.008e12, 165.2e12, 32e9, 32e9, "NVIDIA's Ada white paper (float32 sums); PCIe 4.0 x16 only"
    ),
}
A6000 = Machine(48e9, 0.768e12, 154.8e12, 56e9, 32e9, "RTX A6000: NVIDIA's data sheet")
ARTICLE = {
    100: (100, {"score": 1, "write": 5, "train": 2}),
    2048: (990, {"score": 7, "write": 180, "train": 7}),
}
"""By N, the mean tokens of a response (the untrained student's) and the seconds of a step by the article's own tables
(arXiv:2605.27028): 16 responses, 1.5B <- 1.7B, one A6000; transformers' `generate` at N = 100, and with full rollouts a vLLM that is
started anew for each step."""
OURS = (104, 512)
"""Tokens of a prompt (the median) and of a micro-batch in results/bench/step.json."""


@dataclass(frozen=True)
class Size:
    """A model in numbers of weights."""

    body: int
    """Of the layers, which every token goes through."""
    head: int
    """Of the head, which response tokens go through."""
    element: int
    """Bytes of a weight as a product reads it."""

    @classmethod
    def of(cls, lm: LM) -> "Size":
        model: Any = lm.causal_lm
        ends: list[nn.Parameter] = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
        body = sum(p.numel() for p in set(model.parameters()) - set(ends))
        return cls(body, ends[1].numel(), (lm.autocast or ends[1].dtype).itemsize)

    @property
    def read(self) -> int:
        """Bytes that a pass reads."""
        return (self.body + self.head) * self.element

    def passes(self, tokens: float, positions: float) -> float:
        """Operations of a forward pass of `tokens`, of which `positions` go through the head."""
        return 2 * (self.body * tokens + self.head * positions)


@dataclass(frozen=True)
class Models:
    """A pair by its shapes."""

    student: Size
    teacher: Size
    held: Footprint

    @classmethod
    def of(cls, config: Config) -> "Models":
        device = torch.device("meta")  # stands for an accelerator
        student, teacher = shapes(config.student, config.teacher, device)
        return cls(Size.of(student), Size.of(teacher), footprint(student, teacher, device))


def configuration(
    folder: Path, student: str, teacher: str, train: str, n: int, dtype: str = "bfloat16", rows: int = 16
) -> Config:
    """The paper's recipe for a pair, whose shapes are put into `folder`."""
    for name in (student, teacher):
        settings = json.loads((HERE / "gpu" / "shapes" / f"{name}.json").read_text())
        AutoConfig.for_model(**settings).save_pretrained(folder / name)
    tree = {
        "student": {"model": str(folder / student), "train": train, "dtype": dtype},
        "teacher": {"model": str(folder / teacher), "dtype": dtype},
        "data": {"source": "none.jsonl"},
        "rollout": {"max_new_tokens": n, "prompts_per_step": rows},
    }  # fmt: skip
    return Config.model_validate(tree)


def floor(
    config: Config,
    models: Models,
    placed: Placed,
    machine: Machine,
    micro: int,
    checkpointing: bool,
    prompt: int = PROMPT,
    length: float | None = None,
    servers: int = 1,
) -> dict[str, float]:
    """Seconds of a step at least, by phase, with micro-batches of `micro` tokens and responses of `length` tokens (None: N).

    A phase takes the longest of its products, its reading and its transfers.
    """
    held, student, teacher = models.held, models.student, models.teacher
    rows, length = config.rollout.prompts_per_step / placed.ranks, length or config.rollout.max_new_tokens
    tokens, positions, times = rows * (prompt + length), rows * length, -(-rows * (prompt + length) // micro)
    cache = rows * (prompt + length / 2) * held.student.cache
    write = length * max((student.read + cache) / machine.bandwidth, student.passes(rows, rows) / machine.flops)
    score = teacher.passes(tokens, positions) / machine.flops
    full = config.student.train == "full"
    train = student.passes(tokens, positions) / machine.flops * (2 + full + checkpointing)
    away = 1 - 1 / placed.ranks  # of what is split, all but the own part travels
    shards = (
        4 * held.student.weights * away if placed.sharded else 0
    )  # gathered twice; gradients travel as much as a gathering
    update = 7 * held.trained / (placed.ranks if placed.sharded else 1) / machine.bandwidth
    travels = {"offloaded": held.teacher.weights / machine.host, "sharded": held.teacher.weights * away / machine.link}
    read = travels.get(placed.teacher, teacher.read / machine.bandwidth)
    if placed.teacher == "server":
        score, read = score * placed.ranks / servers, 0.0
    return {
        "write": write + student.passes(rows * prompt, 0) / machine.flops,
        "score": max(score, times * read),
        "train": max(
            train, times * (2 + checkpointing) * student.read / machine.bandwidth, times * shards / machine.link
        ),
        "update": update + (0 if placed.sharded else 2 * held.trained * away / machine.link),
    }


def apart(weights: int, memory: float) -> int | None:
    """Cards of a server with so many bytes of weights, which fill no more of them than a plan fills."""
    return next((c for c in CARDS if weights <= c * SHARE * memory), None)


def choices(teacher: str, full: bool, held: Footprint, memory: float) -> Iterator[tuple[int, Placed]]:
    """(cards that only the teacher is on, how the others hold the models), the fewest cards first."""
    alone = apart(held.teacher.weights, memory)
    for ranks in CARDS:
        extra = {"server": alone, "device": 1 if alone == 1 and ranks == 1 else None}.get(teacher, 0)
        if extra is not None and not (teacher == "sharded" and ranks == 1):
            yield extra, Placed(teacher, ranks, full and ranks > 1)  # type: ignore[arg-type]


def cell(config: Config, models: Models, teacher: str, machine: Machine) -> dict[str, Any] | None:
    """The fewest cards on which a run fits with the teacher so placed, and a step there; None if it does on none that are tried.

    An adapter's student that has no room to write beside the rest does so on a server.
    """
    full = config.student.train == "full"
    writers = [0] if full else [0, apart(models.held.student.weights, machine.memory)]
    for writer in (cards for cards in writers if cards is not None):
        asked = {"engine": "vllm", "server": ["http://student"]} if writer else {}
        written = config.model_copy(update={"rollout": config.rollout.model_copy(update=asked)})
        for extra, placed in choices(teacher, full, models.held, machine.memory):
            found = plan(written, models.held, int(machine.memory), PROMPT, placed=placed)
            if found.fits:
                micro = found.micro_batch_tokens
                phases = floor(config, models, placed, machine, micro, found.checkpointing, servers=max(1, extra))
                if writer:  # all rows are there
                    phases["write"] = floor(config, models, Placed(), machine, micro, False)["write"] / writer
                return {
                    "cards": placed.ranks + extra + writer, "teacher_cards": extra, "writer_cards": writer, "peak": found.peak,
                    "micro_batch_tokens": micro, "checkpointing": found.checkpointing, "seconds": phases,
                    "step": in_all(phases, teacher),
                }  # fmt: skip
    return None


def in_all(phases: dict[str, float], teacher: str) -> float:
    """Seconds of the whole step: a server scores while the student trains, all else follows one another."""
    if teacher == "server":
        return phases["write"] + max(phases["score"], phases["train"]) + phases["update"]
    return sum(phases.values())


def table(folder: Path) -> list[dict[str, Any]]:
    """Every pair, trained either way, at both N, with each placement, on each machine."""
    rows = []
    for pair in PAIRS:
        for train in TRAINED:
            models = Models.of(configuration(folder, *pair, train, ESR_N))
            for n in LENGTHS:
                config = configuration(folder, *pair, train, n)
                for teacher in ("same", "device", "sharded", "offloaded", "server"):
                    cells = {name: cell(config, models, teacher, machine) for name, machine in MACHINES.items()}
                    rows.append({"pair": pair, "train": train, "n": n, "placement": teacher, "cells": cells})
    return rows


def beside(phases: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, Any]:
    """A floor and what was measured, by phase and for the whole step."""
    both = {name: (phases[name], seconds) for name, seconds in measured.items()}
    both["step"] = sum(phases[name] for name in measured), sum(measured.values())
    return {name: {"floor": low, "measured": s, "factor": s / low} for name, (low, s) in both.items()}


def article(folder: Path) -> list[dict[str, Any]]:
    """The article's own seconds."""
    found, models = [], Models.of(configuration(folder, *PAIRS[0], "lora", ESR_N))
    for n, (length, seconds) in ARTICLE.items():
        config = configuration(folder, *PAIRS[0], "lora", n)
        budget = plan(config, models.held, int(A6000.memory), PROMPT)
        phases = floor(config, models, Placed(), A6000, budget.micro_batch_tokens, budget.checkpointing, length=length)
        found.append({"what": f"the article's, 1.5B <- 1.7B, one A6000, N = {n}", "phases": beside(phases, seconds)})
    return found


def ours(folder: Path, machine: Machine) -> list[dict[str, Any]]:
    """The steps of results/bench/step.json, one thread of a processor: responses of the mean length that they had."""
    record, (prompt, micro), found = json.loads((RECORDS / "step.json").read_text()), OURS, []
    measured = record["types"]["float32"]
    arms = {
        "esr": (record["n"], 10**6),
        "esr-configured": (record["n"], micro),
        "full-configured": (record["full"], micro),
    }
    for arm, (n, micro) in ((arm, how) for arm, how in arms.items() if arm in measured["arms"]):
        config = configuration(folder, "smollm2-135m-28", "smollm2-135m", "lora", n, "float32", measured["batch"])
        row, models = measured["arms"][arm], Models.of(config)
        phases = floor(config, models, Placed(), machine, micro, False, prompt, row["tokens"] / measured["batch"])
        seconds = {"write": row["generate"], "score": row["score"], "train": row["train"]}
        found.append(
            {"what": f"`bench/step.py` ({arm}), SmolLM2, one thread, N = {n}", "phases": beside(phases, seconds)}
        )
    return found


def processor() -> Machine:
    """One thread of this machine's processor, by its own seconds: the best of several times."""

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(12):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    torch.set_num_threads(1)
    large, square = torch.ones(2**27), torch.rand(1024, 1024)
    bandwidth = FLOAT32 * 2**27 / best(lambda: large.sum())
    flops = 2 * 1024**3 / best(lambda: square @ square)
    return Machine(
        psutil.virtual_memory().total, bandwidth, flops, bandwidth, bandwidth, "measured: one thread of a processor"
    )


def planned() -> list[dict[str, Any]]:
    """The settings of results/bench/memory.json: the plan over what was measured."""
    settings = json.loads((RECORDS / "memory.json").read_text())["settings"]
    return [{**s["setting"], "ratio": s["planned"] / s["measured"]} for s in settings]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["table", "measured", []], help="what to do anew; default: both")
    parser.add_argument("--out", type=Path, default=RECORDS / "scale.json")
    args = parser.parse_args()
    record = json.loads(args.out.read_text()) if args.parts and args.out.exists() else {}
    with tempfile.TemporaryDirectory() as place, quiet():
        folder = Path(place)
        if "measured" in (args.parts or ["measured"]):
            here = processor()
            record |= {"here": asdict(here), "memory": planned(), "seconds": [*article(folder), *ours(folder, here)]}
        if "table" in (args.parts or ["table"]):
            machines = {name: asdict(machine) for name, machine in {**MACHINES, "A6000": A6000}.items()}
            record |= {"prompt": PROMPT, "machines": machines, "table": table(folder)}
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
