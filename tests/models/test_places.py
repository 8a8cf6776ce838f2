"""Where a teacher's weights are kept changes no number, and what is missing is said before anything is loaded."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from esr.config import ModelConfig, StudentConfig, TeacherConfig
from esr.errors import UserError
from esr.meters import PeakMemory, resident_peak
from esr.method.tensors import Rollout
from esr.models.head import head
from esr.models.load import check, load_model, load_student, load_teacher, shares_base
from esr.prompts import pad
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from esr.scoring import hidden_states
from tiny import save_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("place", [{"placement": "offloaded"}, {"placement": "device", "device": "cpu"}], ids=str)
def test_a_teacher_elsewhere_scores_and_writes_the_same(pair_dir, place):
    plain = load_model(ModelConfig(model=str(pair_dir / "teacher"), dtype="float32"), CPU, (2,))
    placed = load_model(TeacherConfig(model=str(pair_dir / "teacher"), dtype="float32", **place), CPU, (2,))
    if "device" not in place:
        assert {p.device.type for p in placed.module.parameters()} == {"meta"}, "weights are read when a layer runs"
    prompts = pad([[3, 4, 5], [6, 7, 8, 9]])
    rollouts = [sample(lm, prompts, Sampler(6, (2,)), Noise.of(1, ["a", "b"])) for lm in (plain, placed)]
    assert torch.equal(rollouts[0].response_ids, rollouts[1].response_ids)
    with torch.no_grad():
        logits = [head(lm, hidden_states(lm, prompts, rollouts[0])) for lm in (plain, placed)]
    assert torch.equal(*logits)


def test_a_student_that_teaches_itself_is_loaded_once(pair_dir):
    """Its own base is the teacher: the same weights without the adapter. Rounded ones are others."""
    student = load_student(StudentConfig(model=str(pair_dir / "student")), CPU, (2,), 1)
    privileged = TeacherConfig(model=str(pair_dir / "student"), prompt="{question}\n\nReference: {answer}")
    teacher = load_teacher(privileged, student, CPU, (2,))
    assert teacher.module is student.module and (student.adapter, teacher.adapter) == ("default", None)
    assert not shares_base(privileged.model_copy(update={"quantization": "8bit"}), student.config)


def test_quantization_without_bitsandbytes_is_a_sentence(pair_dir, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bitsandbytes; pip install 'esr-distill\[quantization\]'"):
        check(TeacherConfig(model=str(pair_dir / "teacher"), quantization="4bit"))


def test_a_device_that_is_not_there_is_a_sentence(pair_dir):
    with pytest.raises(UserError, match=r"teacher.device is 'cuda:7'"):
        check(TeacherConfig(model=str(pair_dir / "teacher"), placement="device", device="cuda:7"))


def test_an_offloaded_teacher_takes_less_memory_than_its_weights(pair_dir, tmp_path):
    """120 MB of weights, of which one layer is there at a time."""
    save_model(tmp_path / "large", seed=1, layers=24, hidden=384)
    weights = sum(file.stat().st_size for file in (tmp_path / "large").glob("*.safetensors"))
    peaks = {p: peak_of_scoring(tmp_path / "large", p, pair_dir / "teacher") for p in ("same", "offloaded")}
    assert peaks["same"] > 0.9 * weights
    assert peaks["offloaded"] < 0.3 * weights, peaks


def peak_of_scoring(model: Path, place: str, before: Path) -> int:
    """Bytes that a process of its own takes at most to load a teacher and score with it, after it has done so with another."""
    rollout = Rollout(torch.ones(2, 6, dtype=torch.long), torch.ones(2, 6, dtype=torch.bool), torch.zeros(2))
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        for path in (before, model):
            PeakMemory(CPU)
            start = resident_peak()
            lm = load_model(TeacherConfig(model=str(path), dtype="float32", placement=place), CPU, (2,))
            with torch.no_grad():
                hidden_states(lm, pad([[3, 4], [5, 6, 7]]), rollout)
        os.write(theirs, str(resident_peak() - start).encode())
        os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        peak = int(pipe.read())
    os.waitpid(process, 0)
    return peak
