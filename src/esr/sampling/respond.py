"""A model's responses to questions: rendered with its own template, padded, sampled from packed weights."""

from collections.abc import Callable, Sequence

from esr import prompts
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.records.problem import Problem
from esr.sampling.loop import Response, sample, write
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding
from esr.sampling.sampler import Sampler


def rendered(lm: LM, problems: Sequence[Problem]) -> list[list[int]]:
    """Each problem's prompt as this model expects it, in token ids."""
    return [prompts.of(lm.tokenizer, lm.config, p) for p in problems]


def respond(
    lm: LM,
    rows: Sequence[Sequence[int]],
    sampler: Sampler,
    noise: Noise,
    progress: Callable[[int], None] | None = None,
) -> Rollout:
    """What `lm`, in evaluation mode, writes after `rows` (a prompt's token ids, or those of a prompt and a beginning).

    `len(noise)` is a multiple of the number of rows: several samples share one prefill. `progress` is told now and
    then how many responses are still being written.
    """
    lm.module.eval()
    with decoding(lm):
        return sample(lm, prompts.pad(rows), sampler, noise, progress)


def respond_each(
    lm: LM,
    rows: Sequence[Sequence[int]],
    sampler: Sampler,
    noise: Noise,
    width: int,
    done: Callable[[Response], None],
    progress: Callable[[int], None] | None = None,
) -> None:
    """The same responses, `width` at a time: `done` gets each as it ends, and the next one begins in its place."""
    lm.module.eval()
    with decoding(lm):
        write(lm, rows, sampler, noise, width, done, progress)
