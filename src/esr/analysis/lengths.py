"""How long responses are: quantiles, finish rate and a histogram for the student before and after training and its teacher.

From the samples of evaluations where a run has them (no torch then), else from responses sampled for it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from esr import intervals
from esr.analysis.subject import Subject
from esr.config import EvalConfig
from esr.console import progress
from esr.errors import UserError
from esr.records.base import Estimate
from esr.records.evaluation import Evaluation, Sample, by_progress, comparable
from esr.records.lengths import LengthRow, Lengths, LengthsSettings
from esr.records.problem import Problem
from esr.runs.history import run_names
from esr.runs.rundir import RunDir

if TYPE_CHECKING:
    from esr.models.lm import LM

RESAMPLES = 1000
"""Of the bootstrap behind each quantile's interval."""
BOOTSTRAP_SEED = 0
BINS = 30
"""Bins of the histograms, at most."""


@dataclass(frozen=True)
class Responses:
    """One model's responses; the outer lists are problems, the inner ones samples."""

    model: str
    tokens: list[list[int]]
    finished: list[list[bool]]


def compute(subject: Subject, settings: LengthsSettings, others: Sequence[RunDir] = ()) -> Lengths:
    """Lengths in the evaluations of a run that compare with its last one (or that of the step asked for); without such an
    evaluation, of responses sampled now.

    Raises `UserError` for fewer than two problems, and for another run that has no evaluation to compare.
    """
    run = subject.directory
    last = student_evaluation(run, subject.asked) if run.exists() else None
    if last is None:
        return from_models(subject, settings, others)
    return from_evaluations(run, last, others)


def record(
    models: Sequence[Responses],
    references: dict[str, str],
    task: str,
    max_new_tokens: int,
    settings: dict[str, Any],
    start: float,
) -> Lengths:
    """The record; `start` is when the work began (`time.perf_counter`). Raises `UserError` for fewer than two problems."""
    longest = max(t for m in models for group in m.tokens for t in group)
    width = -(-(longest + 1) // BINS)
    how = {"bootstrap": f"{RESAMPLES} resamples of problems, percentile interval, seed {BOOTSTRAP_SEED}"}
    rows = [row(m, width, longest) for m in models]
    return Lengths(
        models=references,
        task=task,
        problems=len(models[0].tokens),
        settings={**settings, **how},
        seconds=round(time.perf_counter() - start, 1),
        max_new_tokens=max_new_tokens,
        bin_width=width,
        rows=rows,
    )


def row(responses: Responses, width: int, longest: int) -> LengthRow:
    """Quantiles, finish rate and the histogram (bins of `width` tokens from 0 to past `longest`) of one model."""
    groups = responses.tokens
    if len(groups) < 2:
        raise UserError(f"{responses.model}: intervals of lengths need responses to at least two problems.")
    pooled = np.concatenate(groups)
    p10, p50, p90 = quantiles(groups, [0.1, 0.5, 0.9])
    counts = np.bincount(pooled // width, minlength=longest // width + 1)
    return LengthRow(
        model=responses.model,
        responses=len(pooled),
        p10=p10,
        p50=p50,
        p90=p90,
        finish_rate=intervals.accuracy([[float(f) for f in group] for group in responses.finished]),
        mean=intervals.mean([float(np.mean(group)) for group in groups]),
        histogram=[(i * width, int(count)) for i, count in enumerate(counts)],
    )


def quantiles(groups: Sequence[Sequence[int]], levels: Sequence[float]) -> list[Estimate]:
    """Quantiles of all lengths together; the interval is a percentile bootstrap over problems, whose samples stay together."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    arrays = [np.asarray(group) for group in groups]
    values = np.quantile(np.concatenate(arrays), levels)
    drawn = rng.integers(len(arrays), size=(RESAMPLES, len(arrays)))
    resampled = np.array([np.quantile(np.concatenate([arrays[i] for i in draw]), levels) for draw in drawn])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return [
        Estimate(value=float(v), low=float(min(a, v)), high=float(max(b, v)), n=len(arrays))
        for v, a, b in zip(values, low, high, strict=True)
    ]


def of_samples(model: str, samples: Sequence[Sample]) -> Responses:
    """Responses by problem, from an evaluation's samples."""
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        groups.setdefault(s.problem, []).append(s)
    return Responses(
        model, [[s.tokens for s in g] for g in groups.values()], [[s.finished for s in g] for g in groups.values()]
    )


def student_evaluation(run: RunDir, step: int | None, like: Evaluation | None = None) -> Evaluation | None:
    """The trained student's evaluation after `step` (None: the last one), preferably under the run's own settings.

    With `like`, one of the same task and settings as that. None if there is none.
    """
    found = [e for e in with_samples(run) if e.who == "student" and (step is None or e.step == step)]
    if like is not None:
        found = [e for e in found if comparable(e, like)]
    return max(found, key=lambda e: (not e.variant, e.step or 0), default=None)


def with_samples(run: RunDir) -> list[Evaluation]:
    """The evaluations whose responses are there."""
    return [e for e in run.evaluations() if run.responses_file(e.name).exists()]


def from_evaluations(run: RunDir, last: Evaluation, others: Sequence[RunDir]) -> Lengths:
    """Lengths in the evaluations of `run` that compare with `last`, and in the last one of each other run.

    Raises `UserError` if another run has none with that task and settings.
    """
    start = time.perf_counter()
    wanted = {"before", last.label, "teacher"}
    alike = [e for e in with_samples(run) if comparable(e, last) and e.label in wanted]
    alike = sorted(alike, key=by_progress)
    alike = list({e.label: e for e in reversed(alike)}.values())[::-1]
    models = [of_samples(e.label, run.responses(e.name)) for e in alike]
    names = run_names([run, *others])[1:]
    used = {m.model: e.name for m, e in zip(models, alike, strict=True)}
    for name, other in zip(names, others, strict=True):
        found = student_evaluation(other, None, like=last)
        if found is None:
            raise UserError(
                f"{other.path} has no evaluation with the task and settings of {last.name} in {run.path}; make one with `esr eval`."
            )
        models.append(of_samples(name, other.responses(found.name)))
        used[name] = str(other.evaluation_file(found.name).with_suffix(""))
    config = run.config()
    references = {"student": config.student.model, "teacher": config.teacher.model}
    if last.step:
        references["after"] = f"{run.path} {last.label}"
    settings = {"from": "evaluations", "evaluations": used, "eval": last.settings}
    return record(models, references, last.task, int(last.settings["max_new_tokens"]), settings, start)


def from_models(subject: Subject, settings: LengthsSettings, others: Sequence[RunDir]) -> Lengths:
    """Lengths of responses sampled now, one to each held-out problem, as in an evaluation."""
    from esr.analysis.others import other_students
    from esr.analysis.responses import one_each, shared
    from esr.sampling.sampler import Sampler

    start = time.perf_counter()
    problems, task = subject.held_out(settings.problems)
    how = subject.config.eval or EvalConfig(source=subject.config.data.source)
    loads: list[tuple[str, Callable[[], LM]]] = [("before", lambda: subject.before)]
    if (after := subject.after) is not None:
        loads.append((f"step {subject.step}", lambda: after))
    loads.append(("teacher", lambda: subject.teacher))
    loads += [(other.name, other.load) for other in other_students(subject, others)]
    models = []
    for name, load in loads:
        lm = load()
        sampler = Sampler(how.max_new_tokens, lm.terminators, how.temperature, how.top_p)

        def write(
            batch: Sequence[Problem], lm: "LM" = lm, sampler: Sampler = sampler
        ) -> list[tuple[list[int], list[bool]]]:
            rollout = one_each(lm, batch, sampler, settings.seed)
            return [([t], [f]) for t, f in zip(rollout.lengths.tolist(), rollout.finished.tolist(), strict=True)]

        with progress(f"Responses of {name}", len(problems), "problem") as advance:
            rows = [row for made in shared(problems, write, advance, how.batch) for row in made]
        models.append(Responses(name, [tokens for tokens, _ in rows], [finished for _, finished in rows]))
    chosen = {
        "from": "sampled",
        "seed": settings.seed,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "samples": 1,
    }
    return record(models, subject.references(), task, how.max_new_tokens, chosen, start)
