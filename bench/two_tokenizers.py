"""What two tokenizers cost: the loss through the general path against the plain one, and the classes of large vocabularies.

    python bench/two_tokenizers.py [--repeats 9] > results/bench/tokenizers.json

The loss, gradient included, is that of one step's rollouts on the lab's headline pair, which has one tokenizer. Once it is taken
over one vocabulary, once as between two tokenizers that happen to be the same: bytes, chunks and classes; the numbers are equal, only
the way differs. Classes are those of `examples/smollm2-gemma` (49,152 x 262,144 columns; its two scripts make the models),
without what an earlier run has cached.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any


def loss(repeats: int) -> dict[str, Any]:
    """Processor seconds of the loss and its gradient, plain and through the general path, taken in turns."""
    from esr import train
    from esr.assemble import build
    from esr.config.configfile import load
    from esr.distill import gradient, rollouts
    from esr.meters import Phases
    from esr.models.lm import resolve_device
    from esr.models.spelling import read_spelling
    from esr.pair.crossing import Crossing
    from esr.prepare import prepare

    plan = prepare(load("examples/lab.yaml", ["eval=null"]))
    distiller = build(plan, resolve_device("cpu"))
    phases, ends = Phases(distiller.student.device), plan.pair.terminators
    batch = rollouts(distiller, train.batch_of(plan, 0), 0, phases)
    same = read_spelling(plan.pair.student_tokenizer, distiller.student.vocab_size, ends, "lab")
    ways = {"plain": distiller.events, "general": Crossing(same, same, (ends, ends)).events(merge=True)}

    def once(name: str) -> tuple[float, float]:
        distiller.events = ways[name]
        start = time.process_time()
        data = replace(batch, positions=ways[name].read(batch.rollout))
        found = gradient(distiller, data, 0, phases, distiller.micro_batch_tokens)
        return time.process_time() - start, found.loss

    found = [{name: once(name) for name in ways} for _ in range(repeats + 1)][1:]  # the first warms up
    ratios = sorted(turn["general"][0] / turn["plain"][0] for turn in found)
    return {
        "tokens": int(batch.rollout.lengths.sum()),
        "repeats": repeats,
        "seconds": {name: statistics.median(turn[name][0] for turn in found) for name in ways},
        "ratio": statistics.median(ratios),
        "ratios": [ratios[0], ratios[-1]],
        "equal": all(turn["plain"][1] == turn["general"][1] for turn in found),
    }


def classes(config: str) -> dict[str, Any]:
    """Processor seconds to read two tokenizers, to make their classes, and to take them from the cache."""
    from esr.config.configfile import load
    from esr.models.load import load_tokenizer
    from esr.pair import open_pair

    chosen = load(config)
    for side in (chosen.student, chosen.teacher):
        load_tokenizer(side)  # transformers' own part
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty
        pair, reading = timed(lambda: open_pair(chosen))
        crossing: Any = pair.alignment
        _, made = timed(lambda: crossing.labels(True))
        labels, kept = timed(lambda: crossing.labels(True))
    return {"columns": [len(side) for side in labels], "opening": reading, "made": made, "cached": kept}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--config", default="examples/smollm2-gemma/esr.yaml", help="a pair with large vocabularies")
    args = parser.parse_args()
    print(json.dumps({"loss": loss(args.repeats), "classes": classes(args.config)}, indent=1))


if __name__ == "__main__":
    main()
