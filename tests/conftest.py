"""What every test runs under, and the fixtures that several share. Nothing is downloaded."""

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tiny import save_model

torch.set_num_threads(1)
for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
    if (
        signal.getsignal(number) is signal.SIG_IGN
    ):  # under nohup, or in the background; the processes of tests would inherit it
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
settings.register_profile("the same on every machine", deadline=None, derandomize=True)
settings.load_profile("the same on every machine")


@pytest.fixture(autouse=True)
def _one_seed():
    """Tests run in any order: none inherits another's random numbers, or its number of threads."""
    torch.manual_seed(0)
    yield
    assert torch.get_num_threads() == 1, "this test changed the number of threads for those that follow"


@pytest.fixture(autouse=True, scope="session")
def _no_units_for_bfloat16():
    """`dtype: auto` is float32 on every processor that the tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        yield


@pytest.fixture(scope="session")
def pair_dir(tmp_path_factory) -> Path:
    """Directories `student` and `teacher`, and data in `prompts.jsonl`."""
    home = tmp_path_factory.mktemp("pair")
    save_model(home / "student", seed=1)
    save_model(home / "teacher", seed=2)
    rows = "".join(f'{{"question": "what is {i} + {i + 1}?", "answer": "{2 * i + 1}"}}\n' for i in range(20))
    (home / "prompts.jsonl").write_text(rows)
    return home
