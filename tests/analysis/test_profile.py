"""The position profile on constructed cases whose answer is known."""

import json
from pathlib import Path

import pytest
import torch

from esr import prompts, scoring
from esr.analysis import profile, responses
from esr.cli.main import run as esr
from esr.method.metrics import BIN_EDGES
from esr.method.tensors import PositionStats
from esr.records.profile import Profile, ProfileSettings
from esr.runs.files import read_record
from esr.sampling.sampler import Sampler
from subjects import PROBLEMS, subject
from tiny import make_lm

SAMPLER = Sampler(40, (2,), 0.8, 0.95)
ROLLOUT = {"max_new_tokens": 10, "temperature": 0.8, "top_p": 0.95}


def run(before, after, teacher, **chosen):
    about = subject(before, after, teacher, rollout=ROLLOUT)
    return profile.compute(about, ProfileSettings(**{"max_new_tokens": 40, **chosen}))


def test_identical_models_have_no_profile_and_no_change():
    record = run(make_lm(1), make_lm(1), make_lm(1))
    for curve in record.curves:
        assert all(abs(b.reverse_kl.value) < 1e-6 and b.agreement == 1 for b in curve.bins)
        assert all(b.top_k_overlap == 1 and b.sampled_gap < 1e-6 for b in curve.bins)
    assert abs(record.inside.value) < 1e-6
    assert record.share_first == {} and record.first_to_rest is None


def test_a_student_that_became_the_teacher_drops_to_zero_everywhere():
    record = run(make_lm(1), make_lm(2), make_lm(2))
    curves = {(c.model, c.trajectories): c for c in record.curves}
    before, after = curves["before", "common"], curves["after", "common"]
    assert all(b.reverse_kl.value > 0.5 for b in before.bins)
    assert all(abs(b.reverse_kl.value) < 1e-6 for b in after.bins)
    assert record.inside.high < -0.5
    assert record.beyond.high < -0.5
    assert [b.tokens for b in before.bins] == [b.tokens for b in after.bins]
    assert before.bins[0].tokens <= 10 * len(PROBLEMS)


def scored(rows: list[list[float]]):
    """One batch whose reverse KL is given, ragged; every other statistic is zero."""
    width = max(map(len, rows))
    mask = torch.tensor([[j < len(r) for j in range(width)] for r in rows])
    kl = torch.tensor([r + [0.0] * (width - len(r)) for r in rows])
    zero = torch.zeros_like(kl)
    fields = dict.fromkeys(PositionStats.__dataclass_fields__, zero) | {"reverse_kl": kl}
    return [responses.Scored(PositionStats(**fields), zero, mask)]


def test_change_by_hand():
    """Paired by response, means over each response's positions, shorter responses left out beyond their end."""
    before, after = scored([[1, 2, 3], [4, 4], [1, 1, 9]]), scored([[0, 1, 1], [1, 1], [1, 1, 5]])
    inside, beyond = profile.change(before, after, 0, 2), profile.change(before, after, 2, None)
    assert inside.value == pytest.approx((-1 - 3 + 0) / 3)
    assert (beyond.value, beyond.n) == (pytest.approx((-2 - 4) / 2), 2)
    assert profile.change(before, after, 3, None) is None


def test_the_trained_window_is_the_longest_n_that_a_step_took(tmp_path):
    """A horizon that changes ends rollouts far below their cap; what came after the checkpoint was not yet trained."""
    every = {"time/step": 1.0, "tokens/generated": 1.0, "memory/peak_gib": 0.0}
    taken = {1: 3, 2: 7, 6: 5, 7: 9}
    rows = [{"step": step, "rollout/n": float(n), **every} for step, n in taken.items()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = subject(make_lm(1), make_lm(2), make_lm(2), rollout=ROLLOUT, directory=tmp_path)
    assert (trained.step, trained.n) == (6, 7)
    assert profile.compute(trained, ProfileSettings(max_new_tokens=20)).trained_window == 7
    assert subject(make_lm(1), None, make_lm(2), rollout=ROLLOUT).n == 10


def test_shares_and_ratio_by_hand():
    """12 positions of 2 nats, then 8 of 1 nat (one response ends after 10): positions are pooled over responses."""
    parts = scored([[2.0] * 12 + [1.0] * 8, [2.0] * 10])
    total = 10 * 2 * 2 + 2 * 2 + 8
    assert profile.share_first(parts) == pytest.approx({"10": 40 / total, "25": 1, "50": 1, "100": 1, "200": 1})
    assert profile.first_to_rest(parts, 10) == pytest.approx(2 / ((2 * 2 + 8) / 10))
    assert profile.first_to_rest(parts, 20) is None


def test_bins_that_few_responses_reach_are_marked():
    marks = [(b.start, b.responses, b.few) for b in profile.bins(scored([[1.0] * 12] * 9 + [[1.0] * 5] * 2))]
    assert marks == [(0, 11, False), (10, 9, True)]


def naive(lm, response: list[int], question: str) -> torch.Tensor:
    """(T, V) log-probabilities at each token of one response, by one plain forward pass without padding."""
    ids = [*prompts.render(lm.tokenizer, lm.config, question), *response]
    with torch.no_grad():
        logits = lm.module(torch.tensor([ids])).logits[0]
    return logits.log_softmax(-1)[-len(response) - 1 : -1]


def naive_bins(student, teacher, sampler: Sampler) -> dict[int, tuple[float, float]]:
    """First position of a bin to (overlap, gap) on the student's own responses, token by token."""
    found: dict[int, list[list[tuple[float, float]]]] = {}
    written = responses.one_each(student, PROBLEMS, sampler, 1).token_lists()
    for p, response in zip(PROBLEMS, written, strict=True):
        s, t = (naive(lm, response, p.question) for lm in (student, teacher))
        of_one: dict[int, list[tuple[float, float]]] = {}
        for i, token in enumerate(response):
            tops = [set(side[i].argsort(descending=True)[:8].tolist()) for side in (s, t)]
            gap = abs(float(s[i, token] - t[i, token]))
            of_one.setdefault(max(e for e in BIN_EDGES if e <= i), []).append((len(tops[0] & tops[1]) / 8, gap))
        for start, values in of_one.items():
            found.setdefault(start, []).append(torch.tensor(values).mean(0).tolist())
    return {start: tuple(torch.tensor(rows).mean(0).tolist()) for start, rows in found.items() if len(rows) > 1}


def check_against_naive(bins, expected):
    assert {b.start for b in bins} == set(expected)
    for b in bins:
        assert (b.top_k_overlap, b.sampled_gap) == pytest.approx(expected[b.start], rel=1e-3, abs=1e-4)


def test_overlap_and_gap_equal_a_naive_computation(monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 64 * 7)  # chunks of seven positions
    teacher = make_lm(2)
    record = run(make_lm(1), make_lm(3), teacher)
    curves = {(c.model, c.trajectories): c.bins for c in record.curves}
    check_against_naive(curves["before", "own"], naive_bins(make_lm(1), teacher, SAMPLER))
    check_against_naive(curves["after", "own"], naive_bins(make_lm(3), teacher, SAMPLER))
    assert 0.05 < curves["before", "own"][0].top_k_overlap < 0.6


def test_the_papers_protocol_is_each_models_own_responses_and_the_sampled_gap():
    settings = ProfileSettings.paper(max_new_tokens=30)
    assert ProfileSettings.paper().max_new_tokens == 1024
    before, after, teacher = make_lm(1), make_lm(3), make_lm(2)
    sampler = profile.sampler(subject(before, after, teacher, rollout=ROLLOUT), settings)
    assert sampler == Sampler(30, (2,), 0.7, 1.0, 0)
    record = run(before, after, teacher, protocol="paper", max_new_tokens=30)
    assert record.protocol == "paper" and record.inside is None and record.beyond is None
    assert [(c.model, c.trajectories) for c in record.curves] == [("before", "own"), ("after", "own")]
    for lm, curve in zip((before, after), record.curves, strict=True):
        check_against_naive(curve.bins, naive_bins(lm, teacher, sampler))


def test_an_untrained_pair_has_one_curve():
    record = run(make_lm(1), None, make_lm(2))
    assert [(c.model, c.trajectories) for c in record.curves] == [("before", "common")]
    assert record.inside is None and record.beyond is None
    assert 0 < record.share_first["10"] < record.share_first["25"] <= record.share_first["200"]
    assert record.share_first["200"] == pytest.approx(1)
    assert record.first_to_rest > 0


def test_records_of_older_versions_load():
    file = Path(__file__).parents[2] / "results" / "smollm2" / "profile.json"
    record = read_record(file, Profile)
    assert record.protocol == "ours" and record.share_first == {}
    assert record.curves[0].bins[0].top_k_overlap is None


@pytest.mark.parametrize("protocol", ["ours", "paper"])
def test_two_models_on_the_command_line(pair_dir, tmp_path, monkeypatch, capsys, protocol):
    monkeypatch.chdir(tmp_path)
    arguments = [str(pair_dir / "student"), str(pair_dir / "teacher"), "--task", str(pair_dir / "prompts.jsonl")]
    limits = ["--problems", "3", "--max-new-tokens", "12", "--protocol", protocol]
    assert esr(["analyze", "profile", *arguments, *limits]) == 0
    name = "profile.json" if protocol == "ours" else "profile-paper.json"
    (file,) = tmp_path.glob(f"runs/*/analysis/{name}")
    assert read_record(file, Profile).protocol == protocol
    out = capsys.readouterr().out
    assert "*" in out and "Fewer than 10" in out
