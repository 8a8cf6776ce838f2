"""Token views against a naive computation with full logits."""

import pytest
import torch

from esr import prompts, scoring
from esr.analysis import responses, rollouts
from esr.method.events import one_vocabulary
from esr.method.events.positions import same
from esr.records.rollouts import RolloutsSettings
from esr.sampling.sampler import Sampler
from subjects import PROBLEMS, subject
from tiny import make_lm

SAMPLER = Sampler(40, (2,), 1.0)


def run(before, after, teacher):
    about = subject(before, after, teacher, rollout={"temperature": 1.0}, eval={"source": "test"})
    return rollouts.compute(about, RolloutsSettings(count=3, max_new_tokens=40))


def naive(lm, problem, tokens):
    """(T, V) log-probabilities of one response from one whole forward pass, without chunks or padding."""
    prompt = prompts.render(lm.tokenizer, lm.config, problem.question)
    logits = lm.module(torch.tensor([[*prompt, *tokens]])).logits[0]
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize("elements", [64, 64 * 7, 2**24])
def test_chunks_are_the_full_responses(monkeypatch, elements):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", elements)
    student, teacher = make_lm(1), make_lm(2)
    for batch in (PROBLEMS[:3], PROBLEMS[3:]):
        rollout = responses.one_each(student, batch, SAMPLER, seed=1)
        parts = list(responses.chunks(student, teacher, batch, same(rollout), one_vocabulary(64)))
        assert all(logp.shape[0] * 64 <= max(elements, 64) for _, sides in parts for logp in sides)
        for number, lm in enumerate((student, teacher)):
            got = torch.cat([sides[number] for _, sides in parts])
            want = torch.cat([naive(lm, p, t) for p, t in zip(batch, rollout.token_lists(), strict=True)])
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_views_equal_a_naive_computation():
    before, after, teacher = make_lm(1), make_lm(3), make_lm(2)
    record = run(before, after, teacher)
    assert record.problems == 3
    assert [v.model for v in record.rollouts] == ["before", "after"] * 3
    by_id = {p.id: p for p in PROBLEMS}
    number = {responses.token_text(before.tokenizer, i): i for i in range(64)}
    assert len(number) == 64
    for view in record.rollouts:
        lm, problem = {"before": before, "after": after}[view.model], by_id[view.problem]
        ids = [number[t.token] for t in view.tokens]
        assert view.finished == (ids[-1] == 2)
        for side, model in (("student", lm), ("teacher", teacher)):
            logp = naive(model, problem, ids)
            for t, (row, token) in enumerate(zip(logp, ids, strict=True)):
                here = view.tokens[t]
                assert getattr(here, f"{side}_rank") == 1 + int((row > row[token]).sum())
                assert getattr(here, f"{side}_entropy") == pytest.approx(float(-(row.exp() * row).sum()), abs=1e-3)
                top = getattr(here, f"{side}_top")
                want = [(i, p) for i, p in enumerate(row.exp().tolist()) if p >= rollouts.LEAST + 1e-4]
                want = sorted(want, key=lambda pair: -pair[1])[:5]
                assert [number[name] for name, _ in top][: len(want)] == [i for i, _ in want]
                assert [p for _, p in top][: len(want)] == pytest.approx([p for _, p in want], abs=1e-3)
        student, target = (naive(m, problem, ids) for m in (lm, teacher))
        kl = (student.exp() * (student - target)).sum(-1).tolist()
        assert [t.reverse_kl for t in view.tokens] == pytest.approx(kl, abs=1e-3)


def test_right_and_wrong_take_turns():
    assert rollouts.in_turn([False, False, True, None, True]) == [2, 0, 4, 1, 3]
    assert rollouts.in_turn([False, None]) == [0, 1]


def test_the_record_stays_small(monkeypatch):
    monkeypatch.setattr(rollouts, "LARGEST", 1)
    record = run(make_lm(1), None, make_lm(2))
    assert (record.problems, len(record.rollouts), record.settings["asked_for"]) == (1, 1, 3)


def test_a_sampled_terminator_has_the_rank_of_the_merged_event():
    """Two tokens that end a turn share 0.6: each ranks first as one event, and is shown by its own name."""
    p = torch.full((1, 64), 0.1 / 61)
    p[0, 1], p[0, 2], p[0, 10] = 0.35, 0.25, 0.3
    events = one_vocabulary(64, (1, 2))
    logp = events.student.log_probs(p.log())
    (view,) = rollouts.token_views(logp, logp, torch.tensor([2]), events, make_lm(1).tokenizer)
    assert (view.token, view.student_rank, view.teacher_rank, view.reverse_kl) == ("<|im_end|>", 1, 1, 0)
    assert view.student_top[0] == ("<|endoftext|>", 0.6)


def test_tokens_as_people_read_them():
    tokenizer = make_lm(1).tokenizer
    ids = tokenizer.convert_tokens_to_ids([" ", "\n", "a", "<|im_end|>"])
    assert [responses.token_text(tokenizer, i) for i in ids] == [" ", "\n", "a", "<|im_end|>"]
    assert responses.token_text(tokenizer, 63) == "<63>"
