"""What is said of a run before any weights are loaded, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from esr.cli.main import run as esr
from esr.config.configfile import load
from esr.errors import UserError
from esr.prepare import prepare


@pytest.fixture
def config(tmp_path, monkeypatch, pair_dir) -> Path:
    """Six prompts, two of which ask the same."""
    monkeypatch.chdir(tmp_path)
    questions = ["a", "bb", "ccc", "dddd", "eeeee", "bb "]
    Path("q.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
    tree = {
        "student": {"model": str(pair_dir / "student")},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": "q.jsonl"},
        "optim": {"steps": 6},
        "rollout": {"prompts_per_step": 3},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return Path("c.yaml")


def test_it_says_what_the_data_and_the_adapter_are(config, capsys):
    plan = prepare(load(config, ["student.lora.target_modules=[q_proj, v_proj]"]))
    said = " ".join(capsys.readouterr().err.split())
    assert "6 training prompts (1 repeat another one's question)" in said
    assert (
        f"{max(len(p.student_ids) for p in plan.prompts)} at most; the steps take 18, so each is used 3.0 times" in said
    )
    trained = 2 * (32 * (32 + 32) + 32 * (32 + 16))  # two layers, rank 32: in and out of each projection
    assert f"LoRA of rank 32 goes on 4 layers (q_proj, v_proj): {trained:,} weights are trained." in said


def test_an_adapter_without_a_layer_to_go_on_is_refused(config):
    with pytest.raises(UserError, match="choose other student.lora.target_modules"):
        prepare(load(config, ["student.lora.target_modules=[nowhere]"]))


def test_the_static_part_of_a_check_is_json_too(config, capsys):
    """With the plan for a device that is too small as well, whose exit code says so."""
    for memory, code in (("24GiB", 0), ("100KiB", 3)):
        assert esr(["check", str(config), "--static", "--device-memory", memory, "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert (told["prompts"], told["prompts_taken"], told["evaluation_problems"]) == (6, 18, 0)
        assert told["student_ends"] == ["<|im_end|>"] == told["teacher_ends"] and told["tokenizers"] is None
        assert told["memory"]["fits"] == (code == 0)
        assert bool(told["memory"]["remedies"]) <= (code == 3)
