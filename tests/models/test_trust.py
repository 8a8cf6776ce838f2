"""A run directory from someone else runs no code of theirs; the machine is in the record; old cards get float16."""

import json
import os
import subprocess
import sys

import pytest
import torch

from esr.cli.main import run as esr
from esr.config import Config, ModelConfig
from esr.models.lm import resolve_dtype
from esr.models.machine import machine
from esr.runs.environment import Machine, environment
from esr.runs.rundir import RunDir
from tiny import save_model

EVIL = "from pathlib import Path\nfrom transformers import LlamaConfig\nPath({!r}).touch()\n\n\nclass Evil(LlamaConfig):\n    pass\n"


@pytest.fixture
def given(tmp_path):
    """A run whose model comes with code that leaves a mark."""
    base = save_model(tmp_path / "base", seed=1)
    (tmp_path / "x.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (base / "evil.py").write_text(EVIL.format(str(tmp_path / "ran")))
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps({**settings, "model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}})
    )
    side = {"model": str(base), "trust_remote_code": True}
    config = Config(
        student=side, teacher=side, data={"source": str(tmp_path / "x.jsonl")}, eval={"source": "lab:arithmetic"}
    )
    RunDir(tmp_path / "run").open_or_create(config, Machine("cpu"))
    step = tmp_path / "run" / "checkpoints" / "step-000001"
    step.mkdir(parents=True)
    (step / "state.json").write_text('{"format_version": 1, "step": 1}')
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "run"], ["export", "run", "out"], ["analyze", "decay", "run"], ["train", "run/config.json"],
        ["eval", "run/config.json", "--who", "base"],
    ],
)  # fmt: skip
def test_code_of_a_run_directory_runs_only_if_the_command_says_so(given, command, monkeypatch, capsys):
    monkeypatch.chdir(given)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(given / "modules"))
    assert esr(command) == 2
    assert "--trust-remote-code" in capsys.readouterr().err
    assert not (given / "ran").exists()
    esr(["--trust-remote-code", *command])
    assert (given / "ran").exists()


def test_code_needs_a_cache_that_can_be_written_to(given, monkeypatch, capsys):
    """A home without one, as services have it."""
    home = given / "x.jsonl" / ".cache" / "huggingface"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(home / "modules"))
    monkeypatch.setattr("esr.models.load.HF_HOME", str(home))
    assert esr(["--trust-remote-code", "train", str(given / "run" / "config.json")]) == 2
    assert "set HF_HOME to a directory that can be written to" in capsys.readouterr().err


def test_cards_without_bfloat16_get_float16(monkeypatch):
    for capability, wanted in (
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert resolve_dtype(ModelConfig(model="a/b"), torch.device("cuda")) == wanted


@pytest.mark.parametrize("units", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_processor_with_units_for_bfloat16_uses_them(units, monkeypatch):
    """But not for the lab's models, which give the same everywhere, and not where the type is named."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    cpu, plain = torch.device("cpu"), ModelConfig(model="a/b")
    assert (resolve_dtype(plain, cpu), machine(cpu).auto) == (torch.float32, "float32")
    monkeypatch.setattr(torch.cpu, units, lambda: True)
    assert (resolve_dtype(plain, cpu), machine(cpu).auto) == (torch.bfloat16, "bfloat16")
    assert resolve_dtype(ModelConfig(model="a/b", dtype="float32"), cpu) == torch.float32
    assert resolve_dtype(ModelConfig(model="lab:student-1"), cpu) == torch.float32


def test_the_record_names_the_cards(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 575.57.08, 81559 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert environment(Machine("cuda:0"))["gpus"] == ["NVIDIA H100, 575.57.08, 81559 MiB"]
    assert environment(Machine("cpu"))["gpus"] == []


@pytest.mark.parametrize("own", [None, "max_split_size_mb:64"])
def test_memory_of_a_card_may_grow_in_place(own):
    """In a notebook as on the command line; what the user has set stays."""
    rest = {k: v for k, v in os.environ.items() if k != "PYTORCH_ALLOC_CONF"} | (
        {"PYTORCH_ALLOC_CONF": own} if own else {}
    )
    code = "import os, esr; print(os.environ['PYTORCH_ALLOC_CONF'])"
    done = subprocess.run([sys.executable, "-c", code], env=rest, capture_output=True, text=True)
    assert done.stdout.strip() == (own or "expandable_segments:True")


@pytest.mark.parametrize("command", [["eval", "run"], ["train", "run"], ["train", "run/config.json"]])
def test_a_grader_of_a_run_directory_runs_only_if_the_command_says_so(tmp_path, command, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = save_model(tmp_path / "base", seed=1)
    (tmp_path / "x.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (tmp_path / "g.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n\n\ndef judge(problem, response):\n    return True\n"
    )
    side = {"model": str(base)}
    task = {"source": "x.jsonl", "grader": "python:g.py:judge", "max_new_tokens": 3}
    config = Config(student=side, teacher=side, data={"source": "x.jsonl"}, optim={"steps": 1}, eval=task)
    RunDir(tmp_path / "run").open_or_create(config, Machine("cpu"))
    assert esr(command) == 2
    assert "python:" in (said := capsys.readouterr().err) and "--trust-remote-code" in said
    assert not (tmp_path / "ran").exists()
