"""Records of analyses: no one writes over another that rests on something else."""

from esr.records.decay import Decay, DecaySettings
from esr.records.profile import ProfileSettings
from esr.runs import findings
from esr.runs.rundir import RunDir
from make_fixtures import decay


def test_a_record_with_other_settings_is_moved_aside_and_an_equal_one_replaced(tmp_path):
    run, first = RunDir(tmp_path), decay()
    other = first.model_copy(update={"settings": {**first.settings, "samples": 99}})
    assert findings.keep(run, "decay", first) is None
    assert findings.keep(run, "decay", first.model_copy(update={"seconds": 5.0})) is None
    aside = findings.keep(run, "decay", other)
    assert aside == tmp_path / "analysis" / "decay.json~1"
    assert Decay.model_validate_json(aside.read_text()).settings == first.settings
    assert run.analysis_files() == [tmp_path / "analysis" / "decay.json"]
    assert findings.keep(run, "decay", first).name == "decay.json~2"


def test_a_damaged_record_is_moved_aside_too(tmp_path):
    run = RunDir(tmp_path)
    findings.keep(run, "decay", decay())
    run.analysis_file("decay").write_text("{")
    assert findings.keep(run, "decay", decay()).read_text() == "{"


def test_each_protocol_has_a_record_of_its_own():
    for kind in (DecaySettings, ProfileSettings):
        assert (kind().variant(), kind.paper().variant()) == ("", "-paper")
