"""`esr watch`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show
from esr.console import say

IDLE = 2
"""Looks in a row at which no process works on a run before it counts as stopped."""


def watch(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    every: Annotated[float, typer.Option(min=1, help="Seconds between two versions of the page.")] = 15,
) -> None:
    """Write RUN/report.html again and again while the run goes on; the open page reloads itself.

    Ends when the run is complete or has been stopped, or with Ctrl-C. Example: `esr watch runs/lab --every 10`
    """
    from esr.runs.rundir import open_run

    directory = open_run(run)
    page = run / "report.html"
    try:
        complete = write(run, page, every)
        show.out.print(str(page), soft_wrap=True)
        idle = 0
        while not complete and idle < IDLE:
            time.sleep(every)
            idle = 0 if directory.in_use() else idle + 1
            complete = write(run, page, None if idle == IDLE else every)
        if not complete:
            say(f"No process works on {run} any more; `esr train {run}` goes on with it.")
    except KeyboardInterrupt:
        write(run, page, None)
    say(f"{page} is the last version.")


def write(run: Path, page: Path, every: float | None) -> bool:
    """One version of the page; returns whether the run is complete, in which case the page no longer reloads itself."""
    from esr.report import sources as data
    from esr.report.page import render
    from esr.runs.files import write_page

    found = data.load([run])
    complete = all(r.complete for r in found.runs)
    write_page(page, render(found, refresh=None if complete or every is None else max(1, round(every))))
    return complete
