"""What it saves that a row is filled again when its response ends: an evaluation's responses, in batches and filled again.

    python bench/refill.py [CONFIG] [--size 200] [--batch 50] [--who student teacher] [--out FILE]

The same problems, samples and random numbers both ways, in one process, one after the other and then in the other order; the
responses are compared. Printed: seconds of the processor, in one thread (the mean of both orders), and how many responses differ. The
last line is the same as JSON.
"""

import argparse
import json
from pathlib import Path

import torch
from clock import machine, now

from esr import tasks
from esr.config.configfile import load
from esr.models.lm import LM
from esr.models.load import load_model
from esr.pair import open_pair
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond, respond_each
from esr.sampling.sampler import Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="examples/lab.yaml")
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--who", nargs="+", default=["student", "teacher"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load(args.config, [f"eval.size={args.size}"])
    assert config.eval is not None
    how, pair, record = config.eval, open_pair(config), {"config": args.config, "size": args.size, "batch": args.batch}
    record["machine"] = machine()
    for who in args.who:
        lm = load_model(getattr(config, who), torch.device("cpu"), pair.stops[who == "teacher"])
        problems = tasks.load(how, "eval", need_answer=False).problems
        rows = rendered(lm, problems)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        rows, keys = [rows[i] for i in order], [problems[i].id for i in order]
        sampler = Sampler(how.max_new_tokens, lm.terminators, how.temperature, how.top_p)

        def batches(rows: list = rows, keys: list = keys, sampler: Sampler = sampler, lm: LM = lm) -> list[list[int]]:
            found = []
            for start in range(0, len(rows), args.batch):
                noise = Noise.of(0, keys[start : start + args.batch], how.samples)
                found += respond(lm, rows[start : start + args.batch], sampler, noise).token_lists()
            return found

        def filled(rows: list = rows, keys: list = keys, sampler: Sampler = sampler, lm: LM = lm) -> list[list[int]]:
            found: dict[int, list[int]] = {}
            noise, width = Noise.of(0, keys, how.samples), args.batch * how.samples
            respond_each(lm, rows, sampler, noise, width, lambda r: found.update({r.index: r.ids.tolist()}))
            return [found[i] for i in range(len(noise))]

        seconds, written = {batches: 0.0, filled: 0.0}, {}
        for work in (batches, filled, filled, batches):
            start = now()
            written[work] = work()
            seconds[work] += (now() - start) / 2
        tokens = sum(map(len, written[filled]))
        different = sum(a != b for a, b in zip(written[batches], written[filled], strict=True))
        record[who] = {
            "responses": len(written[filled]), "tokens": tokens, "batches": seconds[batches], "filled": seconds[filled],
            "different": different,
        }  # fmt: skip
        gain = seconds[batches] / seconds[filled]
        print(
            f"{who}: {seconds[batches]:.1f} s in batches, {seconds[filled]:.1f} s filled again ({gain:.2f} times as fast)"
        )
        print(f"{different} of {len(written[filled])} responses differ", flush=True)
    print(json.dumps(record))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
