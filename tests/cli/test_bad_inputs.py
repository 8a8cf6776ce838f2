"""Every mistake in the list: exit code 2, one sentence, no traceback, nothing written over."""

from pathlib import Path

import pytest

import bad_inputs


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    bad_inputs.build(folder)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".lock"}


@pytest.mark.parametrize(("title", "arguments"), bad_inputs.CASES, ids=[title for title, _ in bad_inputs.CASES])
def test_a_mistake_gets_one_sentence(title, arguments, home, monkeypatch):
    monkeypatch.chdir(home)
    before = contents(home)
    code, text = bad_inputs.answer(arguments)
    assert code == 2, text
    assert "Traceback" not in text
    assert contents(home) == before
    document = (Path(__file__).parents[2] / "docs" / "bad-inputs.md").read_text()
    assert text.strip().splitlines()[-1].replace(str(home), "/home/you") in document, "write docs/bad-inputs.md anew"
