"""Pilots: a few steps of ESR at each N, never kept; what they reach, what the teacher makes of their first N tokens, and how far
they still are from it there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from esr import configfile
from esr.analysis.continuation import Continuations, Cut, Graded, Head, as_rollout, own_grades, with_finished
from esr.analysis.fit.check import Check, writing
from esr.analysis.fit.extrapolate import Values
from esr.analysis.responses import score
from esr.config import FULL_ROLLOUT_CAP, Config
from esr.console import progress, say
from esr.models.checkpoint import load_trained
from esr.models.lm import LM
from esr.prepare import Prepared
from esr.problems import Chosen
from esr.ranks import here
from esr.records.fit import Cost
from esr.train import carry_out

FULL_STEPS = 1
"""Steps of full rollouts, for their cost alone."""


class PilotGrades(NamedTuple):
    """What shows how far a pilot came, by problem."""

    own: Graded
    """The pilot's responses."""
    passed: Graded
    """The teacher's continuations of their first N tokens; what had ended counts with its own grade."""
    reach: Graded
    """The untrained student's continuations of the teacher's first N tokens, on some of the problems; what had ended counts with
    the teacher's grade."""
    before: Values
    """Reverse KL in nats of a token, the mean over the first N of the untrained student's response."""
    left: Values
    """The same for the pilot's."""


def train(check: Check, plan: Prepared) -> Cost:
    """Train a pilot at each N, and for the cost a step of full rollouts, which is returned."""
    cap = full_length(check)
    for n, steps in [*((n, check.steps) for n in check.lengths), (cap, FULL_STEPS)]:
        run, config = check.folder(str(n)), configured(plan.config, n, steps)
        if not here().of_first(run.complete(config)):
            say(f"Pilot of {steps} {'step' if steps == 1 else 'steps'} at N = {n}.")
            carry_out(replace(plan, config=config, measured=Chosen([])), run, teacher=check.models.teacher)
    here().gather(None)  # rank 0 has saved what all will load
    return cost(check, cap)


def full_length(check: Check) -> int:
    """The cap of full rollouts, in tokens."""
    return min(FULL_ROLLOUT_CAP, check.how.max_new_tokens)


def configured(config: Config, n: int, steps: int) -> Config:
    """The configuration with another N, `steps` steps of a whole schedule of their own, and nothing but training."""
    changes = {
        "rollout.max_new_tokens": n,
        "rollout.horizon": {"policy": "fixed", "start": 1},
        "optim.steps": steps,
        "optim.max_tokens": None,
        "optim.max_seconds": None,
        "eval": None,
        "run.trackers": [],
    }
    return configfile.validate(configfile.merge(config.model_dump(), changes.items()), where="pilot")


def cost(check: Check, n: int) -> Cost:
    """Of a step at N = n, the first one left out where there are others."""
    rows = check.folder(str(n)).metrics()
    times = [row["time/step"] for row in rows[1:] or rows]
    return Cost(n=n, seconds=float(np.mean(times)), peak_gib=max(row["memory/peak_gib"] for row in rows))


def seconds(check: Check) -> float:
    """What training the pilots has taken so far."""
    runs = [check.folder(str(n)) for n in (*check.lengths, full_length(check))]
    return sum(row["time/step"] for run in runs if run.exists() for row in run.metrics())


def stages(n: int) -> tuple[str, ...]:
    """In which a pilot is measured."""
    return writing(f"pilot {n}"), f"teacher after pilot {n}", _divergence(f"pilot {n}"), _divergence("student")


def _divergence(name: str) -> str:
    """The stage in which somebody's responses are scored."""
    return f"divergence of {name}"


def measure(check: Check, lengths: Sequence[int], count: int) -> dict[int, PilotGrades]:
    """The pilots at some N on the first `count` problems. The teacher goes on after the beginnings of all at once."""
    models, problems, cap = check.models, check.problems, check.how.max_new_tokens
    own: dict[int, list[Head]] = {}
    left: dict[int, list[list[float]]] = {}
    with progress("Pilots", count * (3 * len(lengths) + 1), "response") as advance:
        work, few = check.work(count, advance), check.few(advance)
        for n in lengths:
            pilot, (writes, _, scored, _) = student(check, n), stages(n)
            own[n] = work.heads(writes, pilot, cap, 1)
            left[n] = divergences(check, work, scored, pilot, own[n], [n])
        untrained, teacher = check.own(work, "student"), check.own(work, "teacher")[: len(few.problems)]
        before = divergences(check, work, _divergence("student"), models.before, untrained, check.lengths)
        passed = [Cut(stages(n)[1], own[n], n) for n in lengths]
        tails = work.tails_of(models.teacher, passed, carry=models.pair.carry("student", "teacher"))
        reach = check.handed_over(few, "student", teacher, lengths)
    ids = [problem.id for problem in problems[:count]]
    return {
        n: PilotGrades(
            own_grades(own[n], problems),
            with_finished(own[n], tails[i], problems),
            with_finished(teacher, reach[i], problems),
            {key: row[check.lengths.index(n)] for key, row in zip(ids, before, strict=True)},
            {key: row[0] for key, row in zip(ids, left[n], strict=True)},
        )
        for i, n in enumerate(lengths)
    }


def divergences(
    check: Check, work: Continuations, stage: str, lm: LM, heads: Sequence[Head], lengths: Sequence[int]
) -> list[list[float]]:
    """Of each response, one to a problem, the mean reverse KL of a token in the first tokens, for each of `lengths`."""

    def measure(batch: list[int]) -> list[list[float]]:
        cut = [replace(h, ids=h.ids[: max(lengths)], finished=h.ended(max(lengths))) for h in (heads[i] for i in batch)]
        rollout = as_rollout(cut, lm.device)
        scored = score(lm, check.models.teacher, [check.problems[i] for i in batch], rollout, check.subject.events)
        values, mask = scored.values("divergence"), scored.mask
        means = [(values * mask)[:, :n].sum(1) / mask[:, :n].sum(1).clamp(min=1) for n in lengths]
        return torch.stack(means, dim=1).tolist()

    return work.parts(stage, measure)


def student(check: Check, n: int) -> LM:
    """That of a pilot, trained."""
    models, saved = check.models, check.folder(str(n)).find_checkpoint(None)
    return load_trained(check.subject.config, saved, models.before.device, models.pair.stops[0])
