"""Files of a run directory that are not what they should be."""

import pytest

from esr.errors import UserError
from esr.records.evaluation import Evaluation
from esr.runs.files import read_json, read_record


@pytest.mark.parametrize("content", ["[1]", "null", "3", '"x"', "{", "", "[" * 5000, '{"format_version": 9}'])
def test_what_is_no_record_is_named_with_the_remedy(tmp_path, content):
    file = tmp_path / "state.json"
    file.write_text(content)
    for read in (read_json, lambda path: read_record(path, Evaluation)):
        with pytest.raises(UserError, match=r"state\.json.*(put a copy in its place|use the version)"):
            read(file)
