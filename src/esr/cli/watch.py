"""`esr watch`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show
from esr.console import say


def watch(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    every: Annotated[float, typer.Option(min=1, help="Seconds between two versions of the page.")] = 15,
) -> None:
    """Write RUN/report.html again and again while the run goes on; the open page reloads itself.

    Ends when the run is complete, or with Ctrl-C. Example: `esr watch runs/lab --every 10`
    """
    from esr.runs.rundir import open_run

    open_run(run)
    page = run / "report.html"
    try:
        complete = write(run, page, every)
        show.out.print(str(page), soft_wrap=True)
        while not complete:
            time.sleep(every)
            complete = write(run, page, every)
    except KeyboardInterrupt:
        write(run, page, None)
    say(f"{page} is the last version.")


def write(run: Path, page: Path, every: float | None) -> bool:
    """One version of the page; returns whether the run is complete, in which case the page no longer reloads itself."""
    from esr.report import sources as data
    from esr.report.page import render
    from esr.runs.files import writable, write_text

    found = data.load([run])
    complete = all(r.complete for r in found.runs)
    with writable(page):
        write_text(page, render(found, refresh=None if complete or every is None else max(1, round(every))))
    return complete
