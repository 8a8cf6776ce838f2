"""A configuration in the words of other tools: equal where they have the method, said where they have not."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from esr.cli.main import run as esr
from esr.config import Config
from esr.runs.recipes import TOOLS, translate


def config(**sections) -> Config:
    return Config(
        student={"model": "a/student", "system_prompt": "Be brief."}, teacher={"model": "a/teacher", "system_prompt": "Be brief."},
        data={"source": "x.jsonl"}, **sections,
    )  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_the_models_the_length_and_the_optimiser_arrive(tool):
    text = json.dumps(translate(config(rollout={"max_new_tokens": 77}, optim={"lr": 3e-5, "steps": 55}), tool).settings)
    for value in ("a/student", "a/teacher", "77", "3e-05", "55", "all-linear"):
        assert value in text


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_has_not_is_said(tool):
    plain = translate(config(loss={"merge_terminators": False}), tool).differs
    rich = translate(
        config(loss={"selection": {"by": "top_kl"}}, rollout={"horizon": {"policy": "linear"}}), tool
    ).differs  # fmt: skip
    assert {"selection", "horizon", "one event"} <= {
        w for s in rich for w in ("selection", "horizon", "one event") if w in s
    }
    assert not any("selection" in s or "one event" in s for s in plain)


def test_the_divergence_is_theirs_of_the_same_name():
    betas = [
        translate(config(loss={"divergence": d, "beta": 0.3}), "trl").settings["beta"]
        for d in ("reverse_kl", "forward_kl", "jsd")
    ]
    assert betas == [1.0, 0.0, 0.3]
    assert translate(config(), "verl").settings["distillation"]["distillation_loss"]["loss_mode"] == "k1"


def test_what_verls_dataclasses_refuse_otherwise_is_there():
    """One teacher on the one GPU that it is given, and micro-batches of some size."""
    settings = translate(config(), "verl").settings
    pool = settings["distillation"]["n_gpus_per_node"] * settings["distillation"]["nnodes"]
    teacher = settings["distillation"]["teacher_models"]["teacher_model"]
    assert teacher["num_replicas"] * teacher["inference"]["tensor_model_parallel_size"] == pool
    assert settings["actor_rollout_ref"]["actor"]["use_dynamic_bsz"]


@pytest.mark.parametrize("tool", TOOLS)
def test_esr_export_writes_recipe_prompts_and_notes(tool, tmp_path, monkeypatch, pair_dir, capsys):
    monkeypatch.chdir(tmp_path)
    tree = {
        "student": {"model": str(pair_dir / "student"), "system_prompt": "Be brief."}, "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")}, "optim": {"steps": 2}, "run": {"dir": "run"},
        "rollout": {"prompts_per_step": 2},
    }  # fmt: skip
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"format_version": 1, **tree}))
    assert esr(["export", "run", "out", "--to", tool]) == 0
    assert "Not the same there" in capsys.readouterr().out
    assert yaml.safe_load(Path("out/recipe.yaml").read_text()) == translate(Config(**tree), tool).settings
    if tool == "verl":
        prompts = pyarrow.parquet.read_table("out/prompts.parquet").column("prompt").to_pylist()
    else:
        rows = [json.loads(line) for line in Path("out/prompts.jsonl").read_text().splitlines()]
        prompts = [row["prompt" if tool == "trl" else "messages"] for row in rows]
    assert len(prompts) == 4
    assert prompts[0][0] == {"role": "system", "content": "Be brief."} and prompts[0][1]["role"] == "user"
    assert esr(["export", "run", "out", "--to", tool]) == 2
    assert esr(["export", "run", "elsewhere", "--to", "axolotl"]) == 2
