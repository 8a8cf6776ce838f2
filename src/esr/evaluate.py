"""Evaluation: sample k responses to each problem, grade them, summarise with intervals clustered by problem."""

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from esr import grading, intervals, prompts, tasks
from esr.config import EvalConfig
from esr.console import Advance, progress
from esr.grading.find import repetitive
from esr.models.lm import LM
from esr.records.evaluation import Difference, Evaluation, Sample, grades
from esr.records.problem import Problem
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond
from esr.sampling.sampler import Sampler


def evaluate(
    lm: LM, problems: Sequence[Problem], settings: EvalConfig, terminators: tuple[int, ...], seed: int, name: str
) -> tuple[Evaluation, list[Sample]]:
    """Evaluate one model. Equal problems and seed give paired responses for every model: the same random numbers."""
    start = time.perf_counter()
    samples = graded_responses(lm, problems, settings, terminators, seed, title=f"Evaluating {name}")
    record = {**settings.model_dump(exclude={"every", "batch_size", "teacher"}), "seed_sampling": seed}
    return summarise(
        samples, name, lm.config.model, tasks.describe(settings), record, time.perf_counter() - start
    ), samples


def graded_responses(
    lm: LM, problems: Sequence[Problem], settings: EvalConfig, terminators: tuple[int, ...], seed: int, title: str
) -> list[Sample]:
    """k graded responses to each problem, in the order of the problems."""
    sampler = Sampler(settings.max_new_tokens, terminators, settings.temperature, settings.top_p)
    rows = rendered(lm, problems)
    window = lm.causal_lm.config
    prompts.require_room(rows, lm.config.model, window, settings.max_new_tokens, "eval.max_new_tokens")  # type: ignore
    by_length = sorted(range(len(problems)), key=lambda i: len(rows[i]))
    graded: dict[int, list[Sample]] = {}
    with progress(title, len(problems), "problem") as advance:
        for start in range(0, len(by_length), settings.batch_size):
            batch = by_length[start : start + settings.batch_size]
            noise = Noise.of(seed, [problems[i].id for i in batch], settings.samples)
            counter = _Counter(advance, settings.max_new_tokens)
            rollout = respond(lm, [rows[i] for i in batch], sampler, noise, counter)
            texts = prompts.decode(lm.tokenizer, rollout.token_lists())
            owners = [i for i in batch for _ in range(settings.samples)]
            judged = grading.grade([problems[i] for i in owners], texts)
            written = zip(owners, texts, rollout.lengths.tolist(), rollout.finished.tolist(), judged, strict=True)
            for number, (i, text, tokens, finished, grade) in enumerate(written):
                graded.setdefault(i, []).append(
                    Sample(
                        problem=problems[i].id,
                        sample=number % settings.samples,
                        text=text,
                        tokens=tokens,
                        finished=finished,
                        repetitive=repetitive(text),
                        grade=grade,
                    )  # fmt: skip
                )
            advance(len(batch))
    return [s for i in range(len(problems)) for s in graded[i]]


class _Counter:
    """Shows how far the responses of a batch have come."""

    def __init__(self, advance: Advance, limit: int):
        self.advance, self.limit, self.tokens = advance, limit, 0

    def __call__(self, live: int) -> None:
        self.tokens += 1
        if self.tokens % 16 == 0:
            self.advance(0, note=f"{live} responses at token {self.tokens} of at most {self.limit}")


def summarise(
    samples: Sequence[Sample], name: str, model: str, task: str, settings: dict[str, object], seconds: float
) -> Evaluation:
    """The record of an evaluation from its graded responses. Responses that the grader failed on are counted and left out."""
    by_problem: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        by_problem[s.problem].append(s)
    groups = list(by_problem.values())

    def rate(pick, keep=lambda s: True):  # type: ignore[no-untyped-def]
        values = [[float(pick(s)) for s in group if keep(s)] for group in groups]
        kept = [v for v in values if v]
        return intervals.accuracy(kept) if kept else None

    judged = lambda s: s.grade.last is not None  # noqa: E731
    lengths = np.array([s.tokens for s in samples])
    majorities = [[grading.majority([s.grade for s in group])] for group in groups if any(map(judged, group))]
    passes = [[float(any(s.grade.last for s in group))] for group in groups if any(map(judged, group))]
    zero = intervals.accuracy([[0.0]])
    return Evaluation(
        name=name, model=model, task=task, settings=settings, problems=len(groups), samples=max(map(len, groups)),
        avg=rate(lambda s: s.grade.points, judged) or zero,
        maj=intervals.accuracy(majorities) if majorities else zero,
        pass_at_k=intervals.accuracy(passes) if passes else zero,
        avg_first=rate(lambda s: s.grade.first, judged) or zero,
        avg_any=rate(lambda s: s.grade.any, judged) or zero,
        finish_rate=rate(lambda s: s.finished) or zero,
        avg_given_finish=intervals.ratio(
            [sum(bool(s.grade.last) for s in group if s.finished) for group in groups],
            [sum(judged(s) for s in group if s.finished) for group in groups],
        ),
        repetition_rate=rate(lambda s: s.repetitive) or zero,
        strategy_rate=rate(lambda s: s.grade.strategy, lambda s: s.grade.strategy is not None),
        tokens={f"p{q}": float(np.quantile(lengths, q / 100)) for q in (10, 50, 90)} | {"mean": float(lengths.mean())},
        grader_failures=sum(not judged(s) for s in samples), seconds=round(seconds, 2),
    )  # fmt: skip


def difference(samples: Sequence[Sample], reference: Sequence[Sample], name: str, reference_name: str) -> Difference:
    """avg@k minus the reference's avg@k, paired by problem."""
    change = intervals.paired_difference(grades(samples), grades(reference))
    return Difference(name=name, reference=reference_name, avg=change)
