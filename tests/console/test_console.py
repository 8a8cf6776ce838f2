"""What reaches the terminal: foreign text commands nothing, markup is text, what the machine refuses is one sentence."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError

from esr import console
from esr.cli import show
from esr.cli.failures import sentence
from esr.console.foreign import brief, visible

HOSTILE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\x9b2Jb",
    "te[v2]st",
    "a[/z]",
    "[red]x",
    ":smile:",
    "\ud83d",
    "x\u202etxt.exe",
    "a\rb",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("wrap", [str, Text], ids=["text", "styled"])
def test_foreign_text_is_shown_and_does_nothing(text, wrap):
    terminal = console.Terminal()
    terminal.file = io.StringIO()
    terminal.width = 200
    table = Table(title=wrap(f"title {text}"))
    table.add_column(wrap(f"column {text}"))
    table.add_row(wrap(f"cell {text}"))
    terminal.print(table)
    terminal.print(wrap(f"line {text}"), soft_wrap=True)
    shown = terminal.file.getvalue()
    shown.encode()
    assert not set(shown) & set("\x1b\x07\x9b\u202e\r")
    for place in ("title", "column", "cell", "line"):
        assert wrap is Text or f"{place} {visible(text)}" in shown


def test_messages_and_progress_are_safe_too(capsys):
    console.say("Error: \x1b[31m[red]")
    with console.progress("\x1b[2J[x]", 1, "step") as advance:
        advance(note="\x1b[1m")
    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert r"\x1b[31m[red]" in written


def test_every_console_of_the_program_is_a_terminal_of_ours():
    assert isinstance(show.out, console.Terminal)
    assert isinstance(console.console, console.Terminal)


def test_long_values_are_cut_in_the_middle():
    assert brief("x" * 5000) == "'" + "x" * 59 + "..." + "x" * 15 + "'"
    assert len(brief(list(range(10**4)))) <= 80


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/metrics.jsonl"), "run/metrics.jsonl: no room is left"),
        (SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)'), "no room is left"),
        (OSError(errno.EFBIG, "File too large"), "no room is left"), (OSError(errno.EROFS, "x", "r"), "r: the file system is read-only"),
        (PermissionError(errno.EACCES, "x", "r"), "permission denied"), (MemoryError(), "Memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "Memory ran out"),
        (OSError(errno.EMFILE, "x"), "too many files"), (FileNotFoundError(errno.ENOENT, "x", "run"), "run: it is gone"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_said_in_one_sentence_with_what_is_kept(error, words):
    text = sentence(error)
    assert words in text
    assert "kept" in text
    assert sentence(TypeError("a fault of the program")) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_ends_any_command_with_a_sentence_unless_it_is_ignored(number, ignored):
    code = (
        "import os, signal, sys; number = int(sys.argv[1])\n"
        "if sys.argv[2] == 'True': signal.signal(number, signal.SIG_IGN)\n"
        "from esr.cli import main, config\n"
        "config.explain = lambda kind: os.kill(os.getpid(), number)\n"
        "sys.argv = ['esr', 'config']; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(int(number)), str(ignored)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        (0, "") if ignored else (130, "Stopped. What was finished is kept; the same command goes on.\n")
    )


def test_a_line_of_progress_says_what_is_known(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY", 0.0)
    clock = iter([0.0, 2.0, 4.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("Study", 3, "run") as advance:
        advance(0, note="seed 1")
        advance(2)
    assert capsys.readouterr().err.splitlines() == ["Study: 0/3 runs; seed 1", "Study: 2/3 runs, 2.0 s/run, 2 s left"]


def test_the_last_line_of_progress_is_written_once(capsys):
    with console.progress("Evaluating", 2, "problem") as advance:
        advance(2)
        advance(0, note="0 responses at once")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Evaluating: 2/2 problems")
