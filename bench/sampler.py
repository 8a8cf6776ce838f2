"""Tokens a second on this machine, side by side: our sampler, transformers' generate and vLLM; beside the memory's bandwidth.

    python bench/sampler.py [--model models/smollm2/teacher] [--tokens 100] [--batches 8 32] [--times 3] [--vllm-python PATH]
        [--out FILE]

Every arm runs in a process of its own, one after the other, with the same prompts and sampling (temperature 0.7, top-p 0.95), in
float32 and one thread; no response may end early. The first run of each is left out, and the prompts' own forward pass is
included. Seconds are those of the processor, so that other work on the machine does not count. The floor is the time to read the
weights once a token, at the bandwidth that reading a large tensor has here. Also counted: what a token of the path for CUDA devices
launches, and how often the host waits for the device; the counts are the same on any device. The last line is the same as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUESTION = "Anna has {} apples and buys {} more. How many apples does she have?"
TEMPERATURE, TOP_P = 0.7, 0.95
ARMS = {"esr": "esr", "generate": "transformers generate", "vllm": "vLLM"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/smollm2/teacher")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--vllm-python", default=".venv-vllm/bin/python")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    return parser.parse_args()


def middle(work: Callable[[], object], times: int) -> float:
    """Median seconds of `times` runs after one that is left out."""
    from clock import now

    work()
    seconds = []
    for _ in range(times):
        start = now()
        work()
        seconds.append(now() - start)
    return statistics.median(seconds)


def load(args: argparse.Namespace) -> Any:
    import torch

    from esr.config import ModelConfig
    from esr.models.load import load_model

    torch.set_num_threads(1)
    return load_model(ModelConfig(model=args.model, dtype="float32"), torch.device("cpu"), ())


def questions(lm: Any, batch: int) -> list[list[int]]:
    from esr import prompts

    return [prompts.render(lm.tokenizer, lm.config, QUESTION.format(i + 2, 3 * i + 1)) for i in range(batch)]


def ours(args: argparse.Namespace, batch: int) -> float:
    from esr.sampling.noise import Noise
    from esr.sampling.respond import respond
    from esr.sampling.sampler import Sampler

    lm = load(args)
    rows, sampler = questions(lm, batch), Sampler(args.tokens, (), TEMPERATURE, TOP_P)
    return middle(lambda: respond(lm, rows, sampler, Noise.of(0, [str(i) for i in range(batch)])), args.times)


def generate(args: argparse.Namespace, batch: int) -> float:
    from esr import prompts

    lm = load(args)
    padded = prompts.pad(questions(lm, batch))
    settings = {
        "do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0, "pad_token_id": 0,
        "max_new_tokens": args.tokens, "min_new_tokens": args.tokens,
    }  # fmt: skip
    call = lambda: lm.module.generate(padded.ids, attention_mask=padded.mask.long(), **settings)  # noqa: E731
    return middle(call, args.times)


def vllm(args: argparse.Namespace, batch: int) -> float | None:
    """In its own environment; None if there is none."""
    if not Path(args.vllm_python).exists():
        return None
    command = [
        args.vllm_python,
        str(HERE / "vllm_tokens.py"),
        args.model,
        str(batch),
        str(args.tokens),
        str(args.times),
    ]
    options = {
        "VLLM_CPU_OMP_THREADS_BIND": str(max(os.sched_getaffinity(0))), "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    rows = json.dumps(questions(load(args), batch))
    done = subprocess.run(command, input=rows, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | options)
    return float(done.stdout.strip().splitlines()[-1])


def bandwidth(args: argparse.Namespace) -> float:
    """Bytes a second at which a thread reads a tensor that fits no cache."""
    import torch

    torch.set_num_threads(1)
    big = torch.ones(2**28)
    return big.numel() * 4 / middle(big.sum, 5)


def floor(args: argparse.Namespace) -> dict[str, float]:
    """Bytes of the weights that a token reads, and how fast they can be."""
    lm = load(args)
    weights = {p.data_ptr(): p.numel() * p.element_size() for p in lm.module.parameters()}
    return {"bytes": float(sum(weights.values())), "bytes_per_second": bandwidth(args)}


def counts(args: argparse.Namespace) -> dict[str, float]:
    """What a token of the path for CUDA devices launches, and how often the host waits, over a whole call."""
    from esr import prompts
    from esr.sampling.launches import Launches
    from esr.sampling.loop import Writing, sample
    from esr.sampling.noise import Noise
    from esr.sampling.sampler import Sampler
    from esr.sampling.slots import Slots

    lm, steps, asked = load(args), [], []
    launch, status = Writing.launch, Slots.status

    def counted(self: Writing, slots: Slots) -> None:
        with Launches(lm.device) as launches:
            launch(self, slots)
        steps.append((sum(launches.kernels.values()), sum(launches.waits.values())))

    Writing.launch = counted  # type: ignore[method-assign]
    Slots.status = lambda self: (asked.append(1), status(self))[1]  # type: ignore
    rows = prompts.pad(questions(lm, 2))
    sample(lm, rows, Sampler(args.tokens, (), TEMPERATURE, TOP_P), Noise.of(0, ["a", "b"]), fixed=True)
    waits = len(asked) + sum(waits for _, waits in steps)
    return {
        "layers": lm.causal_lm.config.num_hidden_layers, "launches": statistics.median(n for n, _ in steps),
        "tokens": len(steps), "waits": waits,
    }  # fmt: skip


def in_a_process(arm: str) -> Any:
    """What an arm measures, alone."""
    print(f"measuring {arm} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    args = arguments()
    if args.arm:
        name, _, batch = args.arm.partition("@")
        alone = {"floor": floor, "counts": counts}
        found = (
            alone[name](args)
            if name in alone
            else {"esr": ours, "generate": generate, "vllm": vllm}[name](args, int(batch))
        )
        print(json.dumps(found))
        return
    from clock import machine

    record: dict[str, Any] = {"machine": machine(), "model": args.model, "tokens": args.tokens, "times": args.times}
    for key in ("floor", "counts"):
        record[key] = in_a_process(key)
    least, c = record["floor"], record["counts"]
    per_token = least["bytes"] / least["bytes_per_second"]
    print(
        f"floor: {1e3 * per_token:.1f} ms a token ({least['bytes'] / 1e9:.2f} GB at {least['bytes_per_second'] / 1e9:.1f} GB/s)"
    )
    print(
        f"for CUDA: {c['launches']:.0f} launches a token ({c['layers']} layers), {c['waits']} waits in {c['tokens']} tokens"
    )
    print(f"{'batch':>6} {'arm':24}{'tokens/s':>10}{'ms a token':>12}{'times the floor':>17}", flush=True)
    record["arms"] = {str(batch): {} for batch in args.batches}
    for batch, arms in record["arms"].items():
        for arm in ARMS:
            arms[arm] = seconds = in_a_process(f"{arm}@{batch}")
            if args.out:
                args.out.write_text(json.dumps(record, indent=1) + "\n")
            if seconds is None:
                print(f"{batch:>6} {ARMS[arm]:24} not installed ({args.vllm_python})")
                continue
            step = seconds / args.tokens
            print(
                f"{batch:>6} {ARMS[arm]:24}{int(batch) / step:10.1f}{1e3 * step:12.1f}{step / per_token:17.2f}",
                flush=True,
            )
    print(json.dumps(record))


if __name__ == "__main__":
    main()
