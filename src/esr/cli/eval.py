"""`esr eval`."""

from pathlib import Path
from typing import Annotated

import typer

from esr import configfile
from esr.cli import show
from esr.config import Config
from esr.errors import UserError
from esr.records.evaluation import Evaluation
from esr.records.steps import BEFORE
from esr.runs.places import run_directory
from esr.runs.rundir import RunDir, open_run


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
    directory, settings = target(run, overrides or [])
    if settings.eval is None:
        raise UserError("There is no evaluation task; add eval.source=TASK (for example eval.source=math500).")
    changed = directory.exists() and slug(settings) != slug(directory.config())
    name = evaluation_name(directory, who) + (f"@{slug(settings)}" if changed else "")
    found = directory.evaluation(name)
    result = found or measure(directory, settings, who, name)
    group = next(g for g in show.grouped(show.ordered(directory.evaluations())) if any(e.name == name for e in g))
    changes = show.differences(directory, group)
    if json:
        change = next((c.model_dump() for c in changes if c.name == name), None)
        show.emit({"evaluation": result.model_dump(), "difference": change})
    else:
        show.evaluation_table(group, changes)


def target(path: Path, overrides: list[str]) -> tuple[RunDir, Config]:
    """The run directory and settings that the user means."""
    wrong = [o for o in overrides if not o.startswith(("eval.", "run.device="))]
    if wrong and path.is_dir():
        raise UserError(f"{wrong[0]}: only eval.* and run.device can be changed when a run is evaluated.")
    if path.is_dir():
        directory = open_run(path)
        return directory, configfile.load(directory.config_file, overrides)
    settings = configfile.load(path, overrides)
    return RunDir(run_directory(settings, path)), settings


def evaluation_name(directory: RunDir, who: str) -> str:
    """The record's name: `teacher`, or `step-NNNNNN`."""
    if who == "teacher":
        return "teacher"
    if who == "base":
        return BEFORE
    if who != "last" and not who.isdigit():
        raise UserError(f"--who {who}: give last, base, teacher, or the number of a step.")
    from esr.models.checkpoint import find_checkpoint

    return find_checkpoint(directory, int(who) if who.isdigit() else None).name


def slug(settings: Config) -> str:
    """A short file-name part that tells evaluations with other settings apart."""
    import hashlib
    import re

    if settings.eval is None:
        return ""
    digest = hashlib.sha256(
        settings.eval.model_dump_json(exclude={"every", "batch_size", "teacher"}).encode()
    ).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9.]+", "-", settings.eval.source).strip("-")[-40:] + "-" + digest


def measure(directory: RunDir, settings: Config, who: str, name: str) -> Evaluation:
    """Load the one model that is needed, evaluate it, keep the record."""
    from esr import evaluate, probe, tasks
    from esr.models.checkpoint import find_checkpoint, load_trained
    from esr.models.lm import resolve_device
    from esr.models.load import load_model
    from esr.pair import open_pair

    assert settings.eval is not None
    pair = open_pair(settings)
    problems = tasks.load(settings.eval, "eval", need_answer=True)
    device = resolve_device(settings.run.device)
    if who == "teacher":
        lm = load_model(settings.teacher, device, pair.teacher_terminators)
    elif who == "base":
        lm = load_model(settings.student, device, pair.student_terminators)
    else:
        saved = find_checkpoint(directory, int(who) if who.isdigit() else None)
        lm = load_trained(settings, saved, device, pair.student_terminators)
    probe.check(lm)
    with directory.locked():
        result = evaluate.evaluate(lm, problems, settings.eval, pair.terminators, settings.run.seed, name)
        directory.save_evaluation(*result)
    return result[0]
