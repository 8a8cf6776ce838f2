"""The process that checks answers, so that one that never ends can be killed: `python -m esr.grading.worker FD`.

A job is pickled by the parent: (grader, reference, candidates, own), where `own` is a candidate that must be right.
Back come JSON messages: null once the libraries are loaded, then a verdict for each candidate, in order. Nothing that
a response contains is ever unpickled. The process has no network where the system lets it give that up.
"""

import contextlib
import ctypes
import faulthandler
import functools
import json
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from esr.grading import gym, mathverify, python, text
from esr.grading.verdict import Verdict

Checker = Callable[[Any, str], Verdict]
CHECKERS: dict[str, Callable[[], Checker]] = {
    "answers": mathverify.checker,
    "gym": gym.checker,
    "text": text.checker,
    "python": python.checker,
}
MEMORY = 4 << 30  # bytes of address space
ORPHAN = 60  # seconds after which a job ends its own process, should the parent no longer be there to do it
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # flags of unshare(2)


def main() -> None:
    """Serve jobs until the parent closes the connection."""
    _limit()
    connection, nowhere = Connection(int(sys.argv[1])), open(os.devnull, "w")
    checker = functools.cache(lambda name: CHECKERS[name]())
    while True:
        try:
            grader, reference, candidates, own = connection.recv()
        except EOFError:
            return
        check = checker(grader)
        connection.send_bytes(b"null")
        faulthandler.dump_traceback_later(ORPHAN, exit=True, file=nowhere)
        for candidate in candidates:
            connection.send_bytes(json.dumps(_verdict(check, reference, candidate, own)).encode())
        faulthandler.cancel_dump_traceback_later()


def _verdict(check: Checker, reference: Any, candidate: str, own: str | None) -> Verdict:
    """The verdict. A verifier that raises, but is right about `own`, met a malformed answer: wrong. Else it failed.

    Memory is another matter: the process then ends.
    """
    try:
        return check(reference, candidate)
    except MemoryError:
        raise
    except Exception as error:
        note = f"the verifier raised {type(error).__name__}: {error}"[:200]
    with contextlib.suppress(Exception):
        if own is not None and check(reference, own).right:
            return Verdict(right=False, note=note)
    return Verdict(note=note)


def _limit() -> None:
    """Limits of memory and of core dumps; no network, where namespaces may be made."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        unshare = ctypes.CDLL(None).unshare
        if unshare(NEW_NETWORK):
            unshare(NEW_USER | NEW_NETWORK)


if __name__ == "__main__":
    main()
