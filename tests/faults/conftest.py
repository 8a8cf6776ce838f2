"""A run that nothing befell, to compare with, and the seed, printed so that a failure can be repeated."""

import shutil
import time
from pathlib import Path

import pytest

from forked import LONG, SEED, call, write_config


def pytest_report_header(config):
    return f"faults: {'long' if LONG else 'short'} form; repeat with ESR_FAULTS_SEED={SEED}"


@pytest.fixture(scope="session")
def whole(pair_dir, tmp_path_factory) -> tuple[Path, float]:
    """The directory of an uninterrupted run, and the seconds that it took."""
    home = tmp_path_factory.mktemp("faults") / "whole"
    write_config(home, pair_dir)
    begin = time.monotonic()
    assert call(["train", "c.yaml"], home)[0] == 0
    return home, time.monotonic() - begin


@pytest.fixture
def home(whole, tmp_path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(whole[0], tmp_path / "home"))
