"""Pilots: a few steps of ESR at each N, never kept; what they reach, and what the teacher makes of their first N tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from esr.analysis import continuation
from esr.analysis.continuation import Cut, Graded, continued, own_grades, with_finished
from esr.analysis.fit.check import Check, going_on, writing
from esr.config import FULL_ROLLOUT_CAP, Config, configfile
from esr.console import duration, progress, say
from esr.errors import OutOfMemory
from esr.models.checkpoint import load_trained
from esr.models.lm import LM
from esr.prepare import Prepared
from esr.ranks import here
from esr.records.fit import Cost
from esr.tasks.problems import Chosen
from esr.train import carry_out

FULL_STEPS = 1
"""Steps of full rollouts, for their cost alone."""


class PilotGrades(NamedTuple):
    """What shows how far a pilot came, by problem."""

    own: Graded
    """The pilot's responses."""
    passed: Graded
    """The teacher's continuations of their first N tokens; what had ended counts with its own grade."""
    reach: list[Graded]
    """The untrained student's continuations of the teacher's first tokens, for each k up to N, on some of the problems, and not of
    what had ended."""


def train(check: Check, plan: Prepared) -> Cost | None:
    """Train a pilot at each N, and for the cost a step of full rollouts, which is returned; None if that does not fit in memory."""
    cap, full = full_length(check), True
    for n in check.lengths:
        pilot(check, plan, n, check.steps)
        if n == check.lengths[0] and here().first:
            foretell(check)
    try:
        pilot(check, plan, cap, FULL_STEPS)
    except OutOfMemory as error:
        say(f"Full rollouts do not fit: {error}")
        full = False
    here().gather(None)  # rank 0 has saved what all will load
    return cost(check, cap) if full else None


def pilot(check: Check, plan: Prepared, n: int, steps: int) -> None:
    """A few steps at one N, if they were not taken before."""
    run, config = check.folder(str(n)), configured(plan.config, n, steps)
    if not here().of_first(run.complete(config)):
        say(f"Pilot of {steps} {'step' if steps == 1 else 'steps'} at N = {n}.")
        carry_out(replace(plan, config=config, measured=Chosen([])), run, teacher=check.models.teacher)


def foretell(check: Check) -> None:
    """Say how long the check will take, once a pilot has shown what a step costs and the probe what responses cost."""
    first, *others = check.lengths
    step = cost(check, first).seconds / first
    trained = step * (check.steps * sum(others) + FULL_STEPS * full_length(check))
    own, followed = (continuation.pace(check.kept, writing(side)) for side in ("student", "teacher"))
    batches = -(-check.block // check.how.batch)
    rest = trained + batches * len(check.lengths) * (own + 2 * followed)
    budget = check.settings.budget
    beyond = " (more than its budget: --quick, or fewer --lengths or --problems, take less)"
    say(f"The check will take about {duration(rest)} more{beyond if budget and rest > 60 * budget else ''}.")


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


def stages(n: int) -> tuple[str, str]:
    """In which a pilot is measured."""
    return writing(f"pilot {n}"), f"teacher after pilot {n}"


def measure(check: Check, lengths: Sequence[int], count: int) -> dict[int, PilotGrades]:
    """The pilots at some N on the first `count` problems. The teacher goes on after the beginnings of all at once, and in the
    first round, along with them, after the untrained student's, as its decay wants."""
    models, problems, cap = check.models, check.problems, check.how.max_new_tokens
    along = lengths if count == check.block else []
    with progress("Pilots", count * (2 * len(lengths) + len(along)), "response") as advance:
        work, few = check.work(count, advance), check.few(advance)
        own = {n: work.heads(stages(n)[0], student(check, n), cap, 1) for n in lengths}
        untrained, teacher = check.own(work, "student"), check.own(work, "teacher")[: len(few.problems)]
        passed = [Cut(stages(n)[1], own[n], n) for n in lengths]
        begun = [Cut(going_on("teacher", n), untrained, n) for n in along]
        tails = work.tails_of(models.teacher, [*passed, *begun], carry=models.pair.carry("student", "teacher"))
        carried_on = check.handed_over(few, "student", teacher, check.lengths)
    reach = {k: continued(teacher, tail, k, problems) for k, tail in zip(check.lengths, carried_on, strict=True)}
    return {
        n: PilotGrades(
            own_grades(own[n], problems),
            with_finished(own[n], tails[i], problems),
            [reach[k] for k in check.lengths if k <= n],
        )
        for i, n in enumerate(lengths)
    }


def student(check: Check, n: int) -> LM:
    """That of a pilot, trained."""
    models, saved = check.models, check.folder(str(n)).find_checkpoint(None)
    return load_trained(check.subject.config, saved, models.before.device, models.pair.stops[0])
