"""`esr train`."""

from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show
from esr.cli.check import recorded
from esr.config import Config
from esr.config.configfile import load
from esr.console import loading, say
from esr.console.foreign import brief
from esr.errors import UserError
from esr.records.fit import Fit
from esr.runs.places import run_directory
from esr.runs.rundir import RunDir, open_run
from esr.runs.trust import from_file


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; or a run, to go on with it.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, for example rollout.max_new_tokens=50.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Begin with the adapter that this run trained.", show_default=False)
    ] = None,
    n: Annotated[
        str | None, typer.Option("--n", help="`auto`: the N that `esr check` recommends; it runs first if it has not.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run aside and start anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Distil a student. The same command again goes on with a run that was stopped.

    Example: `esr train configs/qwen2.5-math-1.5b.yaml rollout.max_new_tokens=50 run.dir=runs/n50`
    """
    if config.is_dir():
        config = open_run(config).config_file
    changes = list(overrides or [])
    if start is not None:
        changes.append(f"student.adapter={trained_adapter(from_file(load(config, changes), config), open_run(start))}")
    if n is not None:
        verdict = recommended(n, config, changes).verdict
        changes.append(f"rollout.max_new_tokens={verdict.n}")
        say(f"N = {verdict.n}, as the check recommends, which says of whether ESR fits: {verdict.answer}.")
    settings = from_file(load(config, changes), config)
    run = RunDir(run_directory(settings, config))

    loading()
    from esr.train import train as train_run

    train_run(settings, run, fresh)
    show.run_summary(run, as_json=json)


def trained_adapter(settings: Config, trained: RunDir) -> Path:
    """The adapter that a run has trained, for the student of this configuration to begin with.

    Raises `UserError` if that is no adapter, or one on another model.
    """
    adapter, base = trained.find_checkpoint(None) / "adapter", trained.config().student.model
    if not adapter.exists():
        raise UserError(
            f"{trained.path} trained all weights: `esr export {trained.path} DIR` first, then set student.model=DIR."
        )
    if settings.student.train != "lora" or settings.student.model != base:
        raise UserError(
            f"--from {trained.path} is an adapter on {base}: set student.model={base} and student.train=lora."
        )
    return adapter


def recommended(n: str, config: Path, overrides: list[str]) -> Fit:
    """The check's record. Raises `UserError` if it recommends no N."""
    if n != "auto":
        raise UserError(f"--n {brief(n)}: give auto, or set the number with rollout.max_new_tokens=NUMBER.")
    if any(change.startswith("rollout.max_new_tokens=") for change in overrides):
        raise UserError("--n auto and rollout.max_new_tokens=NUMBER both set N; give one of them.")
    policy = load(config, overrides).rollout.horizon.policy
    if policy != "fixed":
        raise UserError(f"--n auto sets one N, and rollout.horizon.policy is {policy}; give one of them.")
    found = recorded(config, overrides)
    if found.verdict.n is None:
        why = f"{found.verdict.answer}: {found.verdict.reasons[0].rstrip('.')}"
        raise UserError(f"The check recommends no N ({why}); set rollout.max_new_tokens yourself.")
    return found
