"""The command line as such: help, mistyped names, completion, and a first line before the libraries are loaded."""

import os
import subprocess
import sys

import pytest

from esr.cli.main import run as esr


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["help"], []])
def test_help_has_several_spellings(arguments, capsys):
    assert esr(arguments) == (0 if arguments else 2)
    out = capsys.readouterr().out
    assert "Usage: esr [OPTIONS] COMMAND" in out and "analyze" in out


@pytest.mark.parametrize("arguments", [["help", "analyze", "decay"], ["analyze", "decay", "-h"]])
def test_help_of_a_command(arguments, capsys):
    assert esr(arguments) == 0
    assert "Usage: esr analyze decay" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["help", "trian"], "train"),
        (["analyze", "decai"], "decay"),
        (["help", "lab", "lits"], "list"),
    ],
)
def test_a_mistyped_command_says_what_it_could_have_been(arguments, meant, capsys):
    assert esr(arguments) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err


def test_completion_knows_the_commands():
    asked = {"_ESR_COMPLETE": "complete_bash", "COMP_WORDS": "esr analyze pro", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "from esr.cli.main import main; main()"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["profile"]


@pytest.mark.parametrize(
    "arguments", [["train", "c.yaml"], ["eval", "c.yaml", "--who", "base"], ["analyze", "profile", "c.yaml"]], ids=str
)
def test_the_first_line_comes_before_torch(arguments, tmp_path):
    (tmp_path / "torch.py").write_text("import os; os._exit(3)")
    (tmp_path / "c.yaml").write_text(
        "student: {model: lab:student-1}\nteacher: {model: lab:teacher-2}\ndata: {source: lab:arithmetic}\n"
        "eval: {source: lab:arithmetic}\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "esr.cli.main", *arguments], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "Loading torch and transformers ...\n")
