"""Documents cannot lie: commands in the README run, generated pages are current, links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from esr.cli.main import app
from esr.cli.main import run as esr
from tiny import TEMPLATE, make_tokenizer, save_model

ROOT = Path(__file__).parent.parent
SMALL = ["optim.steps=2", "rollout.prompts_per_step=2", "rollout.max_new_tokens=6", "data.max_prompt_tokens=4000"]
SMALL_EVAL = ["eval.limit=2", "eval.samples=1", "eval.max_new_tokens=60"]
OPTIONS = {
    "train": [*SMALL, *SMALL_EVAL],
    "analyze decay": ["--problems", "2", "--samples", "1"],
    "analyze profile": ["--problems", "2", "--max-new-tokens", "8"],
    "analyze rollouts": ["--count", "1"],
    "study": [],
    "report": [],
    "eval": [],
    "compare": [],
    "config": [],
    "check": [],
    "lab": [],
    "export": [],
}


def commands(file: str) -> list[str]:
    """What a document has one type, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / file).read_text(), re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def tiny_study() -> dict:
    """Stands in for a shipped study: one arm, one step."""
    lab = yaml.safe_load((ROOT / "examples" / "lab.yaml").read_text())
    lab["eval"] |= {"size": 2, "samples": 1, "max_new_tokens": 6, "teacher": False}
    lab["optim"] |= {"steps": 1}
    arms = {"esr": {"rollout.prompts_per_step": 2, "rollout.max_new_tokens": 6}}
    return {"question": "?", "base": lab, "reference": "esr", "seeds": [1], "arms": arms}


def test_every_esr_command_of_the_readme_runs(tmp_path, monkeypatch):
    """In the README's order, on tiny stand-ins for its models, with fewer steps."""
    monkeypatch.chdir(tmp_path)
    for side, seed in (("student", 1), ("teacher", 2)):
        tokenizer = make_tokenizer(template=TEMPLATE + "{% if enable_thinking %}{% endif %}")
        save_model(tmp_path / "models" / "smollm2" / side, seed, tokenizer)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "studies" / "lab").mkdir(parents=True)
    (tmp_path / "studies" / "lab" / "main.yaml").write_text(yaml.safe_dump(tiny_study()))
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"question": "what is {i}?"}}\n' for i in range(4)))
    (tmp_path / "math.jsonl").write_text('{"question": "what is 7 * 6?", "answer": "42"}\n' * 2)
    mine = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    mine = mine.replace("Qwen/Qwen3-1.7B ", "models/smollm2/student ").replace(
        "Qwen/Qwen3-4B", "models/smollm2/teacher"
    )
    (tmp_path / "mine.yaml").write_text(mine.replace("source: math500", "source: math.jsonl"))
    ran = []
    for command in commands("README.md"):
        name, *arguments = shlex.split(command)
        if name == "esr":
            key = " ".join(arguments[: 2 if arguments[0] == "analyze" else 1])
            assert esr([*arguments, *OPTIONS[key]]) == 0, command
            ran.append(key)
    assert set(ran) == set(OPTIONS)


def test_every_esr_command_of_the_tutorial_runs(tmp_path, monkeypatch):
    """In its order, those for a GPU too: with its configuration, but tiny models, few steps and short responses."""
    monkeypatch.chdir(tmp_path)
    for side, seed in (("student", 1), ("teacher", 2)):
        save_model(tmp_path / side, seed)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"question": "what is {i}?"}}\n' for i in range(9)))
    (tmp_path / "held_out.jsonl").write_text(
        "".join(f'{{"question": "{i} plus 1?", "answer": "{i + 1}"}}\n' for i in range(3))
    )
    mine = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.S).group(1))
    assert set(mine) == {"student", "teacher", "data", "eval"}
    mine["student"]["model"], mine["teacher"] = "student", {"model": "teacher"}
    mine["eval"] |= {"samples": 1, "max_new_tokens": 10}
    mine |= {"rollout": {"prompts_per_step": 2}, "optim": {"steps": 2}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    ran = []
    for command in commands("docs/tutorial.md"):
        name, *arguments = shlex.split(command)
        if name == "esr":
            measured = arguments[0] == "check" and "--quick" in arguments
            shorter = [
                *["eval.max_new_tokens=10"] * (arguments[0] == "train"),
                *["rollout.max_new_tokens=8"] * (arguments[0] == "train" and "--n" not in arguments),
                *["--lengths", "4,8", "--problems", "3"] * measured,
            ]
            code = esr([*arguments, *shorter])
            assert code in ((0, 3, 4) if measured else (0,)), command
            if measured:  # random models do not fit each other
                found = json.loads(Path("runs/mine-pair/analysis/fit.json").read_text())
                found["verdict"] |= {"answer": "fits", "n": 8}
                Path("runs/mine-pair/analysis/fit.json").write_text(json.dumps(found))
            ran.append(arguments[0])
    assert ran.count("check") == 3 and {"train", "watch", "report", "compare", "export"} <= set(ran)
    assert (tmp_path / "models" / "mine" / "README.md").exists() and (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda f: f.name)
def test_every_esr_command_of_a_document_is_understood(file):
    """Commands, options and numbers of arguments exist, for those too that need a GPU or hours; nothing is run."""
    root = get_command(app)
    for block in re.findall(r"```bash\n(.*?)```", file.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if not words or words[0] != "esr" or "*" in line:
                continue
            command, arguments = root, words[1:]
            while isinstance(command, TyperGroup) and arguments and arguments[0] in command.commands:
                command, arguments = command.commands[arguments[0]], arguments[1:]
            command.make_context(words[0], arguments)


def test_every_make_target_and_script_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in commands("README.md"):
        name, *arguments = shlex.split(command)
        if name == "make":
            assert arguments[0] in targets
        if name == "python":
            done = subprocess.run([sys.executable, str(ROOT / arguments[0]), "--help"], capture_output=True)
            assert done.returncode == 0


def test_make_results_knows_every_study_of_the_lab():
    found = [sys.executable, str(ROOT / "tools" / "make_results.py"), "--list"]
    listed = {line.split()[0] for line in subprocess.check_output(found, text=True).splitlines()}
    assert listed - {"analyses"} == {file.stem for file in (ROOT / "studies" / "lab").glob("*.yaml")}


@pytest.mark.parametrize("page", ["cli", "results", "when", "fits"])
def test_generated_pages_are_current(page):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"write_{page}.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs" / f"{page}.md").read_text(), f"make docs writes docs/{page}.md anew"


@pytest.mark.parametrize("file", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda f: f.name)
def test_links_lead_to_files_that_exist(file):
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert target.startswith("https://") or (file.parent / target).exists(), target


@pytest.mark.parametrize("file", sorted(ROOT.glob("docs/*.md")), ids=lambda f: f.name)
def test_tests_that_a_document_names_exist(file):
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", file.read_text()):
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists(), f"{path} {name}"


def test_documented_metrics_are_the_written_ones(tmp_path, monkeypatch, pair_dir):
    """docs/metrics.md names every metric that a run writes."""
    monkeypatch.chdir(tmp_path)
    tree = {
        "student": {"model": str(pair_dir / "student")}, "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")}, "optim": {"steps": 2}, "run": {"dir": "r", "device": "cpu"},
    }  # fmt: skip
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    assert esr(["train", "c.yaml"]) == 0
    text = (ROOT / "docs" / "metrics.md").read_text()
    for line in Path("r/metrics.jsonl").read_text().splitlines():
        for name in json.loads(line):
            leaf = name.rpartition("/")[2]
            known = f"`{name}`" in text or f"`{leaf}`" in text or f"`_{leaf.rpartition('_')[2]}`" in text
            assert known or name.startswith("kl/by_position/"), name
