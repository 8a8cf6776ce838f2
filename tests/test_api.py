"""What `import esr` offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import esr

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()


def test_the_public_names_are_there_and_documented():
    assert set(dir(esr)) == set(esr.__all__)
    for name in esr.__all__:
        assert getattr(esr, name) is not None
        assert f"esr.{name}" in PAGE or name == "__version__", name


def test_importing_it_is_light():
    heavy = "{'torch', 'transformers', 'pydantic', 'typer', 'rich'} & set(sys.modules)"
    code = f"import sys, esr; assert not {heavy}, {heavy}; esr.distil; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """As printed there, with the evaluation's responses cut short."""
    (tmp_path / "examples").mkdir()
    lab = (Path(__file__).parents[1] / "examples" / "lab.yaml").read_text()
    assert lab.count("max_new_tokens: 640") == 1
    (tmp_path / "examples" / "lab.yaml").write_text(lab.replace("max_new_tokens: 640", "max_new_tokens: 12"))
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(example, "docs/python.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "100 0.002"
    assert out[-1] == "runs/notebook/report.html"
    assert Path("runs/notebook/report.html").exists() and Path("runs/notebook/analysis/lengths.json").exists()


def test_a_run_goes_on_by_its_directory_and_every_analysis_takes_a_step(tmp_path, monkeypatch, pair_dir):
    monkeypatch.chdir(tmp_path)
    data = {"source": str(pair_dir / "prompts.jsonl"), "limit": 4}
    tree = {
        "student": {"model": str(pair_dir / "student")}, "teacher": {"model": str(pair_dir / "teacher")}, "data": data,
        "rollout": {"prompts_per_step": 2, "max_new_tokens": 4}, "optim": {"steps": 2},
        "eval": {**data, "limit": 10, "samples": 1, "max_new_tokens": 4, "teacher": False}, "run": {"device": "cpu", "checkpoint_every": 1},
    }  # fmt: skip
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    run = esr.distil("c.yaml")
    assert esr.distil("runs/c").path.resolve() == run.path.resolve()
    for step in (1, 2):
        found = esr.analyze("runs/c", "profile", problems=2, step=step)
        assert found.step == step
    with pytest.raises(esr.UserError, match="has no checkpoint of step 9"):
        esr.analyze("runs/c", "profile", problems=2, step=9)
