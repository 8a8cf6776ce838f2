"""Scoring: the causal shift, padding, chunks, and heads that are no bare matrix."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from esr import probe, scoring
from esr.config import ModelConfig
from esr.method import divergence
from esr.method.events import one_vocabulary
from esr.method.tensors import Prompts, Rollout
from esr.models.lm import LM
from tiny import make_lm, make_tokenizer

SMALL = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def rows(lengths: list[tuple[int, int]], pad_left: int = 0, pad_right: int = 0) -> tuple[Prompts, Rollout]:
    """Random prompts and responses of the given lengths, with extra padding if asked for."""
    g = torch.Generator().manual_seed(7)
    p, t = max(a for a, _ in lengths) + pad_left, max(b for _, b in lengths) + pad_right
    ids, mask = torch.zeros(len(lengths), p, dtype=torch.long), torch.zeros(len(lengths), p, dtype=torch.bool)
    resp, resp_mask = torch.zeros(len(lengths), t, dtype=torch.long), torch.zeros(len(lengths), t, dtype=torch.bool)
    for i, (a, b) in enumerate(lengths):
        ids[i, p - a :], mask[i, p - a :] = torch.randint(6, 50, (a,), generator=g), True
        resp[i, :b], resp_mask[i, :b] = torch.randint(6, 50, (b,), generator=g), True
    return Prompts(ids, mask), Rollout(resp, resp_mask, torch.ones(len(lengths), dtype=torch.long))


def logits(lm: LM, prompts: Prompts, rollout: Rollout) -> torch.Tensor:
    return scoring.head(lm, scoring.hidden_states(lm, prompts, rollout))


LENGTHS = [(5, 7), (2, 3), (9, 1)]


def test_row_i_predicts_token_i_of_the_response():
    lm = make_lm(1)
    prompts, rollout = rows(LENGTHS)
    got, start = logits(lm, prompts, rollout), 0
    for i, (_, length) in enumerate(LENGTHS):
        text = torch.cat([prompts.ids[i][prompts.mask[i]], rollout.response_ids[i, :length]])
        alone = lm.causal_lm(text[None]).logits[0]
        expected = alone[len(text) - length - 1 : -1]
        assert torch.allclose(got[start : start + length], expected, atol=1e-5)
        start += length
    assert start == len(got)


def test_amount_of_padding_changes_nothing():
    lm = make_lm(1)
    assert torch.allclose(logits(lm, *rows(LENGTHS)), logits(lm, *rows(LENGTHS, pad_left=6, pad_right=4)), atol=1e-5)


@torch.no_grad()
def padded_on_the_left(lm: LM, prompts: Prompts, rollout: Rollout) -> torch.Tensor:
    """The hidden states by the book: left-padded prompts, an explicit mask and explicit positions."""
    ids = torch.cat([prompts.ids, rollout.response_ids], dim=1)
    mask = torch.cat([prompts.mask, rollout.response_mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = lm.causal_lm.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return out.last_hidden_state[:, prompts.ids.shape[1] - 1 : -1][rollout.response_mask]


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        Qwen2Config(**SMALL),
        Qwen3Config(**SMALL, head_dim=8),
        Gemma2Config(**SMALL, head_dim=8, sliding_window=6, attn_implementation="eager"),
    ],
    ids=lambda config: config.model_type,
)
@torch.no_grad()
def test_rows_without_a_mask_equal_masked_rows_and_single_rows(config):
    torch.manual_seed(0)
    lm = LM(AutoModelForCausalLM.from_config(config).eval(), make_tokenizer(), ModelConfig(model="x"), (2,))
    for p in lm.module.parameters():
        p.mul_(3 if p.dim() > 1 else 1)
    prompts, rollout = rows(LENGTHS, pad_left=3, pad_right=2)
    got = scoring.hidden_states(lm, prompts, rollout)
    one = [torch.tensor([i]) for i in range(len(LENGTHS))]
    single = torch.cat([scoring.hidden_states(lm, prompts.select(i), rollout.select(i)) for i in one])
    assert torch.allclose(got, padded_on_the_left(lm, prompts, rollout), atol=1e-5)
    assert torch.allclose(got, single, atol=1e-5)
    assert scoring.padding_is_exact(lm)


@torch.no_grad()
def test_a_model_that_looks_to_the_right_is_scored_row_by_row():
    lm = make_lm(1)
    mix = lambda module, args, out: setattr(out, "last_hidden_state", out.last_hidden_state.cumsum(1).flip(1))  # noqa: E731
    lm.causal_lm.base_model.register_forward_hook(mix)
    assert not scoring.padding_is_exact(lm)
    prompts, rollout = rows(LENGTHS, pad_left=3, pad_right=2)
    one = [torch.tensor([i]) for i in range(len(LENGTHS))]
    single = torch.cat([scoring.hidden_states(lm, prompts.select(i), rollout.select(i)) for i in one])
    assert torch.equal(scoring.hidden_states(lm, prompts, rollout), single)


def granite():
    return GraniteForCausalLM(
        GraniteConfig(**SMALL, logits_scaling=4.0, embedding_multiplier=3.0, residual_multiplier=0.5)
    )


def cohere():
    return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.3))


def gemma2():
    return Gemma2ForCausalLM(
        Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0, attn_implementation="eager")
    )


@pytest.mark.parametrize("build", [gemma2, cohere, granite])
def test_soft_capped_and_scaled_heads_are_the_models_own(build):
    torch.manual_seed(0)
    model = build().eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(3)
    lm = LM(model, make_tokenizer(), ModelConfig(model="x"), (2,))
    probe.check(lm)
    prompts, rollout = rows([(4, 6)])
    whole = model(torch.cat([prompts.ids, rollout.response_ids], 1)).logits[0, 3:-1]
    got = logits(lm, prompts, rollout)
    assert torch.allclose(got, whole, atol=1e-5)
    bare = torch.nn.functional.linear(scoring.hidden_states(lm, prompts, rollout), model.lm_head.weight)
    assert not torch.allclose(got, bare, atol=1e-2)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd"])
def test_chunks_change_neither_loss_nor_gradient(name, monkeypatch):
    student, teacher = make_lm(1), make_lm(2)
    student.module.requires_grad_(True)
    prompts, rollout = rows(LENGTHS)
    compute, tokens = divergence.by_name(name, 0.5), rollout.response_ids[rollout.response_mask]

    def run():
        student.module.zero_grad()
        h, th = (scoring.hidden_states(lm, prompts, rollout) for lm in (student, teacher))
        stats = scoring.compare(student, teacher, h, th, tokens, one_vocabulary(64, (2, 9)), compute)
        stats.divergence.sum().backward()
        return stats, torch.cat([p.grad.flatten() for p in student.module.parameters()])

    whole, grad = run()
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 3 * 64)
    chunked, chunked_grad = run()
    for field, value in whole.tensors():
        assert torch.allclose(value, getattr(chunked, field), atol=1e-5), field
    assert torch.allclose(grad, chunked_grad, atol=1e-5)
    assert grad.abs().max() > 0
    assert all(p.grad is None for p in teacher.module.parameters())


def test_statistics_match_their_definitions():
    student, teacher = make_lm(1), make_lm(2)
    prompts, rollout = rows(LENGTHS)
    tokens = rollout.response_ids[rollout.response_mask]
    h, th = (scoring.hidden_states(lm, prompts, rollout) for lm in (student, teacher))
    stats = scoring.compare(student, teacher, h, th, tokens, one_vocabulary(64), divergence.forward_kl)
    s, t = (logits(lm, prompts, rollout).double().log_softmax(-1) for lm in (student, teacher))
    assert torch.allclose(stats.divergence.double(), (t.exp() * (t - s)).sum(-1), atol=1e-5)
    assert torch.allclose(stats.reverse_kl.double(), (s.exp() * (s - t)).sum(-1), atol=1e-5)
    assert torch.allclose(stats.student_entropy.double(), -(s.exp() * s).sum(-1), atol=1e-5)
    assert torch.allclose(stats.teacher_logp.double(), t[range(len(tokens)), tokens], atol=1e-5)
    assert torch.equal(stats.agreement.bool(), s.argmax(-1) == t.argmax(-1))
    laid = stats.scatter(rollout.response_mask)
    assert torch.equal(laid.reverse_kl[rollout.response_mask], stats.reverse_kl)
    assert not laid.reverse_kl[~rollout.response_mask].any()
