"""`esr analyze`: one file for each analysis."""

import typer

from esr.cli.analyze import profile

app = typer.Typer(
    no_args_is_help=True, help="Analyses of a run or of a pair; each writes one record into RUN/analysis/."
)
app.command("profile")(profile.profile)


@app.callback()
def analyze() -> None:
    """Analyses of a run or of a pair; each writes one record into RUN/analysis/."""
