"""Worker processes that compare answers, and are killed when they are late."""

import atexit
import json
import os
import queue
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from esr.errors import UserError
from esr.grading.verdict import Verdict

WORKERS = 2
DEADLINE = 5.0
"""Seconds of its processor's time that a worker has for one response, so that other work takes none of it."""
PATIENCE = 4
"""Times as long by the clock: a worker may wait for a processor, or sleep."""
LATE = "no verdict in time"
START = 120.0  # seconds for a worker to load its libraries

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
"""What a worker gets of the environment: no token, no home."""

Job = tuple[str, Any, list[str], str | None]


class Worker:
    """A checking process: started when it is first needed, killed and replaced when it is late or dead."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None

    def judge(self, job: Job) -> list[Verdict]:
        """A verdict for each candidate; an empty one for those that were not decided in time."""
        verdicts: list[Verdict] = []
        self._hand_over(job)
        end = time.monotonic() + PATIENCE * DEADLINE
        try:
            most = self._spent() + DEADLINE
            for _ in job[2]:
                verdicts.append(Verdict(*self._verdict(most, end)))
        except (OSError, EOFError):  # TimeoutError is an OSError
            self.stop()
        except BaseException:  # what it still sends belongs to nobody
            self.stop()
            raise
        return verdicts + [Verdict(note=LATE)] * (len(job[2]) - len(verdicts))

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self.process is not None and self.connection is not None:
            self.process.kill()
            self.process.wait()
            self.connection.close()
        self.process = self.connection = None

    def _hand_over(self, job: Job) -> None:
        """Give the job to the process and wait until it has loaded its libraries; if it is dead, to a new one."""
        for _ in range(2):
            connection = self.connection or self._start()
            try:
                connection.send(job)
                self._receive(START, type(None))
                return
            except (OSError, EOFError):
                self.stop()
        library = "reasoning_gym" if job[0] == "gym" else "math_verify"
        raise UserError(f'Grading cannot start its worker process; does `{sys.executable} -c "import {library}"` work?')

    def _verdict(self, most: float, end: float) -> Any:
        """The next verdict, until the process has spent `most` seconds in all, or the clock says `end`: then `TimeoutError`."""
        assert self.connection is not None
        while not self.connection.poll(0):
            left = min(most - self._spent(), end - time.monotonic())
            if left <= 0:
                raise TimeoutError
            self.connection.poll(max(left, 0.01))
        return self._receive(0, list)

    def _spent(self) -> float:
        """Seconds of processor time that the process has had. Raises `EOFError` if there is none."""
        assert self.process is not None
        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:  # it is gone
            raise EOFError from None
        return float(times.user + times.system)

    def _receive(self, seconds: float, kind: type) -> Any:
        """The next message. Raises `TimeoutError`, or `EOFError` if it is of another kind: then it is another job's."""
        assert self.connection is not None
        if not self.connection.poll(max(seconds, 0)):
            raise TimeoutError
        message = json.loads(self.connection.recv_bytes())
        if not isinstance(message, kind):
            raise EOFError
        return message

    def _start(self) -> Connection:
        """In a session of its own, so that Ctrl-C in a terminal does not reach it."""
        self.connection, theirs = Pipe()
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "esr.grading.worker", str(theirs.fileno())],
            env={key: os.environ[key] for key in KEPT if key in os.environ}
            | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        return self.connection


def _fresh() -> "queue.Queue[Worker]":
    workers: queue.Queue[Worker] = queue.Queue()
    for _ in range(WORKERS):
        workers.put(Worker())
    return workers


_workers = _fresh()


def _forked() -> None:
    """A forked process has workers of its own: two that speak to one would take each other's verdicts."""
    global _workers
    for worker in list(_workers.queue):
        if worker.connection is not None:
            worker.connection.close()
    _workers = _fresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def judge(grader: str, reference: Any, candidates: list[str], own: str | None = None) -> list[Verdict]:
    """Verdicts from a free worker, in the order of `candidates`.

    `own` is a candidate that must be right: if the verifier raises on another, but agrees with that, the other is wrong.
    """
    if not candidates:
        return []
    worker = _workers.get()
    try:
        return worker.judge((grader, reference, candidates, own))
    finally:
        _workers.put(worker)


@atexit.register
def stop_workers() -> None:
    """Kill the idle worker processes; the next call of `grade` starts new ones."""
    for worker in list(_workers.queue):
        worker.stop()
