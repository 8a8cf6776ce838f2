"""`esr config FILE` shows one prompt of each side as the models get it, with their special tokens."""

import json

import pytest
import yaml

from esr.cli.main import run as esr

TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello."},
    {"role": "user", "content": "what is 1 + 1?"},
]


@pytest.fixture
def config(tmp_path, pair_dir):
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps({"messages": TURNS}) + "\n" for _ in range(2)))
    tree = {
        "student": {"model": str(pair_dir / "student"), "system_prompt": "be brief"},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(tmp_path / "chat.jsonl")},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    return str(tmp_path / "c.yaml")


def test_a_conversation_is_shown_with_its_special_tokens(config, capsys):
    assert esr(["config", config]) == 0
    out, said = capsys.readouterr()
    said = said.replace("\n", "")
    conversation = "<|user|>hi<|im_end|><|assistant|>hello.<|im_end|><|user|>what is 1 + 1?<|im_end|><|assistant|>"
    assert f'The student is prompted with "<|system|>be brief<|im_end|>{conversation}"' in said
    assert f'The teacher is prompted with "{conversation}"' in said
    assert yaml.safe_load(out)["data"]["tools"] == "template"


def test_data_on_the_hub_is_not_fetched_for_it(config, capsys):
    assert esr(["config", config, "data.source=some/where"]) == 0
    assert "<|user|>{question}<|im_end|>" in capsys.readouterr().err


def test_data_that_cannot_be_read_do_not_keep_the_config_from_being_shown(config, capsys):
    assert esr(["config", config, "data.source=nowhere.jsonl"]) == 0
    out, said = capsys.readouterr()
    assert "The prompts cannot be shown" in said
    assert "rollout:" in out
