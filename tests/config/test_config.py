"""The configuration: shipped files parse, defaults are the paper's, and N alone makes ESR or full OPD."""

from pathlib import Path

import pytest
import yaml

from esr.config import FULL_ROLLOUT_CAP
from esr.config.configfile import load
from esr.config.keys import flatten, keys
from esr.errors import UserError

ROOT = Path(__file__).parent.parent.parent
SHIPPED = sorted([*ROOT.glob("configs/*.yaml"), *ROOT.glob("examples/**/*.yaml")])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name)
def test_every_shipped_config_parses(file):
    config = load(file)
    assert config.lr > 0


def test_there_are_shipped_configs():
    assert {"qwen2.5-math-1.5b.yaml", "qwen3-1.7b.yaml", "gemma-2-2b.yaml", "esr.yaml"} <= {f.name for f in SHIPPED}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name)
def test_the_early_stop_length_alone_turns_esr_into_full_distillation(file):
    esr, full = (flatten(load(file, o).model_dump()) for o in ([], [f"rollout.max_new_tokens={FULL_ROLLOUT_CAP}"]))
    assert {k for k in esr if esr[k] != full[k]} == {"rollout.max_new_tokens"}


@pytest.mark.parametrize("n", [50, 100])
@pytest.mark.parametrize("name", ["code.yaml", "functions.yaml"])
def test_recipes_for_code_and_functions_stand_for_both_lengths(name, n):
    """The paper stops code and function calls after 50 or 100 tokens; prompts come from sets whose form is recognised."""
    config = load(ROOT / "configs" / name, [f"rollout.max_new_tokens={n}"])
    assert (config.rollout.max_new_tokens, config.data.question, config.data.answer) == (n, "question", "answer")
    assert config.eval and config.eval.temperature == 0


def test_the_recipe_between_families_is_the_papers():
    """Gemma-2-2B learns from Qwen3-4B, N = 50; Gemma 2 caps its attention logits, which only `eager` does."""
    cross = load(ROOT / "configs" / "gemma-2-2b.yaml")
    assert (cross.student.model, cross.teacher.model) == ("google/gemma-2-2b-it", "Qwen/Qwen3-4B")
    assert cross.rollout.max_new_tokens == 50 and cross.student.attention == "eager"
    assert cross.loss.cross == "classes" and cross.loss.merge_terminators


def test_defaults_are_the_recipe_of_the_paper(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("student: {model: a/b}\nteacher: {model: c/d}\ndata: {source: x.jsonl}\n")
    got = flatten(load(file).model_dump())
    expected = {
        "student.lora.r": 32, "student.lora.alpha": 64, "student.lora.dropout": 0.05, "optim.lr": 5e-5, "optim.weight_decay": 0.01,
        "optim.schedule": "cosine", "optim.warmup_ratio": 0.1, "optim.clip": 1.0, "rollout.prompts_per_step": 16,
        "rollout.samples_per_prompt": 1, "optim.steps": 200, "rollout.temperature": 0.7, "rollout.top_p": 0.95,
        "rollout.top_k": 0, "rollout.max_new_tokens": 100, "run.seed": 42, "loss.divergence": "reverse_kl",
        "loss.aggregation": "sequence_mean", "loss.merge_terminators": True,
    }  # fmt: skip
    assert {k: got[k] for k in expected} == expected
    assert load(file, ["student.train=full"]).lr == 5e-6
    assert load(file, ["student.train=full", "optim.lr=1e-4"]).lr == 1e-4


def test_overrides_go_before_the_file_and_the_file_before_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "student: {model: a/b}\nteacher: {model: c/d}\ndata: {source: x}\nrollout: {max_new_tokens: 7, top_p: 0.5}\n"
    )
    config = load(file, ["rollout.max_new_tokens=9", "student.chat_template_kwargs={enable_thinking: false}"])
    assert (config.rollout.max_new_tokens, config.rollout.top_p, config.rollout.temperature) == (9, 0.5, 0.7)
    assert config.student.chat_template_kwargs == {"enable_thinking": False}


def test_a_resolved_config_reads_back_as_itself(tmp_path):
    config = load(ROOT / "configs" / "qwen3-1.7b.yaml")
    file = tmp_path / "resolved.yaml"
    file.write_text(yaml.safe_dump(config.model_dump()))
    assert load(file) == config


def test_every_key_has_a_description():
    from esr.cli.config import documented

    assert [key for key, _, text in documented() if not text] == []
    assert "rollout.max_new_tokens" in keys()


def test_a_frozen_config_cannot_be_changed(tmp_path):
    config = load(ROOT / "configs" / "qwen3-1.7b.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 3


def test_several_mistakes_are_named_together(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("student: {modle: a/b}\nteacher: {model: c/d}\ndata: {source: x}\noptim: {steps: 0}\n")
    with pytest.raises(UserError, match=r"student\.model is missing; .*student\.modle.*optim\.steps is 0"):
        load(file)


def test_n_in_words_says_when_it_changes():
    from esr.config import HorizonConfig, RolloutConfig

    assert RolloutConfig().stops_at == "100"
    assert RolloutConfig(max_new_tokens=640, horizon=HorizonConfig(policy="linear")).stops_at == "25 to 640 (linear)"
