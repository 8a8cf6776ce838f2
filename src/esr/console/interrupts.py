"""Signals that ask a process to end: obeyed at once where nothing is lost, else after the step in hand. No torch here."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from esr.console import say

ENDING = [s for s in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")) if s is not None]
"""Ctrl-C; the end of a job on a cluster; a terminal that went away."""


def obey() -> None:
    """All of them raise `KeyboardInterrupt`, as Ctrl-C does. One that the caller ignores (`nohup`) stays ignored."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Interrupts:
    """Signals received while a run trains."""

    def __init__(self) -> None:
        self.received = False
        self._waits = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The first signal waits for the step's end. Ctrl-C pressed again does not; a cluster may repeat the others."""
        if not self._waits or (self.received and number == signal.SIGINT):
            raise KeyboardInterrupt
        if not self.received:
            self.received = True
            say("Finishing this step, then saving; press Ctrl-C again to stop at once.")

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """In here a signal raises `KeyboardInterrupt`: for work that keeps its finished parts itself."""
        if self.received:
            raise KeyboardInterrupt
        self._waits = False
        try:
            yield
        finally:
            self._waits = True


@contextlib.contextmanager
def collected() -> Iterator[Interrupts]:
    """Collect signals instead of dying."""
    interrupts = Interrupts()
    before = {s: signal.getsignal(s) for s in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupts.handle)
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
