"""Records of analyses in a run directory. No torch here."""

import json
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.records.finding import Finding
from esr.runs.files import aside, dumps, read_json, write_json
from esr.runs.rundir import RunDir

BASIS = ("models", "task", "problems", "settings")
"""What the numbers of a record rest on."""


def keep(run: RunDir, name: str, record: Finding) -> Path | None:
    """Write `analysis/NAME.json`. A record in its place that rests on something else is moved aside; returns where to."""
    file, moved = run.analysis_file(name), None
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and _basis(file) != json.loads(dumps(record.model_dump(include=set(BASIS)))):
        moved = file.rename(aside(file))
    write_json(file, record.model_dump())
    return moved


def _basis(file: Path) -> dict[str, Any] | None:
    """What the record in a file rests on; None if it is damaged."""
    try:
        record = read_json(file)
    except UserError:
        return None
    return {key: record.get(key) for key in BASIS}
