"""`esr analyze selection`."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from esr.cli import show
from esr.cli.analyze.options import Json, Problems, Quick, Seed, Step, Target, Task, Teacher, finish
from esr.records.selection import SelectionShares


def selection(
    target: Target,
    teacher: Teacher = None,
    task: Task = None,
    step: Step = None,
    problems: Problems = None,
    k: Annotated[int | None, typer.Option(min=1, help="Positions kept of each response; default: the run's N.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Length cap of the responses.")] = 640,
    seed: Seed = 1,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """What each selection of K positions keeps of the untrained student's full responses (96 problems; quick: 24).

    Example: `esr analyze selection runs/smollm2 --k 100`
    """
    from esr.analysis import selection as analysis
    from esr.analysis.subject import held_out, open_subject

    subject = open_subject(target, teacher, task, step)
    prompts, source = held_out(subject.config, problems or (24 if quick else 96))
    sampler = subject.sampler(max_new_tokens)
    record = analysis.compute(subject, prompts, source, k or subject.config.rollout.max_new_tokens, sampler, seed)
    finish(subject.directory, "selection", record, json, selection_table)


def selection_table(record: SelectionShares) -> None:
    """One row for each selection."""
    k, longer = record.settings["k"], record.settings["responses_longer_than_k"]
    title = (
        f"Reverse KL (nats) kept at K = {k} positions of {record.responses} responses to {record.task}; "
        f"{longer} are longer than K"
    )
    table = Table(title=title, title_justify="left")
    for name in ("selection", "share of KL, %", "mean KL", "position", "in first K", "often kept"):
        left = name in ("selection", "often kept")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "selection")
    for row in record.selections:
        often = " ".join(repr(t.token)[1:-1] for t in row.tokens[:6])
        shared = "-" if row.by == "first" else f"{100 * row.overlap['first']:.0f}%"
        cells = show.pct(row.share_of_kl), f"{row.mean_kl:.3f}", f"{row.mean_position:.0f}", shared
        table.add_row(row.by, *cells, Text(often))
    show.out.print(table)
    if not longer:
        show.out.print("No response is longer than K, so every selection keeps everything; choose a smaller --k.")
