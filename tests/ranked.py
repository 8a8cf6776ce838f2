"""Two processes of one run, forked from this warm one, that meet on a free port."""

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from esr.ranks import joined
from forked import start

JOINED = ExitStack()
LIMIT = 120
"""Seconds after which processes that have not ended are killed, and the test fails."""


def meet(port: int, rank: int, world: int) -> None:
    """What a launcher says in the environment; then this process is one of `world`."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    JOINED.enter_context(joined())


class Crew:
    """`esr ARGUMENTS` in several processes at once."""

    def __init__(
        self, arguments: list[str], folder: Path, world: int = 2, prepare: Callable[[int], object] = lambda rank: None
    ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.files = [folder / f"rank-{rank}.log" for rank in range(world)]
        self.processes = []
        for rank, file in enumerate(self.files):
            with open(file, "wb") as out:
                first = lambda rank=rank: (meet(port, rank, world), prepare(rank))  # noqa: E731
                self.processes.append(start(arguments, folder, out.fileno(), first))

    def wait(self) -> list[int]:
        """The exit codes, in the order of the ranks. Fails if a process hangs."""
        codes: dict[int, int] = {}
        deadline = time.monotonic() + LIMIT
        while len(codes) < len(self.processes):
            for process in self.processes:
                if process not in codes and (ended := os.waitpid(process, os.WNOHANG))[0]:
                    codes[process] = os.waitstatus_to_exitcode(ended[1])
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL, *(i for i, p in enumerate(self.processes) if p not in codes))
                raise AssertionError(f"a process hangs; ended: {codes}; {self.said()}")
            select.select([], [], [], 0.02)
        return [codes[process] for process in self.processes]

    def signal(self, number: int, *ranks: int) -> None:
        for rank in ranks:
            os.kill(self.processes[rank], number)

    def said(self) -> list[str]:
        return [file.read_text(errors="replace") for file in self.files]
