"""Measure a lab model with the package's own sampler and grader: accuracy, strategy, style, finish rate, length."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, quantiles

import torch

from esr import intervals, tasks
from esr.config import EvalConfig, ModelConfig
from esr.evaluation.graded import graded_responses
from esr.models import terminators
from esr.models.load import load_model, load_tokenizer
from esr.records.evaluation import Sample
from esr.tasks.lab import plan_of

CAP = 900  # tokens; longer than any solution in the data
PARALLEL = 250  # responses sampled together
TEST_SEED = 7  # of the test problems that every shipped model is measured on


@dataclass(frozen=True)
class Scores:
    """Shares are of ``count`` problems, one sample each; lengths are in tokens, terminator included."""

    count: int
    accuracy: float
    low: float  # 95% interval of the accuracy
    high: float
    finished: float
    right: float  # committed to the right strategy
    accuracy_when_right: float | None  # how well it executes; None if it never committed to the right one
    concise: float
    length: tuple[int, int, int]  # 10th, 50th and 90th percentile

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def measure(folder: Path, *, count: int, seed: int = 0) -> Scores:
    """One response to each of `count` test problems at the lab's usual temperature 0.7, top-p 0.95, graded."""
    settings = EvalConfig(
        source="lab:arithmetic",
        size=count,
        seed=TEST_SEED,
        samples=1,
        max_new_tokens=CAP,
        top_p=0.95,
        batch_size=PARALLEL,
    )
    config = ModelConfig(model=str(folder))
    tokenizer = load_tokenizer(config)
    ends = terminators.of_model(tokenizer, config)
    lm = load_model(config, torch.device("cpu"), ends)
    problems = tasks.load(settings, "eval", need_answer=True).problems
    return score(graded_responses(lm, problems, settings, ends, seed, f"Measuring {folder.name}"))


def score(samples: list[Sample]) -> Scores:
    """Summarise graded responses, one to each problem."""
    plans = [plan_of(s.text) or (None, None) for s in samples]
    correct = [bool(s.grade.last) for s in samples]
    when_right = [good for good, plan in zip(correct, plans, strict=True) if plan[1] == "right"]
    accuracy = intervals.accuracy([[float(good)] for good in correct])
    tenths = quantiles((s.tokens for s in samples), n=10, method="inclusive")
    return Scores(
        count=len(samples),
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        finished=fmean(s.finished for s in samples),
        right=fmean(plan[1] == "right" for plan in plans),
        accuracy_when_right=fmean(when_right) if when_right else None,
        concise=fmean(plan[0] == "concise" for plan in plans),
        length=(round(tenths[0]), round(tenths[4]), round(tenths[8])),
    )
