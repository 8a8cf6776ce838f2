"""`esr export`."""

from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show
from esr.console import loading
from esr.runs.rundir import open_run


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Directory to create.", show_default=False)],
    step: Annotated[int | None, typer.Option(help="Checkpoint to export; default: the last.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Export the PEFT adapter instead of a merged model.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the trained student as a model directory with a model card.

    Example: `esr export runs/smollm2 models/my-student`
    """
    directory = open_run(run)

    loading()
    from esr.export import export as export_run

    kind = "adapter" if adapter else "merged"
    target = export_run(directory, out, step, kind)
    if json:
        show.emit({"path": str(target), "kind": kind})
    else:
        show.out.print(
            f"Wrote {target} ({kind}). Its README.md states the recipe and the measured results.", markup=False
        )
