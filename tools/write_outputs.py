"""Write into a document what commands print: each block between `<!-- $ COMMAND -->` and `<!-- end -->`.

    python tools/write_outputs.py docs/check.md [PART OF A COMMAND]

What `esr` says stands in a code block with the command above it, without its bars; other commands print Markdown.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"(<!-- \$ (?P<command>.+?) -->\n).*?(<!-- end -->)", re.S)
BAR = re.compile(r"^.*: [\d,]+/[\d,]+ \w+, .*\n", re.M)
WIDTH = "110"


def printed(command: str) -> str:
    """Everything that a command prints; where it fails is of interest too."""
    settings = {**os.environ, "COLUMNS": WIDTH, "TERM": "dumb", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, shell=True, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if "esr " not in command:
        if done.returncode:
            sys.exit(f"{command} ended with code {done.returncode}:\n{done.stdout}")
        return done.stdout
    said = "\n".join(line.rstrip() for line in BAR.sub("", done.stdout).splitlines())
    return f"```\n$ {command}\n{said}\n$ echo $?\n{done.returncode}\n```\n"


def main() -> None:
    file, wanted = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    text = file.read_text(encoding="utf-8")

    def block(found: re.Match[str]) -> str:
        return found[1] + printed(found["command"]) + found[3] if wanted in found["command"] else found[0]

    file.write_text(BLOCK.sub(block, text), encoding="utf-8")


if __name__ == "__main__":
    main()
