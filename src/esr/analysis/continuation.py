"""Responses that one model begins and another ends: what teacher decay and the prefix swap have in common.

Work is done in parts (a stage, and a batch of problems) that are kept as soon as they are known, so that an interrupted
analysis goes on where it was. Randomness is keyed by problem and sample, so parts can be done in any session, and by any rank.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from esr import grading, intervals, prompts
from esr.config import EvalConfig
from esr.console import Advance
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.ranks import here
from esr.records.base import Estimate
from esr.records.problem import Problem
from esr.runs.parts import Known, Parts
from esr.runs.rundir import RunDir
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond
from esr.sampling.sampler import Sampler

Grades = list[bool | None]
"""Right by the last answer or not; None: the grader failed."""
Graded = dict[str, list[float]]
"""Grades (1 or 0) of the responses to each problem, by its id; those that the grader failed on are left out."""


@dataclass(frozen=True)
class Head:
    """A response, or the first tokens of one."""

    problem: int
    """Index among the problems."""
    sample: int
    ids: list[int]
    finished: bool
    """Ended with a terminator, which is the last of `ids`."""
    right: bool | None

    def ended(self, k: int) -> bool:
        """Whether the response was over within its first k tokens, so that nobody can continue it."""
        return self.finished and len(self.ids) <= k


@dataclass(frozen=True)
class Cut:
    """A stage in which responses go on after their first k tokens."""

    stage: str
    heads: Sequence[Head]
    """In the order of their problems."""
    k: int

    def of(self, batch: Sequence[int]) -> list[Head]:
        """The heads of some problems."""
        return [head for head in self.heads if head.problem in batch]


@dataclass(frozen=True)
class Continuations:
    """Samples and grades beginnings and continuations of responses to the same problems."""

    problems: Sequence[Problem]
    settings: EvalConfig
    """Temperature, nucleus and batch size; `max_new_tokens` caps prefix and continuation together."""
    seed: int
    kept: Known
    advance: Advance

    def heads(self, stage: str, lm: LM, cap: int, samples: int) -> list[Head]:
        """`samples` responses of at most `cap` tokens to each problem, those of a problem side by side."""

        def work(batch: list[int]) -> list[Any]:
            noise = Noise.of(self.seed, [self.problems[i].id for i in batch], samples)
            written = self._sample(lm, batch, [[] for _ in batch], cap, noise, stage)
            owners = [i for i in batch for _ in range(samples)]
            right = self._grade(lm, owners, [ids for ids, _ in written])
            return [[ids, finished, r] for (ids, finished), r in zip(written, right, strict=True)]

        rows = self._parts(stage, work)
        return [Head(at // samples, at % samples, *row) for at, row in enumerate(rows)]

    def tails(
        self,
        stage: str,
        lm: LM,
        heads: Sequence[Head],
        k: int,
        times: int,
        carry: Callable[[list[int]], list[int]] = list,
    ) -> list[Grades]:
        """`times` continuations by `lm` of the first k tokens of each head, graded together with them.

        A head that ended within k tokens gets none. Continuation j of sample i of a problem uses the same random numbers
        for every k, stage and model, and never those of the head. `carry` turns the head's tokens into those that `lm` reads
        after its own prompt; by default they pass as they are.
        """
        return self.tails_of(lm, [Cut(stage, heads, k)], times, carry)[0]

    def tails_of(
        self, lm: LM, cuts: Sequence[Cut], times: int = 1, carry: Callable[[list[int]], list[int]] = list
    ) -> list[list[Grades]]:
        """`tails` of several cuts, written together, since a model that writes one token at a time is seldom busy with few."""
        missing = [(b, [c for c in cuts if self.kept.get(part(c.stage, b)) is None]) for b in self._batches()]
        todo = [(batch, some) for batch, some in missing if some]
        for (batch, some), made in zip(
            todo, here().dealt(todo, lambda t: self._write(lm, *t, times, carry)), strict=True
        ):
            for cut, value in zip(some, made, strict=True):
                self._keep(cut.stage, batch, value)
        return [self._rows(cut.stage) for cut in cuts]

    def _write(
        self, lm: LM, batch: list[int], cuts: Sequence[Cut], times: int, carry: Callable[[list[int]], list[int]]
    ) -> list[dict[str, Any]]:
        """The continuations of a batch of problems, a part for each of `cuts`."""
        start, cap = time.perf_counter(), self.settings.max_new_tokens
        found = [(cut, head) for cut in cuts for head in cut.of(batch)]
        live = [(cut, head) for cut, head in found if not head.ended(cut.k)]
        graded: list[Grades] = []
        if live:
            starts = [carry(head.ids[: cut.k]) for cut, head in live]
            noise = Noise(tuple(row for _, head in live for row in self._noise(head, times)))
            longest = cap - min(cut.k for cut, _ in live)
            stage = ", ".join(cut.stage for cut in cuts)
            written = self._sample(lm, [head.problem for _, head in live], starts, longest, noise, stage)
            limits = [cap - cut.k for cut, _ in live for _ in range(times)]
            whole = [starts[at // times] + ids[: limits[at]] for at, (ids, _) in enumerate(written)]
            right = self._grade(lm, [head.problem for _, head in live for _ in range(times)], whole)
            graded = [right[at : at + times] for at in range(0, len(right), times)]
        grades, seconds = iter(graded), time.perf_counter() - start
        rows = [[[] if head.ended(cut.k) else next(grades) for head in cut.of(batch)] for cut in cuts]
        return [{"rows": own, "seconds": seconds * sum(map(bool, own)) / max(1, len(live))} for own in rows]

    def _parts(self, stage: str, work: Callable[[list[int]], list[Any]]) -> list[Any]:
        """The rows that `work` gives for every batch; kept ones are not made again."""

        def timed(batch: list[int]) -> dict[str, Any]:
            start = time.perf_counter()
            return {"rows": work(batch), "seconds": time.perf_counter() - start}

        todo = [batch for batch in self._batches() if self.kept.get(part(stage, batch)) is None]
        for batch, value in zip(todo, here().dealt(todo, timed), strict=True):
            self._keep(stage, batch, value)
        return self._rows(stage)

    def _batches(self) -> list[list[int]]:
        return batches(len(self.problems), self.settings.batch)

    def _keep(self, stage: str, batch: list[int], value: dict[str, Any]) -> None:
        self.kept.put(part(stage, batch), value)
        self.advance(len(batch), note=stage)

    def _rows(self, stage: str) -> list[Any]:
        """Of all batches, which are kept."""
        return [row for batch in self._batches() for row in self.kept.get(part(stage, batch))["rows"]]

    def _sample(
        self, lm: LM, owners: list[int], starts: list[list[int]], cap: int, noise: Noise, stage: str
    ) -> list[tuple[list[int], bool]]:
        """New token ids of each row of `noise`, and whether it finished; `starts` follow the prompts of `owners`."""
        sampler = Sampler(cap, lm.terminators, self.settings.temperature, self.settings.top_p)
        prompt = rendered(lm, [self.problems[i] for i in owners])
        rows = [before + start for before, start in zip(prompt, starts, strict=True)]
        rollout = respond(lm, rows, sampler, noise, self._watch(stage))
        return list(zip(rollout.token_lists(), rollout.finished.tolist(), strict=True))

    def _grade(self, lm: LM, owners: list[int], rows: list[list[int]]) -> Grades:
        texts = prompts.decode(lm.tokenizer, rows)
        return [grade.last for grade in grading.grade([self.problems[i] for i in owners], texts)]

    def _noise(self, head: Head, times: int) -> tuple[tuple[int, int, int], ...]:
        """The rows of a head's continuations; the stream is not the head's, whose numbers would come again otherwise."""
        key, samples = self.problems[head.problem].id, (head.sample + 1) * times
        return Noise.of(self.seed, [key], samples, stream="continuation").rows[-times:]

    def _watch(self, stage: str) -> Callable[[int], None]:
        """Tells the progress bar now and then how far a batch has come."""
        tokens = 0

        def tick(live: int) -> None:
            nonlocal tokens
            tokens += 1
            if tokens % 16 == 0:
                self.advance(0, note=f"{stage}: {live} responses at token {tokens}")

        return tick


def again(writer: LM, lm: LM, ids: list[int]) -> list[int]:
    """Tokens of `writer` as the tokenizer of `lm` reads their text, special tokens left out."""
    text = prompts.decode(writer.tokenizer, [ids])[0]
    return list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def batches(count: int, size: int) -> list[list[int]]:
    """Indices below `count` in runs of at most `size`."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def opened(directory: RunDir, name: str, depends: dict[str, Any]) -> Known:
    """The parts of an analysis that are done, if they depend on the same. All ranks know them; rank 0 keeps them."""
    ours = here()
    own = ours.together(lambda: Parts(directory, name, depends) if ours.first else None)
    done = ours.of_first(own.done if own else None)
    return own or Known(done)


def part(stage: str, batch: list[int]) -> str:
    """The key of a part."""
    return f"{stage} / {batch[0]}"


def done(kept: Known, stages: Sequence[str], count: int, size: int) -> int:
    """How many cases (a stage and a problem) an earlier session finished."""
    return sum(len(b) for stage in stages for b in batches(count, size) if kept.get(part(stage, b)) is not None)


def seconds(kept: Known) -> float:
    """Time that all parts took, in whichever session."""
    return round(sum(value["seconds"] for value in kept.done.values()), 1)


def pace(kept: Known, stage: str) -> float:
    """Seconds of a batch of a stage, in the mean over those that are kept."""
    return float(np.mean([v["seconds"] for key, v in kept.done.items() if key.rpartition(" / ")[0] == stage]))


def numbers(grades: Grades) -> list[float]:
    """1 for right and 0 for wrong; responses that the grader failed on are left out."""
    return [float(grade) for grade in grades if grade is not None]


def as_rollout(heads: Sequence[Head], device: torch.device) -> Rollout:
    """The heads as responses that a model can score."""
    return Rollout.of([h.ids for h in heads], [h.finished for h in heads]).to(device)


def own_grades(heads: Sequence[Head], problems: Sequence[Problem]) -> Graded:
    """Each problem's responses, graded."""
    return with_finished(heads, [[] for _ in heads], problems)


def with_finished(heads: Sequence[Head], tails: Sequence[Grades], problems: Sequence[Problem]) -> Graded:
    """Each problem's continuations, graded; a head that nobody could continue counts with its own grade."""
    out: Graded = {problems[head.problem].id: [] for head in heads}
    for head, tail in zip(heads, tails, strict=True):
        out[problems[head.problem].id] += numbers(tail or [head.right])
    return out


def continued(heads: Sequence[Head], tails: Sequence[Grades], k: int, problems: Sequence[Problem]) -> Graded:
    """Grades of the continuations, by problem; heads that had ended within k tokens are left out."""
    return {problems[h.problem].id: numbers(t) for h, t in zip(heads, tails, strict=True) if not h.ended(k)}


def accuracy(graded: Graded) -> Estimate | None:
    """avg@k; None for fewer than two problems."""
    groups = [grades for grades in graded.values() if grades]
    return intervals.accuracy(groups) if len(groups) > 1 else None


def difference(ours: Graded, reference: Graded) -> Estimate | None:
    """Paired change; None for fewer than two common problems."""
    common = [i for i, grades in ours.items() if grades and reference.get(i)]
    return intervals.paired_difference(ours, reference) if len(common) > 1 else None
