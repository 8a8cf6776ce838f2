"""A full disk, a disk that may not be written: one sentence, an exit code, nothing lost, and the same command goes on."""

import ctypes
import os
import resource
import subprocess
from pathlib import Path

import pytest

from forked import LONG, call, contents, count, write_config

COMMANDS = [
    ["train", "c.yaml", "run.dir=new"],
    ["eval", "run", "eval.samples=3"],
    ["eval", "c.yaml", "run.dir=new", "--who", "base"],
    ["export", "run", "out"],
    ["export", "run", "out", "--adapter"],
    ["report", "run"],
    ["analyze", "lengths", "run"],
    ["analyze", "profile", "run", "--problems", "2"],
    ["analyze", "efficiency", "run"],
    ["compare", "run", "run"],
    ["study", "s.yaml"],
    ["config", "c.yaml"],
    ["train", "run"],
]
STUDY = "question: '?'\nbase: c.yaml\nreference: a\nseeds: [1]\narms: {a: {}}\n"
OVERRIDES = (1, 2, 3)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER."""


@pytest.mark.parametrize("size", [0, 3000, 70000] if LONG else [3000])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_room_to_write(home, command, size):
    """A limit of a file's size stands for the disk's end: it meets every write, and needs no rights."""
    (home / "s.yaml").write_text(STUDY)
    before = contents(home / "run")
    code, text = call(command, home, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    assert code == 0 or text.strip(), "it says nothing"
    after = contents(home / "run")
    assert {name: after.get(name) for name in before} == before


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(whole, pair_dir, tmp_path):
    expected = contents(whole[0] / "run")
    for size in [200, 2000, 9000, 30000, 60000][: count(3, 5)]:
        home = tmp_path / str(size)
        write_config(home, pair_dir)
        code, text = call(["train", "c.yaml"], home, lambda s=size: resource.setrlimit(resource.RLIMIT_FSIZE, (s, s)))
        assert code in (0, 1, 2)
        assert code == 0 or "room" in text or "cannot be written" in text
        assert call(["train", "c.yaml"], home)[0] == 0
        assert contents(home / "run") == expected


def obey_permissions() -> None:
    """Root, too, keeps to the permissions of files from here on (Linux): it gives up the capabilities that override them."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in OVERRIDES:
            libc.prctl(24, capability, 0, 0, 0)
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        for kind in range(3):  # effective, permitted, inheritable
            sets[kind] &= ~sum(1 << capability for capability in OVERRIDES)
        assert libc.capset(header, sets) == 0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_may_be_written(home, command):
    (home / "s.yaml").write_text(STUDY)
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = contents(home / "run")
    code, text = call(command, home, obey_permissions)
    assert code == 0 or text.strip()
    assert contents(home / "run") == before
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)


if LONG and os.geteuid() == 0:  # mounts a file system

    @pytest.mark.parametrize("kib", [64, 200, 700, 1700])
    def test_a_disk_that_is_really_full(whole, pair_dir, tmp_path, kib):
        disk = Path(tmp_path / "disk")
        disk.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk], capture_output=True
        ).returncode:
            return  # this machine forbids mounting; the limit of a file's size above has met the same writes
        try:
            write_config(disk / "home", pair_dir)
            code, text = call(["train", "c.yaml"], disk / "home")
            assert code == 0 or "room" in text or "cannot be written" in text
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            assert call(["train", "c.yaml"], disk / "home")[0] == 0
            assert contents(disk / "home" / "run") == contents(whole[0] / "run")
        finally:
            subprocess.run(["umount", disk], check=True)
