"""A run that nothing befell, to compare with; and the counts of the long form, printed at its end."""

import shutil
import time
from pathlib import Path

import pytest

import tally
from forked import call, write_config


def pytest_terminal_summary(terminalreporter):
    if tally.LONG:
        terminalreporter.section("faults done; no traceback, nothing accepted in silence, unless a test failed")
        tally.record()
        terminalreporter.write_line(tally.table())


@pytest.fixture(scope="session")
def whole(pair_dir, tmp_path_factory) -> tuple[Path, float]:
    """The directory of an uninterrupted run, and the seconds that it took."""
    home = tmp_path_factory.mktemp("faults") / "whole"
    write_config(home, pair_dir)
    begin = time.monotonic()
    assert call(["train", "c.yaml"], home)[0] == 0
    return home, time.monotonic() - begin


@pytest.fixture
def half(home) -> Path:
    """A copy of that directory whose run was stopped after its fourth step."""
    shutil.rmtree(home / "run" / "checkpoints" / "step-000006")
    for suffix in ("json", "jsonl"):
        (home / "run" / "evals" / f"step-000006.{suffix}").unlink()
    return home


@pytest.fixture
def home(whole, tmp_path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(whole[0], tmp_path / "home"))
