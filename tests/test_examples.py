"""The method in one plain file gives the package's first loss."""

import importlib.util
from pathlib import Path

import pytest
import torch

from esr import prompts
from esr.distill import Distiller, PromptPair, step
from esr.method.events import one_vocabulary
from esr.records.problem import Problem
from esr.sampling.sampler import Sampler
from test_distill import QUESTIONS, config
from tiny import make_lm

FILE = Path(__file__).parent.parent / "examples" / "esr_in_60_lines.py"


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("esr_in_60_lines", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_at_most_60_lines_of_code():
    source = FILE.read_text().split('"""', 2)[2]
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 60


def test_it_gives_the_packages_first_loss(plain):
    """Greedy rollouts, so that both write the same responses; prompts of different lengths; some stop early."""
    student, teacher = make_lm(3), make_lm(2)
    student.module.requires_grad_(True)
    rows = [prompts.render(student.tokenizer, student.config, q) for q in QUESTIONS]
    texts = [student.tokenizer.decode(row) for row in rows]
    copy = make_lm(3).module.requires_grad_(True)
    expected = plain.step(
        copy, teacher.module, student.tokenizer, torch.optim.SGD(copy.parameters(), lr=1e-3), texts, 15, 0
    )

    optimizer = torch.optim.SGD(student.module.parameters(), lr=1e-3)
    sampler = Sampler(15, (2,), temperature=0)
    run = Distiller(config(), student, teacher, one_vocabulary(64), sampler, optimizer, 10**6, lambda text: None)
    pairs = [PromptPair(Problem(id=q, question=q), row, row) for q, row in zip(QUESTIONS, rows)]
    report = step(run, pairs, 0, 1e-3)
    assert report.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    for (name, p), q in zip(student.module.named_parameters(), copy.parameters()):
        assert torch.allclose(p, q, atol=1e-6), name
