"""Write docs/cli.md: the real `--help` of every command.

python tools/write_cli.py > docs/cli.md
"""

import os

os.environ.update({"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})

from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from esr.cli.main import app


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command path below `command`."""
    found = [path]
    for name, child in getattr(command, "commands", {}).items():
        found += commands(child, (*path, name))
    return found


def document() -> str:
    """All help texts as Markdown."""
    lines = [
        "# Commands",
        "",
        "Written by `python tools/write_cli.py > docs/cli.md`; a test compares it with the program.",
        "",
    ]
    for path in commands(get_command(app)):
        text = CliRunner().invoke(app, [*path, "--help"], prog_name="esr", env={"COLUMNS": "100"}).output
        body = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        lines += [f"## `{' '.join(('esr', *path))}`", "", "```", body.strip("\n"), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
