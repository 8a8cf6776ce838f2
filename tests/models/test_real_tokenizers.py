"""Tokenizers of released models, SmolLM2's (bytes) and Gemma 3's (`\u2581` and byte fallback): `make tokenizers`."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_pairs import CASES
from esr.config import StudentConfig
from esr.models.load import load_tokenizer
from esr.models.spelling import SWEEP, prove, read_spelling
from esr.models.terminators import of_model
from esr.pair.crossing import Crossing

pytestmark = pytest.mark.tokenizers
MODELS = Path(__file__).parents[2] / "models"
NAMES = {"smollm2/teacher": 49_152, "gemma3-270m": 262_144}
PROSE = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tokenizers():
    return {name: load_tokenizer(StudentConfig(model=str(MODELS / name))) for name in NAMES}


@pytest.fixture(scope="module")
def sides(tokenizers):
    ends = {name: of_model(t, StudentConfig(model=str(MODELS / name))) for name, t in tokenizers.items()}
    return {name: (read_spelling(t, NAMES[name], ends[name], name), ends[name]) for name, t in tokenizers.items()}


@pytest.mark.parametrize("name", NAMES)
def test_text_comes_back_and_is_what_the_model_would_read(name, tokenizers, sides):
    spelling, _ = sides[name]
    prove(spelling, [PROSE])
    for text in (PROSE, *SWEEP):
        own = tokenizers[name](text, add_special_tokens=False)["input_ids"]
        assert spelling.encode([text.encode()]) == [own]


@pytest.mark.parametrize(("name", "lacking"), [("smollm2/teacher", 21), ("gemma3-270m", 0)])
def test_any_bytes_come_back_but_those_that_the_vocabulary_lacks(name, lacking, sides):
    """SmolLM2 has no token for some control characters, nor for bytes that no character holds."""
    spelling, _ = sides[name]
    known = sorted(piece[0] for piece in spelling.single)
    assert len(known) == 256 - lacking

    @settings(max_examples=CASES)
    @given(st.lists(st.sampled_from(known), max_size=40).map(bytes))
    def comes_back(text):
        assert spelling.spelled(spelling.encode([text])[0]) == text

    comes_back()


def test_the_classes_take_seconds_and_the_pair_is_compared_nearly_everywhere(sides, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (gemma, ends), (smollm2, other) = sides["gemma3-270m"], sides["smollm2/teacher"]
    crossing = Crossing(gemma, smollm2, (ends, other))
    start = time.process_time()
    labels = crossing.labels(merge=True)
    assert time.process_time() - start < 5
    assert [len(side) for side in labels] == [262_144, 49_152]
    found = crossing.measure([PROSE], merge=True)
    assert found.common > 0.8 and found.disagreement < 0.05
