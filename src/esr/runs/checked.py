"""The check of a pair that was made before training: what it holds for, and how a run comes by it. No torch here."""

from typing import Any

from esr.config import Config
from esr.console import say
from esr.errors import UserError
from esr.records.fit import Fit
from esr.runs import findings
from esr.runs.files import read_record
from esr.runs.places import pair_of
from esr.runs.rundir import RunDir


def trained_with(config: Config) -> dict[str, Any]:
    """What a recommendation holds for: the configuration, but for N, the evaluation and the place."""
    return config.model_dump(exclude={"run": True, "eval": True, "rollout": {"max_new_tokens"}})


def holds(record: Fit, config: Config) -> bool:
    """Whether a check is of this configuration, at whatever N, and of this task."""
    task = config.eval.settings() if config.eval else {}
    return record.settings.get("config") == trained_with(config) and task.items() <= record.settings.items()


def bring(run: RunDir, config: Config) -> None:
    """Keep the check of a run's pair, if there is one that holds for it, with the run."""
    file = RunDir(pair_of(run.path)).analysis_file("fit")
    if not file.exists() or run.analysis_file("fit").exists():
        return
    try:
        record = read_record(file, Fit)
    except UserError as error:
        say(f"The check is left out. {error}")
        return
    if holds(record, config):
        findings.keep(run, "fit", record)
