"""What `import esr` offers: the commands as functions that return records. No torch here until one of them runs."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esr import tasks
from esr.config import Config, EvalConfig, configfile
from esr.errors import UserError
from esr.records.evaluation import Evaluated, Evaluation
from esr.records.finding import Finding
from esr.records.steps import step_of
from esr.runs.places import run_directory
from esr.runs.rundir import RunDir, open_run
from esr.runs.trust import from_file, require_trust


def distil(config: str | Path, overrides: Sequence[str] = (), fresh: bool = False) -> RunDir:
    """Train what a config file describes, or go on with it or with a run; returns the run. `esr train` as a function."""
    file = open_run(config).config_file if Path(config).is_dir() else Path(config)
    settings = from_file(configfile.load(file, list(overrides)), file)
    run = RunDir(run_directory(settings, file))

    from esr.train import train

    train(settings, run, fresh)
    return run


def evaluate_model(run: str | Path, overrides: Sequence[str] = (), who: str = "last") -> Evaluation:
    """Evaluate a run's student or teacher, or the untrained models of a config file. `esr eval` as a function.

    `who`: `last`, `base`, `teacher`, or the number of a step that has a checkpoint. `overrides` begin with `eval.` or
    are `run.device=...`. An evaluation that was made before is read, not repeated.
    """
    directory, own, asked = evaluation_of(Path(run), list(overrides))
    wanted = evaluated(directory, who, own, asked)

    from esr.evaluation.evaluate import of_run

    return of_run(directory, own, asked, wanted)


def analyze(
    target: str | Path, name: str, quick: bool = False, others: Sequence[str | Path] = (), **settings: Any
) -> Finding:
    """Do one analysis of a run or a config file's pair, and keep its record there. `esr analyze` as a function.

    `settings` are the fields of the analysis's own settings (`esr.analysis.ANALYSES`), such as `problems=50`; `step` is that of
    the run's checkpoint, for every analysis.
    """
    from esr import analysis

    if name not in analysis.ANALYSES:
        raise UserError(f"There is no analysis {name}; there are {', '.join(analysis.ANALYSES)}.")
    kind, step = analysis.ANALYSES[name].settings, settings.get("step")
    own = settings if "step" in kind.model_fields else {k: v for k, v in settings.items() if k != "step"}
    chosen = kind.of(own, quick)
    subject = analysis.open_subject(str(target), None, None, step)
    return analysis.analyze(subject, name, chosen, others)


def write_report(paths: Sequence[str | Path], output: str | Path = "report.html") -> Path:
    """Write one self-contained page from runs and studies; returns its path. `esr report` as a function."""
    from esr.report import page, sources
    from esr.runs.files import write_page

    file = Path(output)
    write_page(file, page.render(sources.load([Path(path) for path in paths])))
    return file


def evaluation_of(path: Path, overrides: list[str]) -> tuple[RunDir, Config, Config]:
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
    kept = kept.model_copy(update={"run": kept.run.model_copy(update={"dir": own.run.dir})})
    if own != kept and os.environ.get("RANK", "0") == "0":
        with directory.locked():
            directory.open_or_create(own)
    return directory, own, asked


def mark(own: EvalConfig | None, asked: EvalConfig | None) -> str:
    """A short part of a file name for an evaluation with other settings than the run's own; "" if they are the same."""
    before, after = (tasks.settings(task) if task else {} for task in (own, asked))
    if before == after:
        return ""
    source = re.sub(r"[^A-Za-z0-9.]+", "-", str(after.get("source", ""))).strip("-")[-40:]
    return f"{source}-{hashlib.sha256(json.dumps(after, sort_keys=True).encode()).hexdigest()[:6]}"


def evaluated(directory: RunDir, who: str, own: Config, asked: Config) -> Evaluated:
    """Whom the user means, marked with the settings if they are not the run's own."""
    variant = "" if own.eval == asked.eval else mark(own.eval, asked.eval)
    if who == "teacher":
        return Evaluated(who="teacher", variant=variant)
    number = who.isascii() and who.isdecimal()
    if who not in ("last", "base") and not number:
        raise UserError(f"--who {who}: give last, base, teacher, or the number of a step.")
    step = 0 if who == "base" else step_of(directory.find_checkpoint(int(who) if number else None).name)
    return Evaluated(who="student", step=step, variant=variant)
