"""`esr compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.console import say
from esr.records.base import as_text
from esr.records.closeness import MEASURES
from esr.records.comparison import Comparison
from esr.runs.comparing import compare as compare_runs
from esr.runs.rundir import open_run


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories; the first is the reference.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write a page with the runs side by side.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare finished runs: accuracy after the last step, and differences paired by problem.

    Example: `esr compare runs/smollm2-full runs/smollm2 -o comparison.html`
    """
    found = compare_runs([open_run(path) for path in runs])
    if output:
        write(found, runs, output)
    if json:
        show.emit(found.model_dump())
    else:
        comparison_table(found)
        if found.runs[0].closeness:
            closeness_table(found)


def closeness_table(found: Comparison) -> None:
    """One row a measure of a task without references, one column a run; differences from the first run behind."""
    table = Table(title="Measures, means over prompts [95% interval]; then the paired difference", title_justify="left")
    for name in ("measure", *(row.run for row in found.runs)):
        table.add_column(name, overflow="fold")
    for measure, (words, form) in MEASURES.items():
        cells = []
        for row in found.runs:
            change = as_text(row.closer[measure], form, sign=True) if measure in row.closer else ""
            cells.append(f"{as_text(row.closeness.get(measure), form)}\n{change}".strip())
        table.add_row(words, *cells)
    show.out.print(table)


def write(found: Comparison, runs: list[Path], page: Path) -> None:
    """The page of a comparison."""
    from dataclasses import replace

    from esr.report.page import render
    from esr.report.sources import load
    from esr.runs.files import write_page

    write_page(page, render(replace(load(runs), comparison=found)))
    say(f"{page} has the runs side by side.")


def comparison_table(found: Comparison) -> None:
    """One row a run, then what the pairing rests on."""
    first = found.runs[0]
    table = Table(
        title=f"{found.task}: avg@{found.samples}, percent [95% interval by problem]; differences from {first.run}",
        title_justify="left",
    )
    for name in ("run", "accuracy", "difference, paired", "problems paired", "what differs"):
        table.add_column(name, overflow="fold")
    for row in found.runs:
        paired = "" if row is first else str(row.common)
        table.add_row(
            row.run,
            as_text(row.avg),
            as_text(row.difference, sign=True) if row is not first else "",
            paired,
            ", ".join(row.differs),
        )
    show.out.print(table)
    for row in found.runs[1:]:
        if row.left_out:
            show.out.print(
                f"{row.run}: {row.left_out} problems that only one of the two graded are left out.", soft_wrap=True
            )
        if not row.same_numbers:
            show.out.print(
                f"{row.run}: sampled with other random numbers (another run.seed, or servers that draw their own); paired by "
                "problem alone, so the interval is wider.",
                soft_wrap=True,
            )
    show.out.print(
        "One training seed each: intervals cover the problems, not what another seed would give; `esr study` covers both.",
        soft_wrap=True,
    )
