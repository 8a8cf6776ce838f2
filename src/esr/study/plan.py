"""What a study compares: its file, read and checked before anything runs, and the runs that it consists of."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from esr import configfile
from esr.config import Config, Section
from esr.errors import UserError
from esr.runs.rundir import FREE_TO_CHANGE, RunDir, flatten


class StudyConfig(Section):
    """A study file."""

    question: str
    """What the study is to answer, in one sentence."""
    base: str | dict[str, Any]
    """The configuration that arms override: a file (relative to the study's), or its sections."""
    reference: str | dict[str, str]
    """The arm that all others are compared with, or for each arm the one that it is compared with."""
    rule: Literal["updates", "tokens", "seconds"] = "updates"
    """What the arms have in common: optimiser steps, generated tokens, or seconds of training."""
    budget: float | None = Field(None, gt=0)
    """How many tokens or seconds (rules `tokens` and `seconds`)."""
    seeds: list[int] = Field([1, 2, 3], min_length=1)
    """Training seeds; each arm is run with each."""
    arms: dict[str, dict[str, Any]]
    """Overrides (`section.key: value`) by arm."""
    runs: str | None = None
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
    tree = configfile.read_mapping(file)
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(StudyConfig.model_fields)
        wrong = (
            f"unknown key {key}; a study has {known}"
            if first["type"] == "extra_forbidden"
            else f"{key}: {first['msg']}"
        )
        raise UserError(f"{file}: {wrong}.") from None
    _check(study, file)
    source = file.parent / study.base if isinstance(study.base, str) else file
    base = configfile.read_mapping(source) if isinstance(study.base, str) else study.base
    pool = Path(study.runs or Path("runs") / "studies" / file.stem)
    runs = [_planned(file, base, study, arm, seed, pool) for seed in study.seeds for arm in study.arms]
    evals = {run.config.eval.model_dump_json() if run.config.eval else "" for run in runs}
    if "" in evals or len(evals) > 1:
        raise UserError(f"{file}: all arms need one and the same `eval` section, or nothing can be compared.")
    return Plan(file.stem, file, study, configfile.validate(base, str(source)), runs)


def _check(study: StudyConfig, file: Path) -> None:
    compared = list(study.reference) if isinstance(study.reference, dict) else []
    for name in [*study.references, *compared]:
        if name not in study.arms:
            raise UserError(f"{file}: the reference arm {name!r} is not among the arms {list(study.arms)}.")
    if len(set(study.seeds)) < len(study.seeds):
        raise UserError(f"{file}: a seed occurs twice; repeated runs would be counted as independent.")
    if (study.rule == "updates") != (study.budget is None):
        raise UserError(f"{file}: rule `{study.rule}` {'has no' if study.budget else 'needs a'} budget.")
    taken = {"run.seed", "run.dir"} | {f"optim.{k}" for k in ("max_tokens", "max_seconds")}
    for name, overrides in study.arms.items():
        if taken & set(overrides):
            raise UserError(
                f"{file}: arm {name}: {', '.join(sorted(taken & set(overrides)))} is set by the study itself."
            )


def _planned(file: Path, base: dict[str, Any], study: StudyConfig, arm: str, seed: int, pool: Path) -> PlannedRun:
    values = {**study.arms[arm], "run.seed": seed}
    if study.rule != "updates":
        values[f"optim.max_{study.rule}"] = int(study.budget or 0) if study.rule == "tokens" else study.budget
    overrides = [f"{key}={_yaml(value)}" for key, value in values.items()]
    config = configfile.validate(configfile.apply_overrides(base, overrides), f"{file}: arm {arm}")
    directory = _directory(pool, f"{arm}-seed{seed}", config)
    placed = config.run.model_copy(update={"dir": str(directory.path)})
    return PlannedRun(arm, seed, config.model_copy(update={"run": placed}), directory)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _directory(pool: Path, name: str, config: Config) -> RunDir:
    """The directory of a run with this configuration in the pool, whichever study and arm it was made for."""
    kept = {k: v for k, v in flatten(config.model_dump()).items() if k not in FREE_TO_CHANGE}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    found = sorted(pool.glob(f"*-{digest}"))
    return RunDir(found[0] if found else pool / f"{name}-{digest}")
