"""`esr lab`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from esr.cli import show
from esr.errors import UserError
from esr.records.base import Estimate, as_text

app = typer.Typer(no_args_is_help=True, help="The lab's tiny models: list them, or build one again from its seed.")


@app.callback()
def lab() -> None:
    """The lab's tiny models: list them, or build one again from its seed."""


@app.command("list")
def list_models(json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False) -> None:
    """The shipped models with their measured scores.

    Example: `esr lab list`
    """
    from esr.lab.card import shipped

    found: dict[str, dict[str, Any]] = shipped()
    if json:
        show.emit(found)
        return
    title = "Lab models: one response to each of n test problems, temperature 0.7; percent [95% interval]"
    table = Table(title=title, title_justify="left")
    columns = (
        "model",
        "weights",
        "accuracy",
        "right strategy",
        "executes it",
        "finished",
        "tokens p10 / p50 / p90",
        "n",
    )
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=name in ("model", "accuracy"))
    for name, s in found.items():
        accuracy = as_text(Estimate(value=s["accuracy"], low=s["low"], high=s["high"], n=s["count"]))
        shares = (
            "-" if s[key] is None else f"{100 * s[key]:.1f}" for key in ("right", "accuracy_when_right", "finished")
        )
        lengths = " / ".join(map(str, s["length"]))
        table.add_row(f"lab:{name}", f"{s['parameters']:,}", accuracy, *shares, lengths, str(s["count"]))
    show.out.print(table)


@app.command("build")
def build_model(
    name: Annotated[
        str, typer.Argument(help="Model, as `esr lab list` names it (without `lab:`).", show_default=False)
    ],
    work: Annotated[Path, typer.Option(help="Where models are built; parents that are there are used.")] = Path(
        "runs/lab"
    ),
) -> None:
    """Train a lab model from its seed, and its parents before it; goes on where it was stopped.

    Example: `esr lab build base-1`
    """
    from esr.lab.build import build
    from esr.lab.recipes import RECIPES

    if name not in RECIPES:
        raise UserError(f"There is no lab model {name}; there are {', '.join(RECIPES)}.")
    show.out.print(f"Wrote {build(name, work)}.", markup=False)
