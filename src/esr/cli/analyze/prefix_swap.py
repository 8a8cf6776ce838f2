"""`esr analyze prefix-swap`."""

from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.cli.analyze.options import Json, Problems, Quick, Seed, Step, Target, finish
from esr.records.prefix_swap import PrefixSwap


def prefix_swap(
    target: Target,
    step: Step = None,
    problems: Problems = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Responses to each problem; default: 4, quick: 2.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Tokens of the prefix; default: the run's N.")] = None,
    seed: Seed = 1,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Is the gain in the first N tokens? Untrained and trained student continue each other (200 problems; quick: 40).

    Example: `esr analyze prefix-swap runs/smollm2 --problems 100`
    """
    from esr.analysis import prefix_swap as analysis
    from esr.analysis.parts import parts
    from esr.analysis.subject import graded, open_subject

    subject = open_subject(target, None, None, step, needs="training")
    after = subject.trained("the prefix swap needs one that was trained.")
    tasks, source, settings = graded(subject.config, problems or (40 if quick else 200))
    n, samples = n or subject.config.rollout.max_new_tokens, samples or (2 if quick else 4)
    chosen = analysis.choices(settings, n, samples, seed)
    models = {role: name for role, name in subject.models.items() if role != "teacher"}
    depends = {**chosen, "models": models, "task": source, "batch": settings.batch_size, "ids": [p.id for p in tasks]}
    with parts(subject.directory, "prefix-swap", depends) as kept:
        record = analysis.compute(
            subject.before, after, tasks, settings, subject.pair.terminators, n, samples, chosen, (models, source), kept
        )
        finish(subject.directory, "prefix-swap", record, json, swap_table)


def swap_table(record: PrefixSwap) -> None:
    """The four conditions, and the share of the gain that the prefix brings."""
    table = Table(
        title=f"{record.task}: {record.problems} problems x {record.samples}; percent [95% interval]",
        title_justify="left",
    )
    for name in (f"first {record.n} tokens", "the rest"):
        table.add_column(name)
    for name in ("accuracy", "change, paired"):
        table.add_column(name, justify="right")
    for c in record.conditions:
        table.add_row(c.prefix, c.tail, show.pct(c.avg), show.pct(c.change, sign=True))
    show.out.print(table)
    ended = ", ".join(f"{count} of {side}" for side, count in record.finished.items())
    show.out.print(f"Finished within {record.n} tokens, and graded as they are: {ended}.")
    if record.share_in_prefix is None:
        show.out.print("The trained student's gain is not certain to be above zero, so there is no share to tell.")
    else:
        show.out.print(f"The prefix alone brings {100 * record.share_in_prefix:.0f}% of the gain.")
