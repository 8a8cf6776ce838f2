"""The arguments that all analyses share, and how they end."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from esr.cli import show
from esr.records.base import Estimate, Record
from esr.runs.rundir import RunDir

R = TypeVar("R", bound=Record)

Target = Annotated[
    str, typer.Argument(help="Run directory, config file, or the student's model reference.", show_default=False)
]
Teacher = Annotated[
    str | None, typer.Argument(help="The teacher's model reference, if TARGET is a student's.", show_default=False)
]
Task = Annotated[str | None, typer.Option(help="Source of problems for two model references, such as math500.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint; default: the last.")]
Problems = Annotated[int | None, typer.Option(min=2, help="Problems; default: see --quick.")]
Seed = Annotated[int, typer.Option(help="Seed of the responses.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer problems and points: a first look in a minute or two.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
Others = Annotated[
    list[Path] | None, typer.Option("--with", help="Another run of the same pair beside this one; may be repeated.")
]


def finish(directory: RunDir, name: str, record: R, as_json: bool, table: Callable[[R], None]) -> None:
    """Keep the record; print it as a table, or as JSON."""
    file = directory.save_analysis(name, record)
    if as_json:
        show.emit(record.model_dump())
    else:
        table(record)
        show.out.print(f"Record: {file}", markup=False, soft_wrap=True)


def nats(estimate: Estimate | None) -> str:
    """`0.312 [0.281, 0.343]`."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate else "-"
