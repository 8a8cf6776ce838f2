"""Every module can be imported where Windows and macOS lack what Linux has."""

import subprocess
import sys

import pytest

from test_layers import MODULES

LIBRARIES = "accelerate, datasets, filelock, huggingface_hub, httpx, jinja2, peft, torch, transformers, typer, uuid"
SCRIPT = """
import importlib, os, signal, sys
import {libraries}
for name in {absent}:
    sys.modules[name] = None
for module, names in ((signal, {signals}), (os, {calls})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in {modules}:
    importlib.import_module(name)
"""
POSIX = ["fcntl", "resource", "termios", "tty", "pty", "pwd", "grp"]
SIGNALS = ["SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "SIGCHLD", "SIGPIPE", "alarm", "setitimer", "pthread_sigmask"]
CALLS = ["fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "setsid", "uname", "nice", "wait4"]
LINUX = ["sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "eventfd", "splice"]


@pytest.mark.parametrize(
    ("absent", "signals", "calls"),
    [(POSIX, SIGNALS, [*CALLS, *LINUX]), ([], [], LINUX)],
    ids=["Windows", "macOS"],
)
def test_every_module_can_be_imported(absent, signals, calls):
    """Libraries first: they know their platforms; the process pays for all of them, which takes seconds."""
    modules = ["esr", *(f"esr.{name}" for name in MODULES if name not in ("__init__", "__main__"))]
    script = SCRIPT.format(libraries=LIBRARIES, absent=absent, signals=signals, calls=calls, modules=modules)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
