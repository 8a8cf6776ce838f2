"""Exports: the same model for every reader, in the base's type, with the base's files, and nothing of this machine."""

import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from architectures import tiny_model
from esr import export, probe
from esr.config import Config
from esr.errors import UserError
from esr.models import checkpoint
from esr.models.load import load_student
from esr.runs.environment import Machine
from esr.runs.rundir import RunDir
from tiny import make_model, make_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def trained(tmp_path):
    """Builds a run with one checkpoint of a student whose trained weights are far from where they began."""

    def build(base=None, dtype=torch.bfloat16, teacher_eos: int = 1, **student) -> tuple[RunDir, Config]:
        for name, model in (("base", base or make_model(1)), ("teacher", make_model(2))):
            model.to(dtype).save_pretrained(tmp_path / name)
            make_tokenizer().save_pretrained(tmp_path / name)
        GenerationConfig(eos_token_id=[teacher_eos, 2]).save_pretrained(tmp_path / "teacher")
        config = Config(
            student={"model": str(tmp_path / "base"), "dtype": "float32", **student},
            teacher={"model": str(tmp_path / "teacher")}, data={"source": "x.jsonl"},
        )  # fmt: skip
        run = RunDir(tmp_path / "run")
        run.open_or_create(config, Machine("cpu"))
        lm = load_student(config.student, CPU, (2,), 0)
        torch.manual_seed(9)
        for p in lm.module.parameters():
            if p.requires_grad:
                p.data.add_(0.1 * torch.randn_like(p))
        checkpoint.save(run, lm, torch.optim.AdamW([p for p in lm.module.parameters() if p.requires_grad]), 1)
        return run, config

    return build


def test_the_type_is_the_base_checkpoints(trained, tmp_path):
    run, _ = trained(dtype=torch.bfloat16)
    export.export(run, tmp_path / "out", None, "merged")
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight.dtype == torch.bfloat16


def test_the_bases_files_are_copied_and_say_nothing_of_this_machine(trained, tmp_path):
    run, _ = trained()
    export.export(run, tmp_path / "out", None, "merged")
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    text = "".join(file.read_text() for file in (tmp_path / "out").iterdir() if file.suffix in (".json", ".md"))
    assert str(tmp_path) not in text
    assert "is_local" not in text
    assert "TokenizersBackend" not in text
    assert "extra_special_tokens" not in text
    assert AutoTokenizer.from_pretrained(tmp_path / "out").all_special_ids == make_tokenizer().all_special_ids
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a b")["input_ids"] == make_tokenizer()("a b")["input_ids"]


def test_rope_is_written_in_both_spellings():
    rope = {"rope_type": "default", "rope_theta": 1e6}
    assert export.readable({"rope_parameters": rope}, "float32")["rope_theta"] == 1e6
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    both = export.readable({"rope_parameters": scaled, "_name_or_path": "/home/me"}, "bfloat16")
    assert both["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    assert both["torch_dtype"] == both["dtype"] == "bfloat16"
    assert "_name_or_path" not in both


def test_every_end_token_of_the_run_is_in_the_generation_config(trained, tmp_path):
    run, _ = trained(teacher_eos=7)
    export.export(run, tmp_path / "out", None, "merged")
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"] == [2, 7]


def test_an_adapter_names_its_base_on_the_hub_or_none(trained, tmp_path):
    run, config = trained()
    export.export(run, tmp_path / "a", None, "adapter")
    assert peft.PeftConfig.from_pretrained(tmp_path / "a").base_model_name_or_path is None
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_name_or_path": "owner/name"}))
    assert export.base_of_record(config.student) == "owner/name"


@pytest.mark.parametrize("target", [["lm_head"], ["embed_tokens"]])
def test_adapters_on_tied_embeddings_export_the_student_that_was_trained(trained, tmp_path, target):
    run, config = trained(
        make_model(1, tie_word_embeddings=True), dtype=torch.float32, lora={"r": 4, "target_modules": target}
    )
    export.export(run, tmp_path / "out", None, "merged")
    lm = load_student(config.student, CPU, (), 0)
    checkpoint.load_weights(lm, run.checkpoints()[-1])
    config_out = config.student.model_copy(update={"model": str(tmp_path / "out")})
    assert probe.distance(probe.logits(lm), export.reloaded(tmp_path / "out", config_out, "merged")) < 1e-6


def test_a_fully_trained_head_under_another_name_is_exported(trained, tmp_path):
    base = tiny_model("gpt_neox")
    run, config = trained(base, dtype=torch.float32, train="full")
    export.export(run, tmp_path / "out", None, "merged")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    lm = load_student(config.student, CPU, (), 0)
    before = lm.module.lm_head.weight.clone()
    checkpoint.load_weights(lm, run.checkpoints()[-1])
    assert torch.equal(exported.lm_head.weight, lm.module.lm_head.weight)
    assert not torch.equal(exported.lm_head.weight, before)


def test_an_export_that_is_another_model_is_refused_and_not_left_behind(trained, tmp_path, monkeypatch):
    run, _ = trained()
    monkeypatch.setattr(export, "reloaded", lambda folder, config, kind: torch.zeros(8, 64))
    with pytest.raises(UserError, match=r"the exported model differs from the run's student by \d"):
        export.export(run, tmp_path / "out", None, "merged")
    assert not (tmp_path / "out").exists()
