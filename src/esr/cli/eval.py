"""`esr eval`."""

from pathlib import Path
from typing import Annotated

import typer

from esr import configfile
from esr.cli import show
from esr.config import Config
from esr.errors import UserError
from esr.records.evaluation import Evaluated, by_progress, comparable
from esr.records.steps import step_of
from esr.runs.places import run_directory
from esr.runs.rundir import RunDir, open_run
from esr.runs.trust import from_file, require_trust


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(help="Run directory, or a config file to evaluate its untrained models.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="eval.key=value, for example eval.source=math500.")
    ] = None,
    who: Annotated[
        str, typer.Option(help="`last`, `base`, `teacher`, or the number of a step that has a checkpoint.")
    ] = "last",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Evaluate a student (trained or not) or a teacher; records go to `RUN/evals/`.

    Example: `esr eval runs/smollm2 eval.source=gsm8k eval.limit=200 --who teacher`
    """
    directory, own, asked = target(run, overrides or [])
    wanted = evaluated(directory, who, own, asked)

    from esr.evaluate import of_run

    result = of_run(directory, own, asked, wanted)
    group = [e for e in sorted(directory.evaluations(), key=by_progress) if comparable(e, result)]
    changes = show.differences(directory, group)
    if json:
        change = next((c.model_dump() for c in changes if c.name == result.name), None)
        show.emit({"evaluation": result.model_dump(), "difference": change})
    else:
        show.evaluation_table(group, changes)


def target(path: Path, overrides: list[str]) -> tuple[RunDir, Config, Config]:
    """The run directory, its own configuration, and that with the evaluation that the user asks for.

    A config file has the directory that training it would use, there or not.
    """
    others = [o for o in overrides if not o.startswith(("eval.", "run.device="))]
    if path.is_dir():
        if others:
            raise UserError(f"{others[0]}: only eval.* and run.device can be changed when a run is evaluated.")
        directory = open_run(path)
        require_trust(directory.config(), path)
        return directory, directory.config(), configfile.load(directory.config_file, overrides)
    asked = from_file(configfile.load(path, overrides), path)
    directory = RunDir(run_directory(asked, path))
    if not directory.exists():
        return directory, configfile.load(path, others), asked
    kept = directory.config()
    device = asked.run.model_copy(update={"device": kept.run.device})
    own = asked.model_copy(update={"eval": kept.eval, "run": device})
    directory.open_or_create(own)
    return directory, own, asked


def evaluated(directory: RunDir, who: str, own: Config, asked: Config) -> Evaluated:
    """Whom the user means, marked with the settings if they are not the run's own."""
    marks = [config.eval.mark() if config.eval else "" for config in (own, asked)]
    variant = "" if marks[0] == marks[1] else marks[1]
    if who == "teacher":
        return Evaluated(who="teacher", variant=variant)
    if who not in ("last", "base") and not who.isdigit():
        raise UserError(f"--who {who}: give last, base, teacher, or the number of a step.")
    step = 0 if who == "base" else step_of(directory.find_checkpoint(int(who) if who.isdigit() else None).name)
    return Evaluated(who="student", step=step, variant=variant)
