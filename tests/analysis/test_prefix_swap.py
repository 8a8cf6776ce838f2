"""The prefix swap on students whose beginnings, or endings, decide the answer."""

import pytest
import yaml

from esr.analysis import continuation, prefix_swap
from esr.cli.main import run as esr
from esr.errors import UserError
from esr.records.prefix_swap import PrefixSwap, PrefixSwapSettings
from esr.runs.files import read_record
from test_decay import RIGHT, SETTINGS, WRONG, about, crc_grade, script
from tiny import make_lm


def compute(tmp_path, before, after, n=5, how=SETTINGS):
    trained = about(tmp_path, before, before, how, after=after)
    # Nothing is loaded from a checkpoint, so `analyze`, which asks for one, is not the door here.
    return prefix_swap.compute(trained, PrefixSwapSettings(n=n, samples=2))


def by_condition(record):
    return {(c.prefix, c.tail): c for c in record.conditions}


def accuracies(record):
    return {pair: c.avg.value for pair, c in by_condition(record).items()}


def begins(letter: str, rest):
    """A student that begins with ten times a letter, and ends as `rest(prefix)` says."""
    return lambda number, prefix: letter * (10 - len(prefix)) + rest(prefix or letter)


def test_identical_students_change_nothing(monkeypatch, tmp_path):
    """Through the real sampler, at temperature 1."""
    monkeypatch.setattr(continuation.grading, "grade", crc_grade)
    settings = SETTINGS.model_copy(update={"max_new_tokens": 16})
    record = compute(tmp_path, make_lm(1), make_lm(1), how=settings)
    assert 0 < record.conditions[0].avg.value < 1
    assert all(c.change.value == 0 for c in record.conditions[1:])
    assert record.share_in_prefix is None
    assert record.conditions[0].change is None


def test_if_the_first_tokens_decide_the_whole_gain_sits_in_the_prefix(monkeypatch, tmp_path):
    verdict = lambda prefix: WRONG if "x" in prefix else RIGHT  # noqa: E731
    (before, after), calls = script(monkeypatch, begins("x", verdict), begins("a", verdict))
    record = compute(tmp_path, before, after)
    assert accuracies(record) == {
        ("before", "before"): 0, ("before", "after"): 0, ("after", "before"): 1, ("after", "after"): 1,
    }  # fmt: skip
    assert record.share_in_prefix == 1
    assert record.finished == {"before": 0, "after": 0}
    assert {c.cap for c in calls} == {5, 55}, "prefix and tail together keep to the cap"


def test_if_the_tail_decides_nothing_of_the_gain_sits_in_the_prefix(monkeypatch, tmp_path):
    (before, after), _ = script(monkeypatch, begins("x", lambda p: WRONG), begins("a", lambda p: RIGHT))
    record = compute(tmp_path, before, after)
    assert record.share_in_prefix == 0
    assert by_condition(record)["before", "after"].change.value == 1


def test_prefixes_that_ended_count_as_they_are(monkeypatch, tmp_path):
    """The trained student answers at once (10 tokens with the end) in half of the problems; nobody can spoil those."""
    quick = lambda number, prefix: RIGHT if number % 2 else "a" * 20 + WRONG  # noqa: E731
    (before, after), calls = script(monkeypatch, lambda number, prefix: "x" * 20 + WRONG, quick)
    record = compute(tmp_path, before, after, n=10)
    assert record.finished == {"before": 0, "after": 20}
    assert accuracies(record)["after", "before"] == 0.5
    tails = [c for c in calls if c.lm is before and c.cap == 50]
    assert sum(c.rows for c in tails) == 40 + 20


def test_each_sample_has_its_own_prefix_and_noise(monkeypatch, tmp_path):
    (before, after), calls = script(monkeypatch, begins("x", lambda p: WRONG), begins("a", lambda p: RIGHT))
    compute(tmp_path, before, after)
    tails = [row for c in calls if c.lm is after and c.cap == 55 for row in c.noise.rows]
    heads = {row for c in calls if c.cap == 5 for row in c.noise.rows}
    assert len(set(tails)) == len(heads) == 40
    assert not heads & set(tails)
    assert tails[:40] == tails[40:], "both prefixes are continued with the same numbers"


def test_a_prefix_as_long_as_the_response_is_refused(tmp_path):
    with pytest.raises(UserError, match="smaller --n"):
        compute(tmp_path, make_lm(1), make_lm(1), n=60)


def test_the_command_works_on_a_run_and_refuses_an_untrained_pair(pair_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math.jsonl").write_text('{"question": "7 * 6?", "answer": "42"}\n{"question": "1+1", "answer": "2"}\n')
    tree = {
        "student": {"model": str(pair_dir / "student")}, "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")}, "run": {"dir": "r", "device": "cpu"}, "optim": {"steps": 1},
        "rollout": {"prompts_per_step": 2, "max_new_tokens": 4},
        "eval": {"source": "math.jsonl", "max_new_tokens": 12, "samples": 1},
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert esr(["analyze", "prefix-swap", "c.yaml"]) == 2
    assert "no trained student" in capsys.readouterr().err
    assert esr(["train", "c.yaml", "--fresh"]) == 0
    assert esr(["analyze", "prefix-swap", "r", "--samples", "2"]) == 0
    record = read_record(tmp_path / "r" / "analysis" / "prefix-swap.json", PrefixSwap)
    assert (record.n, record.samples, record.problems, len(record.conditions)) == (4, 2, 2, 4)
    assert set(record.models) == {"student", "after"}
    assert "first 4 tokens" in capsys.readouterr().out
