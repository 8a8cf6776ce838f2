"""A long run of the lab under SIGKILL, forced out-of-memory and NaN, at random, against the run that nothing befell.

    python bench/endurance.py [--steps 1000] [--seed 1] [--home DIR] [--out results/bench/endurance.json]

Three runs of the same configuration in processes of their own: one that nothing befalls; one that is only killed, whose weights and
metrics must be equal bit for bit; and one that is killed and in which memory runs out while it samples and while it trains, and losses
are NaN, once (the step is done again) or whatever is tried (it is skipped). There rounding differs, as a step that is done again in
halves or with other kernels sums in another order: it must end with every step recorded once, and skip only where it was made to.
What is in the home already is not done again.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from esr import distill
from esr.cli.main import run as esr
from esr.method.tensors import PositionStats
from esr.runs.rundir import RunDir
from esr.sampling import loop

CONFIG = "examples/lab.yaml"
RATES = {"memory while sampling": 0.02, "memory in training": 0.01, "NaN once": 0.02, "NaN for good": 0.005}
"""Share of the steps that each fault befalls."""
ALIVE = (0, 250)
"""Steps after which a process is killed, drawn between these; with the moment within a second, so that no place in a step is spared."""
SHRINKS = 2
"""How often memory runs out in training in one process: each halves its micro-batches for good."""


def befalls(seed: int, step: int) -> str | None:
    """The fault of a step, the same in every process."""
    chance = random.Random(f"{seed}:{step}").random()
    for name, rate in RATES.items():
        if chance < rate:
            return name
        chance -= rate
    return None


class Faults:
    """Puts the faults into this process, and writes down each that was done."""

    def __init__(self, seed: int, book: Path):
        self.seed, self.book, self.index, self.shrunk = seed, book, 0, 0
        self.step, self.score, self.hidden = distill.step, distill.score, distill.hidden_states
        self.block = loop.Writing.block
        self.fault: str | None = None

    def install(self) -> None:
        import esr.train

        esr.train.step = self.stepped  # type: ignore[attr-defined]
        distill.score, distill.hidden_states = self.scored, self.run  # type: ignore[assignment]
        loop.Writing.block = lambda writing, slots: self.written(writing, slots)  # type: ignore[method-assign,assignment]

    def done(self, number: int) -> None:
        with self.book.open("a") as book:
            book.write(json.dumps({"step": number, "fault": self.fault}) + "\n")

    def stepped(self, distiller: Any, pairs: Any, index: int, lr: float) -> Any:
        self.index, self.fault = index, befalls(self.seed, index)
        return self.step(distiller, pairs, index, lr)

    def once(self, name: str) -> bool:
        """Whether this fault is due; it is not due again."""
        if self.fault != name:
            return False
        self.done(self.index)
        self.fault = None
        return True

    def written(self, writing: Any, slots: Any) -> Any:
        """Memory runs out after the first token of the responses that are written together."""
        if self.once("memory while sampling"):
            raise torch.OutOfMemoryError("forced")
        return self.block(writing, slots)

    def run(self, *args: Any) -> Any:
        if torch.is_grad_enabled() and self.shrunk < SHRINKS and self.once("memory in training"):
            self.shrunk += 1
            raise torch.OutOfMemoryError("forced")
        return self.hidden(*args)

    def scored(self, *args: Any) -> PositionStats:
        stats = self.score(*args)
        lasting = self.fault == "NaN for good"
        if not lasting and not self.once("NaN once"):
            return stats
        if lasting:
            self.done(self.index)
        return replace(stats, divergence=stats.divergence * float("nan"))


def command(folder: Path, steps: int) -> list[str]:
    overrides = [
        f"run.dir={folder}", f"optim.steps={steps}", "rollout.max_new_tokens=2", "rollout.prompts_per_step=4", "data.size=500",
        "student.lora.target_modules=[q_proj, v_proj]", "eval=null", "run.checkpoint_every=10", "run.threads=1",
        "optim.micro_batch_tokens=4096", "optim.on_nonfinite=skip",
    ]  # fmt: skip
    return ["train", CONFIG, *overrides]


def start(arguments: list[str], faults: Faults | None) -> int:
    """Begin a command in a child of this warm process; returns the child."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if faults:
            faults.install()
        code = esr(arguments)
    finally:
        os._exit(code)


def finish(folder: Path, steps: int, seed: int | None, faults: Faults | None = None) -> int:
    """The run to its end, killed at random if there is a `seed`; returns how often it was killed, by the book beside it."""
    book = folder.with_suffix(".kills")
    book.touch()
    while True:
        begun, kills = taken(folder), len(book.read_text().splitlines())
        chance = random.Random(f"{seed}:{kills}")
        child = start(command(folder, steps), faults)
        enough = begun + chance.randint(*ALIVE) if seed is not None else steps + 1
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and taken(folder) < enough:
            time.sleep(0.25)
        if seed is not None and not done[0]:
            time.sleep(chance.random())
            done = os.waitpid(child, os.WNOHANG)
        if done[0]:
            code = os.waitstatus_to_exitcode(done[1])
            if code:
                sys.exit(f"{folder.name} ended with {code}")
            return kills
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with book.open("a") as lines:
            lines.write(f"{taken(folder)}\n")
        print(f"{folder.name}: killed after {taken(folder)} steps", flush=True)


def taken(folder: Path) -> int:
    """Steps that are on the record."""
    file = RunDir(folder).metrics_file
    return file.read_bytes().count(b"\n") if file.exists() else 0


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in RunDir(folder).metrics()
    ]


def weights(folder: Path, steps: int) -> dict[str, torch.Tensor]:
    files = sorted(RunDir(folder).find_checkpoint(steps).glob("*.safetensors"))
    return {f"{file.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="where the runs are kept; default: nowhere")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    home = args.home or Path(tempfile.mkdtemp(prefix="esr-endurance-"))
    home.mkdir(parents=True, exist_ok=True)
    whole, killed, struck = (home / name for name in ("whole", "killed", "struck"))
    book = home / "faults.jsonl"
    book.touch()
    finish(whole, args.steps, None)
    kills = [
        finish(killed, args.steps, args.seed),
        finish(struck, args.steps, args.seed + 1, Faults(args.seed, book)),
    ]
    expected, same, found = rows(whole), rows(killed), rows(struck)
    final, again = weights(whole, args.steps), weights(killed, args.steps)
    done = {(row["step"], row["fault"]) for row in map(json.loads, book.read_text().splitlines())}
    faults = Counter(fault for _, fault in done)
    to_skip = [i for i in range(args.steps) if befalls(args.seed, i) == "NaN for good"]
    record = {
        "steps": args.steps,
        "seed": args.seed,
        "kills": {"killed": kills[0], "struck": kills[1]},
        "faults": dict(faults),
        "killed_equal_metrics": expected == same,
        "killed_equal_weights": final.keys() == again.keys() and all(torch.equal(final[k], again[k]) for k in final),
        "struck_steps": [row["step"] for row in found] == list(range(1, args.steps + 1)),
        "struck_skipped": [row["step"] - 1 for row in found if row.get("optim/skipped")] == to_skip,
        "skipped": len(to_skip),
        "loss_of_last_tenth": {
            name: statistics.fmean(row["loss"] for row in part if row["loss"] is not None)
            for name, part in (("whole", expected[-args.steps // 10 :]), ("struck", found[-args.steps // 10 :]))
        },
    }
    print(json.dumps(record, indent=1))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    if not args.home:
        shutil.rmtree(home)
    if not all(
        record[key] for key in ("killed_equal_metrics", "killed_equal_weights", "struck_steps", "struck_skipped")
    ):
        sys.exit("not as promised")


if __name__ == "__main__":
    main()
