"""What a study compares: its file, read and checked before anything runs, and the runs that it consists of."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from esr.config import Config, ConfigSection, LocalPath, Seed, configfile
from esr.config.keys import flatten
from esr.console.foreign import brief
from esr.errors import UserError
from esr.records.study import Role
from esr.runs.agreement import FREE_TO_CHANGE
from esr.runs.places import study_directory
from esr.runs.rundir import RunDir

LONGEST_NAME = 100
"""Bytes of an arm's name, which begins the names of its runs' directories."""


class StudyConfig(ConfigSection):
    """A study file."""

    question: str
    """What the study is to answer, in one sentence."""
    base: LocalPath | dict[str, Any]
    """The configuration that arms override: a file, named from the study file's directory, or its sections."""
    reference: str | dict[str, str]
    """The arm that all others are compared with, or for each arm the one that it is compared with."""
    rule: Literal["updates", "tokens", "seconds"] = "updates"
    """What the arms have in common: optimiser steps, generated tokens, or seconds of training."""
    budget: float | None = Field(None, gt=0)
    """How many tokens or seconds (rules `tokens` and `seconds`)."""
    seeds: list[Seed] = Field([1, 2, 3], min_length=1)
    """Training seeds; each arm is run with each."""
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    """By arm, what it changes: `section.key: value`, or sections with some of their keys."""
    roles: dict[str, Role] = {}
    """Arms that stand for early-stopped rollouts (`early`) or full ones (`full`), for the report. Without: by their N."""
    runs: LocalPath | None = None
    """Where runs are kept. Studies with the same directory share equal runs. Default: `runs/studies/NAME`."""

    def reference_of(self, arm: str) -> str | None:
        """The arm that `arm` is compared with; None if it is a reference itself."""
        if isinstance(self.reference, str):
            return None if arm == self.reference else self.reference
        return self.reference.get(arm)

    @property
    def references(self) -> list[str]:
        """All reference arms."""
        return [self.reference] if isinstance(self.reference, str) else list(dict.fromkeys(self.reference.values()))


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed."""

    arm: str
    seed: int
    config: Config
    directory: RunDir


@dataclass(frozen=True)
class Plan:
    """A checked study."""

    name: str
    file: Path
    study: StudyConfig
    base: Config
    runs: list[PlannedRun]
    """Seed by seed, so that whatever is finished can be compared."""

    def of(self, arm: str) -> list[PlannedRun]:
        """The runs of an arm, in the order of the seeds."""
        return [run for run in self.runs if run.arm == arm]


def read(file: Path) -> Plan:
    """Read and check a study file. Raises `UserError` with one sentence."""
    study = configfile.checked(StudyConfig, configfile.read_mapping(file), str(file))
    _check(study, file)
    source = file.parent / study.base if isinstance(study.base, str) else file
    base = study.base if isinstance(study.base, dict) else configfile.read_mapping(source)
    base = configfile.found_from(source, base)
    pool = Path(study.runs) if study.runs else study_directory(file.stem)
    if not pool.is_dir() and pool.exists():
        raise UserError(f"{file}: `runs` is {pool}, which is a file; name a directory.")
    runs = [_planned(file, base, study, arm, seed, pool) for seed in study.seeds for arm in study.arms]
    evals = {run.config.eval.model_dump_json() if run.config.eval else "" for run in runs}
    if "" in evals or len(evals) > 1:
        raise UserError(f"{file}: all arms need one and the same `eval` section, or nothing can be compared.")
    return Plan(file.stem, file, study, configfile.validate(base, str(source)), runs)


def _check(study: StudyConfig, file: Path) -> None:
    compared = list(study.reference) if isinstance(study.reference, dict) else []
    for kind, names in (("the reference arm", [*study.references, *compared]), ("`roles`: the arm", study.roles)):
        for name in names:
            if name not in study.arms:
                raise UserError(f"{file}: {kind} {name!r} is not among the arms {list(study.arms)}.")
    if len(set(study.seeds)) < len(study.seeds):
        raise UserError(f"{file}: a seed occurs twice; repeated runs would be counted as independent.")
    if (study.rule == "updates") != (study.budget is None):
        raise UserError(f"{file}: rule `{study.rule}` {'has no' if study.budget else 'needs a'} budget.")
    for name in study.arms:
        if "/" in name or "\\" in name or name.startswith(".") or not 0 < len(name.encode()) <= LONGEST_NAME:
            raise UserError(
                f"{file}: {brief(name)} cannot name an arm, as runs are called after it: use a plain name without slashes."
            )
    taken = {"run.seed", "run.dir"} | {f"optim.{k}" for k in ("max_tokens", "max_seconds")}
    for name, overrides in study.arms.items():
        own = taken & set(flatten(overrides))
        if own:
            raise UserError(f"{file}: arm {name}: {', '.join(sorted(own))} is set by the study itself.")


def _planned(file: Path, base: dict[str, Any], study: StudyConfig, arm: str, seed: int, pool: Path) -> PlannedRun:
    values = {**study.arms[arm], "run.seed": seed}
    if study.rule != "updates":
        values[f"optim.max_{study.rule}"] = int(study.budget or 0) if study.rule == "tokens" else study.budget
    changed = configfile.found_from(file, configfile.merge({}, values.items()))
    config = configfile.validate(configfile.merge(base, changed.items()), f"{file}: arm {arm}")
    directory = _directory(pool, f"{arm}-seed{seed}", config)
    placed = config.run.model_copy(update={"dir": str(directory.path)})
    return PlannedRun(arm, seed, config.model_copy(update={"run": placed}), directory)


def _directory(pool: Path, name: str, config: Config) -> RunDir:
    """The directory of a run with this configuration in the pool, whichever study and arm it was made for."""
    kept = {k: v for k, v in flatten(config.model_dump()).items() if k not in FREE_TO_CHANGE}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    found = sorted(pool.glob(f"*-{digest}"))
    return RunDir(found[0] if found else pool / f"{name}-{digest}")
