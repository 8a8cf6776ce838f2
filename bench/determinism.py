"""How many responses are the same, token for token, when other responses are written beside them: in float32 and in bfloat16.

    python bench/determinism.py [--model models/smollm2/teacher] [--prompts 32] [--tokens 100] [--dtypes float32 bfloat16]
        [--out FILE]

The reference writes all of them at once. The others write 8 at a time, whose rows are filled again as they end, and one at a
time: what a smaller `eval.batch_size`, memory that runs out, or a resumption in the middle of an evaluation does. The share has a
95% interval (Wilson); `first` is the median token at which those that differ do. The last line is the same as JSON. A run that was
killed and goes on with the same batches is another matter: `bench/resume.py [--dtype bfloat16]` compares its every figure.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from clock import machine

from esr import prompts
from esr.config import ModelConfig
from esr.models.lm import LM
from esr.models.load import load_model
from esr.sampling.noise import Noise
from esr.sampling.respond import respond_each
from esr.sampling.sampler import Sampler

QUESTION = "Anna has {} apples and buys {} more. How many apples does she have?"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95% interval of a share."""
    z, p = 1.96, hits / n
    centre, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def responses(lm: LM, args: argparse.Namespace, width: int) -> list[list[int]]:
    rows = [prompts.render(lm.tokenizer, lm.config, QUESTION.format(i + 2, 3 * i + 1)) for i in range(args.prompts)]
    sampler, found = Sampler(args.tokens, (lm.tokenizer.eos_token_id,), 0.7, 0.95), {}
    noise = Noise.of(0, [str(i) for i in range(args.prompts)])
    respond_each(lm, rows, sampler, noise, width, lambda r: found.update({r.index: r.ids.tolist()}))
    return [found[i] for i in range(args.prompts)]


def compared(reference: list[list[int]], others: list[list[int]]) -> dict[str, float | None]:
    same = sum(a == b for a, b in zip(reference, others, strict=True))
    first = [
        next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in zip(reference, others, strict=True)
        if a != b
    ]
    low, high = wilson(same, len(reference))
    return {
        "n": len(reference), "same": same / len(reference), "low": max(0.0, low), "high": min(1.0, high),
        "first": statistics.median(first) + 1 if first else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/smollm2/teacher")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record: dict[str, object] = {"machine": machine(), "device": str(device), "tokens": args.tokens}
    for dtype in args.dtypes:
        lm = load_model(ModelConfig(model=args.model, dtype=dtype), device, ())
        reference = responses(lm, args, args.prompts)
        for width in (8, 1):
            found = record[f"{dtype}, {width} at a time"] = compared(reference, responses(lm, args, width))
            print(f"{dtype:9} {width:2} at a time: {found['same']:.0%} of {found['n']} the same "
                  f"[{found['low']:.0%}, {found['high']:.0%}], first {found['first']}", flush=True)  # fmt: skip
    print(json.dumps(record))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
