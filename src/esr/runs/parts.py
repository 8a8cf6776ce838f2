"""Finished parts of a long analysis, kept until its record is."""

from typing import Any

from esr.runs.files import dumps, read_lines
from esr.runs.rundir import RunDir


class Known:
    """Finished parts: one JSON value for each key."""

    def __init__(self, done: dict[str, Any]):
        self.done = done

    def get(self, key: str) -> Any:
        """The value of a finished part, or None."""
        return self.done.get(key)

    def put(self, key: str, value: object) -> None:
        """Add a part."""
        self.done[key] = value


class Parts(Known):
    """A small append-only store, `analysis/.NAME.parts.jsonl`: one JSON value for each key, written as soon as it is known.

    Other settings than those it was begun with start it anew.
    """

    def __init__(self, directory: RunDir, name: str, settings: dict[str, object]):
        self.directory = directory
        self.file = directory.parts_file(name)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        header = {"settings": dumps(settings)}
        rows = list(read_lines(self.file)) if self.file.exists() else []
        if not rows or rows[0] != header:
            self.file.write_text(dumps(header) + "\n", encoding="utf-8")
            rows = []
        super().__init__({row["key"]: row["value"] for row in rows[1:]})

    def put(self, key: str, value: object) -> None:
        """Keep a part."""
        super().put(key, value)
        self.directory.append(self.file, {"key": key, "value": value})


def of_evaluation(name: str) -> str:
    """What the parts of an evaluation are called."""
    return f"evaluation-{name}"


def discard(directory: RunDir, name: str) -> None:
    """Forget the parts of an analysis whose record is kept."""
    directory.parts_file(name).unlink(missing_ok=True)
