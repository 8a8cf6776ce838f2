"""What `import esr` offers."""

import re
import subprocess
import sys
from pathlib import Path

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
