"""`esr export`."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from esr.cli import show
from esr.console import loading
from esr.errors import UserError
from esr.runs.abroad import Abroad, write
from esr.runs.rundir import RunDir, open_run


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Directory to create.", show_default=False)],
    step: Annotated[int | None, typer.Option(help="Checkpoint to export; default: the last.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Export the PEFT adapter instead of a merged model.")
    ] = False,
    evals: Annotated[
        str | None, typer.Option(help="Write the run's evaluations instead, as `lm-eval` or `inspect` has them.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the trained student as a model directory with a model card, or what a run was measured to, for other tools.

    Example: `esr export runs/smollm2 models/my-student`
    """
    directory = open_run(run)
    if evals is not None:
        export_evaluations(directory, out, evals, json)
        return

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


def export_evaluations(directory: RunDir, out: Path, kind: str, as_json: bool) -> None:
    """All evaluations of a run in another harness's files. Raises `UserError` if there is none, or no such harness."""
    from esr.problems import asked

    if kind not in get_args(Abroad):
        raise UserError(f"--evals {kind}: choose {' or '.join(get_args(Abroad))}.")
    found = directory.evaluations()
    if not found:
        raise UserError(f"{directory.path} has no evaluation; make one with `esr eval {directory.path}`.")
    how, config = cast(Abroad, kind), directory.config()
    files = [file for e in found for file in write(how, out, e, directory.responses(e.name), asked(config, e))]
    if as_json:
        show.emit({"files": list(map(str, files)), "kind": kind})
    else:
        show.out.print(f"Wrote {len(files)} files of {len(found)} evaluations to {out}.", markup=False)
