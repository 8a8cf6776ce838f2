"""The process that checks answers, so that one that never ends can be killed: `python -m esr.grading.worker FD`.

A job is pickled by the parent: (grader, reference, candidates). Back come JSON messages: null once the libraries are
loaded, then a verdict for each candidate, in order. Nothing that a response contains is ever unpickled.
"""

import faulthandler
import functools
import json
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Verdict = tuple[bool | None, str | None]  # right (None: the verifier raised), and the answer that was found in the text
GYM_RIGHT = 0.99  # score from which a reasoning-gym verifier calls an answer right
MEMORY = 4 << 30  # bytes of address space
ORPHAN = 15  # seconds after which a job ends its own process, should the parent no longer be there to do it


def main() -> None:
    """Serve jobs until the parent closes the connection."""
    _limit_memory()
    connection, nowhere = Connection(int(sys.argv[1])), open(os.devnull, "w")
    while True:
        try:
            grader, reference, candidates = connection.recv()
        except EOFError:
            return
        check = _math() if grader == "math" else _gym()
        connection.send_bytes(b"null")
        faulthandler.dump_traceback_later(ORPHAN, exit=True, file=nowhere)
        for candidate in candidates:
            connection.send_bytes(json.dumps(_guard(check, reference, candidate)).encode())
        faulthandler.cancel_dump_traceback_later()


def _guard(check: Callable[[Any, str], Verdict], reference: Any, candidate: str) -> Verdict:
    """The verdict, or None for one whose verifier raised. Memory is another matter: the process then ends."""
    try:
        return check(reference, candidate)
    except MemoryError:
        raise
    except Exception:
        return None, None


def _math() -> Callable[[str, str], Verdict]:
    """math-verify, without its own time limits: they use SIGALRM, which a hang inside C code ignores."""
    from math_verify import parse, verify

    read = functools.partial(parse, parsing_timeout=None, raise_on_error=True)

    def check(reference: str, candidate: str) -> Verdict:
        found = read(candidate)
        text = next((item for item in reversed(found) if isinstance(item, str)), None)
        right = bool(found) and verify(read(reference), found, timeout_seconds=None, raise_on_error=True)
        return bool(right), text

    return check


def _gym() -> Callable[[dict[str, Any], str], Verdict]:
    """The verifier that belongs to a reasoning-gym task, with the parameters of the task."""
    import reasoning_gym  # noqa: F401

    def check(reference: dict[str, Any], candidate: str) -> Verdict:
        verifier = _gym_task(reference["task"], json.dumps(reference.get("params", {}), sort_keys=True))
        return float(verifier.score_answer(candidate, reference["entry"])) >= GYM_RIGHT, candidate

    return check


@functools.lru_cache(maxsize=8)
def _gym_task(name: str, params: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(params), size=1, seed=0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
