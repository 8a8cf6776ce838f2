"""A process that can do nothing but answer: no network, no files but Python's own, no children, little memory, little time.

Isolation is bubblewrap's (`bwrap`: namespaces of its own for users, processes, network and files) with a system-call filter that
forbids new processes. Without it code is refused (`require`); `unsafe` runs the same program with resource limits alone.
"""

import json
import math
import os
import platform
import select
import shutil
import struct
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any, Self

from esr.errors import UserError
from esr.grading.pool import PATIENCE

CHILD = Path(__file__).with_name("sandbox_child.py")
SCRATCH = 16 << 20
"""Bytes that the program may write into its scratch folder, which is memory."""
MEMORY = 1 << 30
"""Bytes of address space."""
MESSAGE = 4 << 20
"""Bytes in one message; a longer one ends the process."""

_CALLS = {"x86_64": (0xC000003E, (57, 58), 56, 435), "aarch64": (0xC00000B7, (), 220, 435)}
"""Audit architecture; fork and vfork; clone; clone3."""
_CLONE_THREAD = 0x00010000


class SandboxError(Exception):
    """The process broke off, was late, or said something that is no message."""


def trouble() -> str:
    """Why code cannot be isolated here, or "" if it can."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)"
    if platform.machine() not in _CALLS:
        return f"the system-call filter knows no {platform.machine()} processors"
    done = subprocess.run(
        [*_prefix(), sys_python(), "-I", "-S", "-c", ""], capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else f"bubblewrap cannot isolate here ({done.stderr.strip()[:200]})"


def require(unsafe: bool) -> None:
    """Raise `UserError` unless code can be isolated, or the user insists."""
    if not unsafe and (why := trouble()):
        raise UserError(
            f"Generated code runs only in a sandbox, and {why}. Install it, or add eval.unsafe_code=true to this command line."
        )


class Sandbox:
    """One isolated process that runs `sandbox_child.py` in a role, spoken to in lines of JSON. Use it in a `with` block.

    It has `seconds` of its processor's time, and `PATIENCE` times as long by the clock.
    """

    def __init__(self, role: str, seconds: float, unsafe: bool = False):
        self.end = time.monotonic() + PATIENCE * seconds
        self._rest = b""
        libraries = [_libraries()] if role == "judge" else []
        child = [sys_python(), "-I", "-S", "-c", CHILD.read_text(encoding="utf-8"), role, *libraries]
        limits = _limits(seconds)
        if unsafe:
            self.process = self._popen(child, (), limits)
            return
        read, write = os.pipe()
        os.write(write, _filter())
        os.close(write)
        visible = [part for folder in libraries for part in ("--ro-bind", folder, folder)]
        try:
            self.process = self._popen([*_prefix(*visible, "--seccomp", str(read)), *child], (read,), limits)
        finally:
            os.close(read)

    def _popen(self, command: list[str], inherited: tuple[int, ...], limits: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            cwd="/",
        )
        self._send_raw(process, limits.encode() + b"\n")
        return process

    def send(self, message: dict[str, Any]) -> None:
        """Raises `SandboxError` if the process is gone."""
        self._send_raw(self.process, json.dumps(message).encode() + b"\n")

    def _send_raw(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(data)
            process.stdin.flush()
        except (OSError, ValueError):
            raise SandboxError("the process has ended") from None

    def receive(self) -> dict[str, Any]:
        """The next message. Raises `SandboxError` if none comes in time, or something that is none."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            left = self.end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise SandboxError("out of time")
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise SandboxError("the process has ended")
            self._rest += chunk
            if len(self._rest) > MESSAGE:
                raise SandboxError("too much output")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise SandboxError("no message") from None
        if not isinstance(message, dict):
            raise SandboxError("no message")
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Kill it, and with it everything in its namespace."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass  # what was still to be written is of no interest
        self.process.wait()


def sys_python() -> str:
    """The interpreter without its virtual environment: the standard library is all that a program gets."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _libraries() -> str:
    """Where numpy lies: the tests of evalplus compare with it. Only the judge's process sees it."""
    found = util.find_spec("numpy")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parents[1])


def _prefix(*more: str) -> list[str]:
    """`bwrap` with everything unshared, Python's own files read-only, and a small scratch folder."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    command += ["--setenv", "OPENBLAS_NUM_THREADS", "1"]
    for folder in ("/usr", "/lib", "/lib64", "/bin", sys.base_prefix):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    scratch = ["--size", str(SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*command, "--proc", "/proc", "--dev", "/dev", *scratch, *more, "--"]


def _limits(seconds: float) -> str:
    """Resource limits for the child to set on itself before it runs anything: name, value."""
    return json.dumps(
        {
            "RLIMIT_AS": MEMORY,
            "RLIMIT_CPU": math.ceil(seconds),
            "RLIMIT_FSIZE": SCRATCH,
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": 64,
        }
    )


def _filter() -> bytes:
    """A classic BPF program: fork, vfork and clone of a process fail with EPERM, clone3 with ENOSYS (libc then uses clone)."""
    audit, forks, clone, clone3 = _CALLS[platform.machine()]
    allow, kill, errno = 0x7FFF0000, 0x80000000, 0x00050000
    load, equal, bits, give = 0x20, 0x15, 0x45, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, audit), (give, 0, 0, kill), (load, 0, 0, 0)]
    for number in forks:
        program += [(equal, 0, 1, number), (give, 0, 0, errno | 1)]
    program += [(equal, 0, 1, clone3), (give, 0, 0, errno | 38)]
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (bits, 1, 0, _CLONE_THREAD), (give, 0, 0, errno | 1)]
    program += [(give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
