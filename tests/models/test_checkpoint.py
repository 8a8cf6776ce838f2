"""Checkpoints hold exactly the student's weights, or are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from architectures import tiny_model
from esr.config import ModelConfig, StudentConfig
from esr.errors import UserError
from esr.models import checkpoint
from esr.models.lm import LM
from esr.models.load import load_model, load_student, load_teacher
from esr.runs.rundir import RunDir
from tiny import make_tokenizer, save_model

CPU = torch.device("cpu")


def student_config(path, **options) -> StudentConfig:
    return StudentConfig(model=str(path), dtype="float32", **options)


@pytest.fixture
def home(tmp_path):
    save_model(tmp_path / "m", seed=1)
    return tmp_path


def trained(home, seed: int = 3, **options) -> LM:
    """A student whose adapter does something."""
    lm = load_student(student_config(home / "m", **options), CPU, (2,), 0)
    torch.manual_seed(seed)
    for p in lm.module.parameters():
        if p.requires_grad:
            p.data.add_(0.1 * torch.randn_like(p))
    return lm


def saved(home, lm: LM, step: int = 4):
    optimizer = torch.optim.AdamW([p for p in lm.module.parameters() if p.requires_grad])
    return checkpoint.save(RunDir(home / "run"), lm, optimizer, step)


@pytest.mark.parametrize("change", ["renamed", "missing", "extra", "other shape"])
def test_an_adapter_file_of_other_tensors_is_refused(home, change):
    folder = saved(home, trained(home))
    file = folder / "adapter" / "adapter_model.safetensors"
    state = load_file(file)
    name = min(state)
    if change == "renamed":
        state = {f"{key}.old": value for key, value in state.items()}
    elif change == "missing":
        del state[name]
    elif change == "extra":
        state["base_model.model.other.lora_A.weight"] = torch.zeros(2, 2)
    else:
        state[name] = state[name][:1].clone()
    save_file(state, file)
    with pytest.raises(UserError, match="its weights are not this model's"):
        checkpoint.load_weights(trained(home), folder)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_a_model_file_of_other_tensors_is_refused(home, change):
    student = trained(home, train="full")
    folder = saved(home, student)
    file = folder / "model" / "model.safetensors"
    state = load_file(file)
    if change == "missing":
        del state["lm_head.weight"]
    else:
        state["model.other.weight"] = torch.zeros(2)
    save_file(state, file)
    with pytest.raises(UserError, match="damaged checkpoint"):
        checkpoint.load_weights(student, folder)


def test_a_fully_trained_head_under_another_name_on_disk_comes_back(tmp_path):
    """transformers writes gpt_neox's head as `embed_out`; the module calls it `lm_head`."""
    lm, other = (LM(tiny_model("gpt_neox", seed), make_tokenizer(), ModelConfig(model="x"), (2,)) for seed in (1, 2))
    checkpoint.save_weights(lm, tmp_path)
    checkpoint.load_weights(other, tmp_path)
    for name, value in lm.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name]), name


def test_a_checkpoint_of_another_step_than_its_name_is_refused(home):
    student = trained(home)
    folder = saved(home, student)
    (folder / "state.json").write_text(json.dumps({"format_version": 1, "step": 7}))
    with pytest.raises(UserError, match="state.json is of step 7"):
        checkpoint.load(student, torch.optim.AdamW(student.module.parameters()), folder)


def test_an_adapter_that_lacks_a_weight_is_refused_when_it_is_put_on_a_model(home):
    folder = saved(home, trained(home)) / "adapter"
    state = load_file(folder / "adapter_model.safetensors")
    del state[min(state)]
    save_file(state, folder / "adapter_model.safetensors")
    config = student_config(home / "m", adapter=str(folder))
    for load in (
        lambda: load_student(config, CPU, (2,), 0),
        lambda: load_model(config, CPU, (2,)),
        lambda: load_teacher(ModelConfig(model=config.model, adapter=str(folder)), trained(home), CPU, (2,)),
    ):
        with pytest.raises(UserError, match="its weights are not this model's"):
            load()


def test_a_model_whose_files_lack_a_weight_is_refused(home):
    file = home / "m" / "model.safetensors"
    state = load_file(file)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"its files lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(ModelConfig(model=str(home / "m")), CPU, (2,))
