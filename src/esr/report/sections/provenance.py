"""Where the numbers come from, how to make them again, and all of them to download."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from esr.report.section import Section
from esr.report.sources import Data, Found, Run
from esr.runs.files import finite

LARGEST = 700_000
"""Characters of the download; beyond it, logs of steps are left out, and said to be."""
ELSEWHERE = ("rollouts",)
"""Analyses that are large and on the page already, in a block of their own."""


def view(data: Data) -> Section:
    """Configurations, environments, commands, trouble, and the numbers as JSON."""
    numbers, left_out = download(data)
    context = {
        "runs": [_run(run) for run in data.runs],
        "studies": [_study(found) for found in data.studies],
        "trouble": data.trouble,
        "numbers": numbers,
        "left_out": left_out,
        "files": [found.source for found in data.sources().values()],
    }
    return Section("provenance", "Provenance", "provenance.html", context)


def download(data: Data) -> tuple[dict[str, Any], list[str]]:
    """Every record by its file's name, and the names of files that are too large to be among them."""
    left_out = [f.source for f in data.sources().values() if getattr(f.record, "kind", "") in ELSEWHERE]
    numbers = {name: plain(f) for name, f in data.sources().items() if name not in left_out}
    logs = [run.rows.source for run in data.runs]
    if len(json.dumps(finite(numbers))) > LARGEST:
        numbers = {name: value for name, value in numbers.items() if name not in logs}
        left_out += logs
    return numbers, left_out


def plain(found: Found) -> Any:
    return found.record.model_dump(mode="json") if isinstance(found.record, BaseModel) else found.record


def _run(run: Run) -> dict[str, Any]:
    commands = [
        run.environment.get("command"),
        *(r.get("command") for r in run.environment.get("resumed", []) if isinstance(r, dict)),
    ]
    return {
        "name": run.label,
        "path": str(run.directory.path),
        "facts": facts(run.environment),
        "commands": [str(c) for c in commands if c],
        "config": in_yaml(run.config.model_dump()),
        "seed": run.config.run.seed,
        "state": state(run),
    }


def state(run: Run) -> str:
    if run.complete:
        return "complete"
    return f"{len(run.metrics)} of {run.config.optim.steps} steps so far" if run.going else "not trained"


def _study(found: Found) -> dict[str, Any]:
    study = found.record
    arms = {arm.name: arm.overrides for arm in study.arms}
    return {
        "name": study.name,
        "path": str(Path(found.file).parent),
        "facts": facts(study.environment),
        "commands": [study.command],
        "config": in_yaml({"base": study.base, "arms": arms}),
        "seed": ", ".join(map(str, study.seeds)),
        "state": "complete",
    }


def facts(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Versions and devices; nothing that is a nested record."""
    packages = environment.get("packages")
    rows = {k: v for k, v in environment.items() if k not in ("format_version", "command", "packages", "resumed")}
    rows |= packages if isinstance(packages, dict) else {}
    return [(str(k), str(v)) for k, v in rows.items() if not isinstance(v, dict | list)]


def in_yaml(value: Any) -> str:
    """As a configuration file would say it."""
    return yaml.safe_dump(finite(value), sort_keys=False, allow_unicode=True, width=100)
