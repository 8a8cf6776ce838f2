"""A full disk, a disk that may not be written: one sentence, an exit code, nothing lost, and the same command goes on."""

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import call, contents, write_config
from tally import LONG, Tally

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
    ["compare", "run", "other", "-o", "page.html"],
    ["study", "s.yaml"],
    ["config", "c.yaml"],
    ["train", "run"],
]
STUDY = "question: '?'\nbase: c.yaml\nreference: a\nseeds: [1]\narms: {a: {}}\n"
OVERRIDES = (1, 2, 3)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER."""


def prepared(home: Path) -> Path:
    """The same directory with what the commands name besides its run."""
    (home / "s.yaml").write_text(STUDY)
    shutil.copytree(home / "run", home / "other")
    return home


@pytest.mark.parametrize("size", [0, 3000, 70000] if LONG else [3000])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_room_to_write(home, command, size):
    """A limit of a file's size stands for the disk's end: it meets every write, and needs no rights."""
    before = contents(prepared(home) / "run")
    code, text = call(command, home, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    assert code == 0 or text.strip(), "it says nothing"
    after = contents(home / "run")
    assert {name: after.get(name) for name in before} == before


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(whole, pair_dir, tmp_path):
    expected = contents(whole[0] / "run")
    for size in [200, 2000, 9000, 30000, 60000][: 5 if LONG else 3]:
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
    prepared(home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = contents(home / "run")
    code, text = call(command, home, obey_permissions)
    assert code == 0 or text.strip()
    assert contents(home / "run") == before
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)


def disk_of(folder: Path, kib: int) -> Path:
    """A disk of so many KiB, which needs root. `unmounted` takes it away."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], check=True)
    return folder


@contextlib.contextmanager
def unmounted(disk: Path) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # a grader's process may take a moment to end


if LONG:

    def test_every_command_on_a_disk_that_is_really_full_or_read_only(whole, tmp_path):
        """Of each three cases: no block left, 48 KiB left, read-only. Then there is room, and the same command goes on."""
        tally = Tally("commands on a full or read-only disk", of="commands", short=0, long=3 * len(COMMANDS))
        before = contents(whole[0] / "run")
        for number, _ in tally:
            command, left = COMMANDS[number // 3], (0, 48, None)[number % 3]
            disk = disk_of(tmp_path / f"disk-{number}", 64 << 10)
            with unmounted(disk):
                home = prepared(Path(shutil.copytree(whole[0], disk / "home")))
                size = sum(f.stat().st_blocks for f in disk.rglob("*")) // 2
                room = ["mount", "-o", "remount,ro" if left is None else f"remount,size={size + left}k", disk]
                subprocess.run(room, check=True)
                code, text = call(command, home)
                assert code == 0 or text.strip(), f"{command} says nothing"
                after = contents(home / "run")
                assert {name: after.get(name) for name in before} == before, command
                subprocess.run(["mount", "-o", "remount,rw,size=64m", disk], check=True)
                assert code == 0 or call(command, home)[0] == 0, command
            tally.add(commands=1, **{"refused_and_then_went_on" if code else "needed_no_room": 1})

    def test_training_on_a_disk_that_is_too_small_goes_on_when_it_is_larger(whole, pair_dir, tmp_path):
        tally = Tally("trainings on a small disk", of="runs", short=0, long=12)
        for number, chance in tally:
            disk = disk_of(tmp_path / f"disk-{number}", chance.randint(64, 1700))
            with unmounted(disk):
                write_config(disk / "home", pair_dir)
                code, text = call(["train", "c.yaml"], disk / "home")
                assert code == 0 or "room" in text or "cannot be written" in text
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                assert call(["train", "c.yaml"], disk / "home")[0] == 0
                assert contents(disk / "home" / "run") == contents(whole[0] / "run")
            tally.add(runs=1, ran_out_of_room=int(code != 0))
