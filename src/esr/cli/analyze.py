"""`esr analyze`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.results import Estimate, Profile
from esr.rundir import open_run

app = typer.Typer(no_args_is_help=True, help="Analyses of a run; each writes one JSON record into RUN/analysis/.")


@app.callback()
def analyze() -> None:
    """Analyses of a run; each writes one JSON record into RUN/analysis/."""


@app.command("profile")
def profile(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    step: Annotated[int | None, typer.Option(help="Checkpoint; default: the last.")] = None,
    problems: Annotated[int, typer.Option(min=2, help="Held-out prompts, one response each.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length cap of the responses.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the responses.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Divergence by position before and after training, on common and on own responses.

    Example: `esr analyze profile runs/smollm2 --problems 48`
    """
    directory = open_run(run)

    from esr.analysis import profile as analysis
    from esr.analysis.open import held_out
    from esr.analysis.open import open_run as load_run
    from esr.sampling import Sampler

    opened = load_run(directory, step)
    config, pair = opened.config, opened.pair
    prompts, source = held_out(config, problems)
    sampler = Sampler(
        max_new_tokens, pair.terminators, config.rollout.temperature, config.rollout.top_p, config.rollout.top_k
    )
    record = analysis.compute(
        opened.before, opened.after, opened.teacher, prompts, sampler, pair.events(config.loss.merge_terminators),
        config.rollout.max_new_tokens, opened.step, seed, source,
    )  # fmt: skip
    file = directory.save_analysis("profile", record)
    if json:
        show.emit(record.model_dump())
    else:
        profile_table(record)
        show.out.print(f"Record: {file}", markup=False)


def nats(estimate: Estimate | None) -> str:
    """`0.31 [0.28, 0.34]`."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate else "-"


def profile_table(record: Profile) -> None:
    """Reverse KL by bin for each curve, and the paired change inside and beyond the window."""
    title = f"Reverse KL by position, nats [95% interval by response]; {record.problems} held-out prompts of {record.prompts}"
    table = Table(title=title, title_justify="left")
    table.add_column("positions")
    curves = [c for c in record.curves if (c.model, c.trajectories) != ("before", "own")]
    for curve in curves:
        table.add_column(f"{curve.model}, {curve.trajectories} responses", justify="right")
    table.add_column("tokens (common)", justify="right")
    for i, first in enumerate(curves[0].bins):
        cells = [nats(c.bins[i].reverse_kl) if i < len(c.bins) else "-" for c in curves]
        table.add_row(f"{first.start}-{first.end - 1 if first.end else ''}", *cells, f"{first.tokens:,}")
    show.out.print(table)
    n = record.trained_window
    show.out.print(
        f"Change on common responses: first {n} positions {nats(record.inside)}; beyond {nats(record.beyond)}."
    )
