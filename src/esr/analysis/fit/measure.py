"""The check's measurements: a probe of the untrained pair, pilots that are not kept, and what the teacher makes of them.

Everything is measured on the same problems with the same random numbers, one response each, so that differences are paired.
Parts are kept as they are known; pilots train in run directories beside them. A check that was stopped goes on.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from esr import configfile, intervals, tasks
from esr.analysis import continuation
from esr.analysis.continuation import Continuations, Head, numbers
from esr.analysis.fit.verdict import WORTH, expected, judge
from esr.analysis.models import Models
from esr.analysis.profile import bins, share_first
from esr.analysis.responses import batches, score, training_sampler
from esr.analysis.subject import Subject
from esr.config import FULL_ROLLOUT_CAP, Config, EvalConfig
from esr.console import progress, say
from esr.models.checkpoint import load_trained
from esr.models.lm import LM
from esr.prepare import Prepared, prepare
from esr.problems import Chosen
from esr.records.base import Estimate
from esr.records.fit import Cost, Fit, FitSettings, Handover, Pilot
from esr.records.problem import Problem
from esr.records.profile import PositionBin
from esr.runs.parts import Parts
from esr.runs.rundir import RunDir
from esr.train import carry_out

ROUNDS = 8
"""Blocks of problems that a budget may buy."""
SCORED = 16
"""Responses on which the divergence is measured."""
FULL_STEPS = 2
"""Steps of full rollouts, for their cost alone."""

Graded = dict[str, list[float]]
"""Grades of each problem's response, by its id."""


@dataclass(frozen=True)
class Check:
    """A check at work."""

    subject: Subject
    settings: FitSettings
    problems: Sequence[Problem]
    block: int
    """Problems in a round; a multiple of the batch."""
    how: EvalConfig
    kept: Parts

    @property
    def lengths(self) -> list[int]:
        """The N that leave something to continue."""
        return [n for n in self.settings.lengths if n < self.how.max_new_tokens]

    def work(self, count: int, advance: Any) -> Continuations:
        """On the first `count` problems."""
        return Continuations(self.problems[:count], self.how, self.settings.seed, self.kept, advance)

    def own(self, work: Continuations, name: str, lm: LM) -> list[Head]:
        """Whole responses."""
        return work.heads(f"{name} writes", lm, self.how.max_new_tokens, 1)

    def graded(self, heads: Sequence[Head]) -> Graded:
        return {self.problems[h.problem].id: numbers([h.right]) for h in heads}


def compute(subject: Subject, settings: FitSettings) -> Fit:
    """The record. Raises `UserError` for whatever a run with this configuration would be refused for."""
    plan, models = prepare(subject.config), subject.models
    check, apart = begin(subject, settings)
    probed = probe(check, models)
    pilots: list[Pilot] = []
    full, count = None, check.block
    student, teacher, gap = sides(check, models, count)
    if settings.pilot and gap.high >= WORTH:
        full = train_pilots(check, plan)
        pilots = [pilot(check, models, n, count) for n in check.lengths]
    verdict = judge(student, gap, probed["reach"], pilots, full)
    while verdict.answer == "cannot tell" and pilots and more(check, count):
        count += check.block
        student, teacher, gap = sides(check, models, count)
        pilots = [pilot(check, models, n, count) for n in check.lengths]
        verdict = judge(student, gap, probed["reach"], pilots, full)
    shutil.rmtree(folder(check).path, ignore_errors=True)
    return Fit(
        models=subject.references("student", "teacher"),
        task=tasks.describe(check.how),
        problems=count,
        apart=apart,
        settings={**settings.model_dump(), **check.how.settings(), "config": trained_with(subject.config)},
        seconds=continuation.seconds(check.kept),
        student=student,
        teacher=teacher,
        gap=gap,
        full=full,
        pilots=pilots,
        verdict=verdict,
        **probed,
    )


def begin(subject: Subject, settings: FitSettings) -> tuple[Check, bool]:
    """The problems, and what an earlier session has measured on them."""
    how = subject.evaluation()
    how = how.model_copy(update={"batch_size": min(how.batch, settings.problems)})
    block = -(-settings.problems // how.batch) * how.batch
    problems, apart = subject.apart(block * (ROUNDS if settings.budget else 1))
    choices = settings.model_dump(exclude={"budget"})
    depends = {
        **choices,
        "eval": how.settings(),
        "config": trained_with(subject.config),
        "ids": [p.id for p in problems[:block]],
    }
    return Check(
        subject, settings, problems, min(block, len(problems)), how, Parts(subject.directory, "fit", depends)
    ), apart


def trained_with(config: Config) -> dict[str, Any]:
    """What a recommendation holds for: the configuration, but for N, the evaluation and the place."""
    return config.model_dump(exclude={"run": True, "eval": True, "rollout": {"max_new_tokens"}})


def more(check: Check, count: int) -> bool:
    """Whether the budget lasts for another block, at the cost of those before, and there is one."""
    spent = continuation.seconds(check.kept)
    budget = 60 * (check.settings.budget or 0)
    return spent * (count + check.block) / count <= budget and count + check.block <= len(check.problems)


def sides(check: Check, models: Models, count: int) -> tuple[Estimate, Estimate, Estimate]:
    """Accuracy of student and teacher, and the paired gap."""
    with progress("Student and teacher", 2 * count, "response") as advance:
        work = check.work(count, advance)
        ours, theirs = (check.graded(check.own(work, *side)) for side in named(models))
    return accuracy(ours), accuracy(theirs), intervals.paired_difference(theirs, ours)


def named(models: Models) -> tuple[tuple[str, LM], tuple[str, LM]]:
    return ("student", models.before), ("teacher", models.teacher)


def probe(check: Check, models: Models) -> dict[str, Any]:
    """What the untrained pair shows: fields of the record."""
    with progress("Probe", (2 + 2 * len(check.lengths)) * check.block, "response") as advance:
        work = check.work(check.block, advance)
        (student, teacher), lms = [check.own(work, *side) for side in named(models)], named(models)
        decay = [handover(check, work, student, teacher, lms[1], k) for k in check.lengths]
        reach = [handover(check, work, teacher, student, lms[0], k) for k in check.lengths]
    scored = divergence(check, models)
    tokens = {name: quantiles(heads) for (name, _), heads in zip(lms, (student, teacher), strict=True)}
    return {"decay": decay, "reach": reach, "tokens": tokens, **scored}


def handover(
    check: Check, work: Continuations, begun: Sequence[Head], alone: Sequence[Head], side: tuple[str, LM], k: int
) -> Handover:
    """`side` goes on after the first k tokens of `begun`, against its own responses `alone`."""
    (name, lm), pair = side, check.subject.pair
    carry = pair.carry("teacher", "student") if name == "student" else pair.carry("student", "teacher")
    tails = work.tails(f"{name} after {k} tokens of the other", lm, begun, k, 1, carry)
    found = {check.problems[h.problem].id: numbers(t) for h, t in zip(begun, tails, strict=True) if not h.ended(k)}
    found, own = {i: g for i, g in found.items() if g}, check.graded(alone)
    finished = sum(h.ended(k) for h in begun)
    return Handover(
        k=k,
        continued=len(begun) - finished,
        finished=finished,
        avg=accuracy(found) if len(found) > 1 else None,
        gain=intervals.paired_difference(found, own) if len(found) > 1 else None,
    )


def divergence(check: Check, models: Models) -> dict[str, Any]:
    """Divergence by position on the student's responses, sampled as in training but whole."""
    value: Any = check.kept.get("divergence")
    if value is None:
        problems = check.problems[: min(SCORED, check.block)]
        sampler = training_sampler(check.subject, check.how.max_new_tokens)
        found = batches(models.before, problems, sampler, check.settings.seed)
        scored = [score(models.before, models.teacher, *batch, check.subject.events) for batch in found]
        value = {"bins": [b.model_dump() for b in bins(scored)], "share_first": share_first(scored), "seconds": 0.0}
        check.kept.put("divergence", value)
    return {"bins": [PositionBin.model_validate(b) for b in value["bins"]], "share_first": value["share_first"]}


def quantiles(heads: Sequence[Head]) -> dict[str, float]:
    lengths = [len(h.ids) for h in heads]
    return {f"p{q}": float(np.quantile(lengths, q / 100)) for q in (50, 90)}


def accuracy(graded: Graded) -> Estimate:
    return intervals.accuracy(list(graded.values()))


def folder(check: Check, name: str = "") -> RunDir:
    """Where pilots train, until the record is made."""
    return RunDir(check.subject.directory.path / "pilots" / name)


def train_pilots(check: Check, plan: Prepared) -> Cost:
    """Train a pilot at each N, and for the cost a step or two of full rollouts, which are returned."""
    cap, steps = min(FULL_ROLLOUT_CAP, check.how.max_new_tokens), check.settings.pilot
    for n, length in [*((n, steps) for n in check.lengths), (cap, min(FULL_STEPS, steps))]:
        run, config = folder(check, str(n)), pilot_config(plan.config, n, length)
        if not run.complete(config):
            say(f"Pilot: {length} steps at N = {n}.")
            carry_out(replace(plan, config=config, measured=Chosen([])), run)
    return cost(folder(check, str(cap)), cap)


def pilot_config(config: Config, n: int, steps: int) -> Config:
    """The configuration with another N, `steps` steps of a whole schedule of their own, and nothing but training."""
    changes = {
        "rollout.max_new_tokens": n,
        "rollout.horizon": {"policy": "fixed", "start": 1},
        "optim.steps": steps,
        "optim.max_tokens": None,
        "optim.max_seconds": None,
        "eval": None,
        "run.checkpoint_every": max(1, steps // 2),
        "run.trackers": [],
    }
    return configfile.validate(configfile.merge(config.model_dump(), changes.items()), where="pilot")


def cost(run: RunDir, n: int) -> Cost:
    """Of a step, the first one left out."""
    rows = run.metrics()
    times = [row["time/step"] for row in rows[1:] or rows]
    return Cost(n=n, seconds=float(np.mean(times)), peak_gib=max(row["memory/peak_gib"] for row in rows))


def pilot(check: Check, models: Models, n: int, count: int) -> Pilot:
    """What a trained pilot reaches, and what the teacher makes of its first N tokens."""
    steps, run, config = check.settings.pilot, folder(check, str(n)), check.subject.config
    stops, device = models.pair.stops[0], models.before.device
    with progress(f"Pilot at N = {n}", 3 * count, "response") as advance:
        work = check.work(count, advance)
        student, teacher = (check.graded(check.own(work, *side)) for side in named(models))
        halfway, trained = (
            check.own(work, f"pilot {n}/{at}", load_trained(config, run.find_checkpoint(at), device, stops))
            for at in (max(1, steps // 2), steps)
        )
        tails = work.tails(
            f"teacher after pilot {n}", models.teacher, trained, n, 1, models.pair.carry("student", "teacher")
        )
    own = check.graded(trained)
    passed = {i: numbers(t) if not h.ended(n) else own[i] for i, h, t in zip(own, trained, tails, strict=True)}
    half, last, start = accuracy(check.graded(halfway)), accuracy(own), accuracy(student)
    return Pilot(
        n=n,
        steps=steps,
        half=half,
        last=last,
        gain=intervals.paired_difference(own, student),
        expected=expected(start.value, half.value, last, steps, config.optim.steps),
        after=intervals.paired_difference(passed, own),
        within=intervals.paired_difference(teacher, passed),
        cost=cost(run, n),
    )
