"""Commands in forked children of this warm process: a kill is a real kill of the whole command, and a run takes a second."""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import yaml

import esr.export
import esr.study.result
import esr.train
from esr.cli.main import run as esr
from esr.console import interrupts
from esr.study import work

TRACEBACK = 70
"""Exit code of a command that ended with one."""
VARIES = ("time/", "memory/", "seconds", "env.json", "report.html", "config.json", "adapter_config.json")


def own_core() -> list[int]:
    """A processor core for the children of this test process: others of its kind take others."""
    cores = work.shares(1)[0]
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return [cores[number % len(cores)]]


def start(arguments: list[str], folder: Path, output: int, prepare: Callable[[], object] = lambda: None) -> int:
    """Begin `esr ARGUMENTS` in `folder`, its messages written to the descriptor `output`. Returns the process."""
    process = os.fork()
    if process:
        return process
    code = TRACEBACK
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        interrupts.obey()
        prepare()
        code = esr(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def call(arguments: list[str], folder: Path, prepare: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Exit code and messages of one command. Fails the test on a traceback."""
    ours, theirs = os.pipe()
    process = start(arguments, folder, theirs, prepare)
    os.close(theirs)
    with open(ours, errors="replace") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 1, 2, 130), f"esr {' '.join(arguments)} ended with {code}:\n{text}"
    assert "Traceback" not in text, text
    return code, text


class Command:
    """A command that goes on beside the test, with what the tests use of `subprocess.Popen`."""

    def __init__(self, arguments: list[str]):
        ours, theirs = os.pipe()
        self.pid, self.returncode = start(arguments, Path.cwd(), theirs), None
        os.close(theirs)
        self.messages = open(ours, errors="replace")

    def poll(self) -> int | None:
        done, status = os.waitpid(self.pid, os.WNOHANG) if self.returncode is None else (0, 0)
        if done:
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)

    def finish(self) -> str:
        """Wait for its end; returns its messages."""
        with self.messages:
            text = self.messages.read()
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return text


def kill_after(arguments: list[str], folder: Path, seconds: float) -> bool:
    """SIGKILL to a command after some time; False if it had ended before."""
    with open(os.devnull, "w") as nowhere:
        process = start(arguments, folder, nowhere.fileno())
    time.sleep(seconds)
    done, _ = os.waitpid(process, os.WNOHANG)
    if done:
        return False
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def write_config(folder: Path, pair: Path) -> None:
    """`c.yaml`: six steps, checkpoints and evaluations every two, in batches of one problem.

    The grader needs no worker, which every forked process would start anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "q.jsonl").write_text(
        "".join(f'{{"question": "what is {i} * 3?", "answer": "{3 * i}"}}\n' for i in range(3))
    )
    tree = {
        "student": {"model": str(pair / "student")}, "teacher": {"model": str(pair / "teacher")},
        "data": {"source": str(pair / "prompts.jsonl")}, "rollout": {"prompts_per_step": 3, "max_new_tokens": 12},
        "optim": {"steps": 6, "lr": 0.01}, "run": {"dir": "run", "checkpoint_every": 2, "device": "cpu", "rollouts_every": 2},
        "eval": {"source": "q.jsonl", "samples": 2, "max_new_tokens": 16, "every": 2, "batch_size": 1,
                 "grader": "text:last"},
    }  # fmt: skip
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))


def contents(run: Path) -> dict[str, object]:
    """What a run says, file by file, without what differs between equal runs: times, places, the machine."""
    found: dict[str, object] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.is_file() and file.name != ".lock" and not file.name.endswith(VARIES):
            found[name] = _content(file)
    return found


def _content(file: Path) -> object:
    """Rows or values where it has them, else its bytes."""
    content = file.read_bytes()
    try:
        if file.suffix == ".jsonl":
            return [_steady(json.loads(line)) for line in content.splitlines()]
        return _steady(json.loads(content)) if file.suffix == ".json" else content
    except ValueError:
        return content


def _steady(row: object) -> object:
    return {k: v for k, v in row.items() if not k.startswith(VARIES)} if isinstance(row, dict) else row
