"""Every path that claims to be the same model is it, whatever the adapter; or the model is refused."""

import re
from pathlib import Path

import peft
import pytest
import torch

from architectures import tiny_model
from esr import probe
from esr.analysis import models
from esr.config import Config, ModelConfig, StudentConfig
from esr.errors import UserError
from esr.models import unsupported
from esr.models.lm import LM
from esr.models.load import load_model
from esr.runs.rundir import RunDir
from esr.sampling import packed
from tiny import make_model, make_tokenizer, save_model

LORA = dict(r=4, task_type="CAUSAL_LM", target_modules="all-linear")
KINDS = {
    "lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "lora on the head": {"target_modules": ["lm_head"]},
    "lora on embeddings": {"target_modules": ["embed_tokens", "q_proj"]}, "trained head": {"modules_to_save": ["lm_head"]},
}  # fmt: skip


def adapted(settings: peft.PeftConfig, **options) -> LM:
    """A tiny model with a random adapter that does something."""
    module = peft.get_peft_model(make_model(1, **options), settings)
    torch.manual_seed(5)
    for p in module.parameters():
        if p.requires_grad:
            p.data.add_(0.2 * torch.randn_like(p))
    return LM(module.eval(), make_tokenizer(), ModelConfig(model="tiny"), (2,), "default")


@pytest.mark.parametrize("kind", KINDS)
def test_lora_of_every_kind_is_one_model_on_all_paths(kind):
    lm = adapted(peft.LoraConfig(**{**LORA, **KINDS[kind]}))
    probe.check(lm)
    own = probe.logits(lm)
    with lm.module.disable_adapter():
        assert probe.distance(own, lm.causal_lm(torch.arange(8)[None]).logits[0]) > 0.01


def test_biased_adapters_and_adapters_on_parameters_are_one_model_on_all_paths():
    probe.check(adapted(peft.LoraConfig(**LORA, lora_bias=True), attention_bias=True, mlp_bias=True))
    on_parameters = {**LORA, "target_modules": [], "target_parameters": ["q_proj.weight"]}
    probe.check(adapted(peft.LoraConfig(**on_parameters)))
    probe.check(
        adapted(
            peft.IA3Config(
                task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
            )
        )
    )


def test_plain_lora_is_merged_and_others_are_left_as_they_are():
    def merged(**options) -> set[bool]:
        module = adapted(peft.LoraConfig(**{**LORA, **options})).module
        return {packed.merged(m) is not None for m in module.modules() if isinstance(m, peft.tuners.lora.Linear)}

    assert merged() == merged(use_rslora=True) == {True}
    assert merged(use_dora=True) == {False}


def test_a_path_that_differs_is_refused_with_the_size(monkeypatch):
    lm = adapted(peft.LoraConfig(**LORA))
    monkeypatch.setattr(packed, "merged", lambda layer: getattr(layer, "base_layer", None) and layer.base_layer.weight)
    with pytest.raises(UserError, match=r"decoding differs from the model's own forward by \d\.\d+ nats"):
        probe.check(lm)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_adapters_that_add_to_the_prompt_are_refused(kind, tmp_path):
    save_model(tmp_path / "m", seed=1)
    settings = {
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    }[kind]
    peft.get_peft_model(make_model(1), settings).save_pretrained(tmp_path / "a")
    with pytest.raises(UserError, match="adapters are not supported"):
        load_model(ModelConfig(model=str(tmp_path / "m"), adapter=str(tmp_path / "a")), torch.device("cpu"), (2,))


@pytest.mark.parametrize("model_type", ["mamba", "rwkv", "openai-gpt"])
def test_a_model_that_cannot_be_decoded_in_padded_rows_is_refused(model_type):
    lm = LM(tiny_model(model_type), make_tokenizer(), ModelConfig(model="x"), (2,))
    with pytest.raises(UserError, match="cannot be run from a cache|decoding differs"):
        probe.check(lm)


def test_analyses_refuse_a_model_that_is_another_one_when_it_decodes(tmp_path):
    for name, model in (("student", tiny_model("mamba")), ("teacher", make_model(2))):
        model.save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
    tree = {"student": {"model": str(tmp_path / "student")}, "teacher": {"model": str(tmp_path / "teacher")}}
    config = Config(**tree, data={"source": "x.jsonl"}, run={"device": "cpu"})
    with pytest.raises(UserError, match="its architecture is mamba, and it decodes padded rows otherwise"):
        models.load(RunDir(tmp_path / "pair"), config, None)


def test_architectures_that_a_probe_refuses_are_refused_before_weights_are_loaded():
    """All that the document says: they are in the table, or their shapes give them away."""
    text = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text().partition("refused**")[2]
    refused = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.M))
    by_shape = {name for name, why in refused.items() if "text part" in why or "shares its weights" in why}
    assert len(refused) > 20 and by_shape
    assert set(unsupported.WHY) == set(refused) - by_shape
    wording = {unsupported.DECODING: "decoding differs", unsupported.SCORING: "scoring differs", unsupported.CACHE: "from a cache",
               unsupported.PARTS: "no separable"}  # fmt: skip
    assert all(wording[why] in refused[name] for name, why in unsupported.WHY.items())


def test_what_an_architecture_cannot_do_is_found_before_weights_are_loaded(tmp_path):
    tiny_model("mixtral").config.save_pretrained(tmp_path / "moe")
    probe.before_loading(ModelConfig(model=str(tmp_path / "moe")))
    with pytest.raises(UserError, match=r"set student\.lora\.dropout=0"):
        probe.before_loading(StudentConfig(model=str(tmp_path / "moe")))
    probe.before_loading(StudentConfig(model=str(tmp_path / "moe"), lora={"dropout": 0.0}))


def test_a_vision_tower_gets_no_adapter():
    from esr.models.adapters import fresh_adapter

    module = fresh_adapter(tiny_model("gemma3"), StudentConfig(model="x"), 0)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    assert names
    assert all("language_model" in name for name in names)


@pytest.mark.parametrize(
    "message", ["DefaultCPUAllocator: can't allocate memory: you tried", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_running_out_of_memory_is_no_fault_of_the_architecture(message, monkeypatch):
    def full(*args):
        raise RuntimeError(message)

    monkeypatch.setattr(probe, "scored", full)
    with pytest.raises(RuntimeError, match=message):
        probe.check(adapted(peft.LoraConfig(**LORA)))


def test_an_adapter_reaches_a_backbone_that_the_model_does_not_name():
    """Llama 4's `get_decoder` gives the whole model."""
    from esr.models.adapters import fresh_adapter

    module = fresh_adapter(tiny_model("llama4_text"), StudentConfig(model="x"), 0)
    assert any("q_proj" in name for name, p in module.named_parameters() if p.requires_grad)


def test_layers_that_share_their_weights_get_no_adapters_of_their_own():
    """Zamba's attention is one block that stands at several places."""
    from esr.models.adapters import fresh_adapter

    with pytest.raises(UserError, match=r"shares its weights with another layer.*student\.lora\.target_modules"):
        fresh_adapter(tiny_model("zamba"), StudentConfig(model="x"), 0)
