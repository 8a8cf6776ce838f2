"""`esr analyze`: one file for each analysis."""

import typer

from esr.cli.analyze import decay, efficiency, lengths, prefix_swap, profile, rollouts, selection, submode

app = typer.Typer(
    no_args_is_help=True, help="Analyses of a run or of a pair; each writes one record into RUN/analysis/."
)
app.command("profile")(profile.profile)
app.command("lengths")(lengths.lengths)
app.command("efficiency")(efficiency.efficiency)
app.command("decay")(decay.decay)
app.command("prefix-swap")(prefix_swap.prefix_swap)
app.command("selection")(selection.selection)
app.command("submode")(submode.submode)
app.command("rollouts")(rollouts.rollouts)


@app.callback()
def analyze() -> None:
    """Analyses of a run or of a pair; each writes one record into RUN/analysis/."""
