"""`esr train`."""

from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show
from esr.configfile import load
from esr.console import loading
from esr.runs.places import run_directory
from esr.runs.rundir import RunDir
from esr.runs.trust import from_file


def train(
    config: Annotated[Path, typer.Argument(help="YAML file (or a run's config.json).", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, for example rollout.max_new_tokens=50.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run aside and start anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Distil a student. The same command again goes on with a run that was stopped.

    Example: `esr train configs/qwen2.5-math-1.5b.yaml rollout.max_new_tokens=50 run.dir=runs/n50`
    """
    settings = from_file(load(config, overrides or []), config)
    run = RunDir(run_directory(settings, config))

    loading()
    from esr.train import train as train_run

    train_run(settings, run, fresh)
    show.run_summary(run, as_json=json)
