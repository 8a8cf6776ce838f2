"""`esr analyze profile`."""

from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.cli.analyze.options import Json, Problems, Quick, Seed, Step, Target, Task, Teacher, finish, nats
from esr.results import Profile


def profile(
    target: Target,
    teacher: Teacher = None,
    task: Task = None,
    step: Step = None,
    problems: Problems = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length cap of the responses.")] = 640,
    seed: Seed = 1,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Divergence by position before and after training, on common and on own responses (64 problems; quick: 24).

    Example: `esr analyze profile runs/smollm2 --problems 48`
    """
    from esr.analysis import profile as analysis
    from esr.analysis.open import held_out, open_subject

    subject = open_subject(target, teacher, task, step)
    config = subject.config
    prompts, source = held_out(config, problems or (24 if quick else 64))
    record = analysis.compute(
        subject.before, subject.trained("the profile compares before and after."), subject.teacher, prompts,
        subject.sampler(max_new_tokens), subject.pair.events(config.loss.merge_terminators),
        config.rollout.max_new_tokens, subject.step, seed, source,
    )  # fmt: skip
    finish(subject.directory, "profile", record, json, profile_table)


def profile_table(record: Profile) -> None:
    """Reverse KL by bin for each curve, and the paired change inside and beyond the window."""
    title = f"Reverse KL by position, nats [95% interval by response]; {record.problems} held-out prompts of {record.prompts}"
    table = Table(title=title, title_justify="left")
    table.add_column("positions")
    curves = [c for c in record.curves if (c.model, c.trajectories) != ("before", "own")]
    for curve in curves:
        table.add_column(f"{curve.model}, {curve.trajectories} responses", justify="right")
    table.add_column("tokens (common)", justify="right")
    for i, first in enumerate(curves[0].bins):
        cells = [nats(c.bins[i].reverse_kl) if i < len(c.bins) else "-" for c in curves]
        table.add_row(f"{first.start}-{first.end - 1 if first.end else ''}", *cells, f"{first.tokens:,}")
    show.out.print(table)
    n = record.trained_window
    show.out.print(
        f"Change on common responses: first {n} positions {nats(record.inside)}; beyond {nats(record.beyond)}."
    )
