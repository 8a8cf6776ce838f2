"""The table of analyses is complete: what it names is there, and what is there it names."""

from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from esr.analysis import ANALYSES, analyze
from esr.cli.analyze import app
from esr.errors import UserError
from esr.records.finding import Finding
from esr.records.settings import Settings
from esr.report.page import order
from subjects import subject
from tiny import make_lm

ROWS = pytest.mark.parametrize("row", ANALYSES.values(), ids=list(ANALYSES))
SRC = Path(import_module("esr").__file__).parent


def findings() -> dict[str, type[Finding]]:
    """Every record class of an analysis in `records/`, by its kind."""
    modules = [import_module(f"esr.records.{file.stem}") for file in (SRC / "records").glob("[a-z]*.py")]
    classes = [c for module in modules for c in vars(module).values() if isinstance(c, type)]
    return {c.model_fields["kind"].default: c for c in classes if issubclass(c, Finding) and c is not Finding}


def test_every_record_of_an_analysis_has_a_row():
    assert findings() == {row.name: row.record for row in ANALYSES.values()}


@ROWS
def test_a_row_has_a_computation_a_section_of_the_page_and_something_to_print(row):
    assert callable(row.compute)
    assert callable(import_module(f"esr.cli.analyze.{row.module}").display)
    section = import_module(f"esr.report.sections.{row.section}")
    assert section in order()
    assert f'"{row.name}"' in Path(section.__file__).read_text(), "the section does not read this record"


@ROWS
def test_a_command_has_an_option_for_each_of_the_settings_and_says_its_values(row):
    command = get_command(app).commands[row.name]
    options = {p.name: p for p in command.params}
    for name, field in row.settings.model_fields.items():
        text = " ".join(options[name].help.split())
        assert " ".join(field.description.split()) in text
        for value in (field.default, row.settings.QUICK.get(name), row.settings.PAPER.get(name)):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert value is None or shown in text
    assert ("quick" in options) == bool(row.settings.QUICK)
    assert ("others" in options) == row.beside


def test_every_section_of_a_single_analysis_is_named_by_a_row():
    known = {row.section for row in ANALYSES.values()} | {
        "summary",
        "how",
        "tokenizers",
        "sweep",
        "training",
        "comparison",
        "provenance",
    }
    assert {file.stem for file in (SRC / "report" / "sections").glob("[a-z]*.py")} == known


class Told(Settings):
    """Three numbers."""

    size: int = 9
    depth: int = 9
    protocol: str = "ours"

    QUICK = {"size": 1, "depth": 1}
    PAPER = {"depth": 5}


def test_what_is_given_goes_before_the_papers_values_and_those_before_the_quick_ones():
    assert Told().model_dump() == {"size": 9, "depth": 9, "protocol": "ours"}
    assert Told.quick(size=3).model_dump() == {"size": 3, "depth": 1, "protocol": "ours"}
    assert Told.paper().model_dump() == {"size": 9, "depth": 5, "protocol": "paper"}
    assert Told.of({"protocol": "paper"}, quick=True).model_dump() == {"size": 1, "depth": 5, "protocol": "paper"}
    assert Told.paper(depth=2).depth == 2
    with pytest.raises(UserError, match="--size big: input should be a valid integer"):
        Told(size="big")


def test_what_cannot_be_analysed_is_refused_before_models_are_loaded():
    about = subject(make_lm(1), None, make_lm(2))
    with pytest.raises(UserError, match="no analysis horizon"):
        analyze(about, "horizon")
    with pytest.raises(UserError, match="decay puts no other runs"):
        analyze(about, "decay", others=["runs/lab"])
    for name, missing in (("decay", "`eval` section"), ("prefix-swap", "trained student"), ("efficiency", "no config")):
        with pytest.raises(UserError, match=missing):
            analyze(about, name)
    assert "models" not in vars(about)
