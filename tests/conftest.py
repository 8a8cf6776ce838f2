"""What every test runs under, and the fixtures that several share. Nothing is downloaded."""

from pathlib import Path

import pytest
import torch

from tiny import save_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pair_dir(tmp_path_factory) -> Path:
    """Directories `student` and `teacher`, and data in `prompts.jsonl`."""
    home = tmp_path_factory.mktemp("pair")
    save_model(home / "student", seed=1)
    save_model(home / "teacher", seed=2)
    rows = "".join(f'{{"question": "what is {i} + {i + 1}?", "answer": "{2 * i + 1}"}}\n' for i in range(20))
    (home / "prompts.jsonl").write_text(rows)
    return home
