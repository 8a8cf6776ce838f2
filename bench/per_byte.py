"""Divergence per byte between models with different tokenizers, before and after training, on held-out prompts.

    python bench/per_byte.py RUN... [--problems 16] [--max-new-tokens 32] > results/smollm2-gemma/per_byte.json

Tokens of two families are no common unit, bytes are. For each response: the reverse KL over event classes, summed over the places
where both models start a token, divided by the response's bytes. *Common*: responses of the untrained student, the same for
all runs; *own*: the trained student's. Means over responses, 95% intervals by response. With it goes the share of the training rollouts
that ended before N.
"""

import argparse
import json
from typing import Any

from esr import intervals
from esr.analysis.responses import BATCH, ResponseBatch, one_each, score, training_sampler
from esr.analysis.subject import Subject, open_subject
from esr.models.lm import LM
from esr.pair import Pair

SEED = 1


def measure(path: str, problems: int, cap: int) -> dict[str, Any]:
    """One run: before and after on common responses, after on its own, and the paired change."""
    subject = open_subject(path)
    held_out, task = subject.held_out(problems)
    sampler, after = training_sampler(subject, cap), subject.trained("train it first.")
    before: list[float] = []
    moved: list[float] = []
    own: list[float] = []
    for first in range(0, len(held_out), BATCH):
        batch = held_out[first : first + BATCH]
        common = one_each(subject.before, batch, sampler, SEED)
        before += per_byte(subject, subject.before, (batch, common))
        moved += per_byte(subject, after, (batch, common))
        own += per_byte(subject, after, (batch, one_each(after, batch, sampler, SEED)))
    change = [a - b for a, b in zip(moved, before, strict=True)]
    ended = [row["stop/terminator"] for row in subject.directory.metrics()]
    named = {"before": before, "after": moved, "change": change, "after_own": own}
    return {
        "run": path, "n": subject.n, "seed": subject.config.run.seed, "step": subject.step, "prompts": task, "max_new_tokens": cap,
        "ended_in_training": sum(ended) / len(ended),
        "nats_per_byte": {name: intervals.mean(values).model_dump() for name, values in named.items()},
    }  # fmt: skip


def per_byte(subject: Subject, student: LM, batch: ResponseBatch) -> list[float]:
    """Nats per byte of each response."""
    scored = score(student, subject.teacher, *batch, subject.events)
    sums = (scored.stats.reverse_kl * scored.mask).sum(1).tolist()
    sizes = [written(subject.pair, ids) for ids in batch[1].token_lists()]
    return [nats / size for nats, size in zip(sums, sizes, strict=True) if size]


def written(pair: Pair, ids: list[int]) -> int:
    """Bytes that the student's tokens spell."""
    return len(pair.alignment.student.spelled(i for i in ids if i not in pair.terminators) or b"")  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    args = parser.parse_args()
    print(json.dumps([measure(run, args.problems, args.max_new_tokens) for run in args.runs], indent=1))


if __name__ == "__main__":
    main()
