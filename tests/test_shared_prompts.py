"""Samples of a prompt behind one pass of it: the same hidden states and the same gradient as in rows of their own."""

from dataclasses import replace

import pytest
import torch

from architectures import lm_of, tiny_model
from esr import scoring
from esr.distill import gradient
from esr.meters import Phases
from esr.method.layout import same_prompt
from esr.method.tensors import Prompts, Rollout
from esr.microbatch import micro_batches
from esr.models import dropout
from esr.models.adapters import fresh_adapter
from esr.models.lm import LM, STUDENT
from test_distill import CPU, QUESTIONS, adapter_grads, batch, with_adapter
from test_scoring import rows

SHARING = ["llama", "qwen3", "gemma2", "gemma3_text", "gpt2", "phi3", "olmo3", "glm4"]
NOT_SHARING = ["falcon_h1", "qwen3_5_text"]
SAMPLES = 3


def sampled() -> tuple[Prompts, Rollout]:
    """Three samples, of different lengths, of each of three prompts, of different lengths."""
    prompts, rollout = rows([(5, 7), (5, 2), (5, 4), (2, 1), (2, 8), (2, 3), (9, 1), (9, 1), (9, 6)])
    first = torch.arange(9) // SAMPLES * SAMPLES
    return Prompts(prompts.ids[first], prompts.mask[first]), rollout


def tuned(model_type: str) -> LM:
    """A student with an adapter that does something, and dropout by row."""
    lm = lm_of(tiny_model(model_type))
    config = lm.config.model_copy(update={"lora": lm.config.lora.model_copy(update={"dropout": 0.2})})
    module = fresh_adapter(lm.module, config, 0)
    torch.manual_seed(1)
    for p in module.parameters():
        if p.requires_grad:
            p.data.add_(0.1 * torch.randn_like(p))
    return LM(module, lm.tokenizer, config, (2,), STUDENT, dropout=dropout.install(module))


def trained(lm: LM, seeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and the gradient of a function of them."""
    lm.module.train()
    lm.module.zero_grad()
    hidden = scoring.hidden_states(lm, *sampled(), seeds)
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return hidden.detach(), torch.cat([p.grad.flatten() for p in lm.module.parameters() if p.grad is not None])


def apart(monkeypatch) -> None:
    monkeypatch.setattr(scoring, "shares_prompts", lambda lm: False)


@pytest.mark.parametrize("model_type", SHARING)
def test_shared_prompts_give_the_same_states_and_gradient(model_type, monkeypatch):
    lm, seeds = tuned(model_type), dropout.seeds(0, ["a", "b", "c"], SAMPLES)
    assert scoring.shares_prompts(lm)
    shared, shared_gradient = trained(lm, seeds)
    apart(monkeypatch)
    own, own_gradient = trained(lm, seeds)
    assert torch.allclose(shared, own, atol=1e-5 * float(own.abs().max()))
    assert own_gradient.abs().max() > 0
    assert torch.allclose(shared_gradient, own_gradient, atol=1e-5 * float(own_gradient.abs().max()))


@pytest.mark.parametrize("model_type", NOT_SHARING)
def test_models_with_other_states_than_keys_and_values_are_found_and_scored_in_rows(model_type):
    lm = lm_of(tiny_model(model_type))
    assert not scoring.shares_prompts(lm)
    prompts, rollout = sampled()
    one = [torch.tensor([i]) for i in range(len(prompts))]
    with torch.no_grad():
        single = torch.cat([scoring.hidden_states(lm, prompts.select(i), rollout.select(i)) for i in one])
        assert torch.allclose(scoring.hidden_states(lm, prompts, rollout), single, atol=1e-4)


def test_a_prompt_goes_through_the_model_once(monkeypatch):
    lm, seen = lm_of(tiny_model("llama")), []
    real = scoring.last_hidden
    monkeypatch.setattr(
        scoring, "last_hidden", lambda lm, ids, **more: (seen.append(ids.shape), real(lm, ids, **more))[1]
    )
    assert scoring.shares_prompts(lm)
    seen.clear()
    scoring.hidden_states(lm, *sampled())
    assert seen == [(3, 9), (9, 7)]


def test_with_checkpointing_prompts_are_not_shared_in_training():
    lm = tuned("llama")
    lm.module.eval()
    lm.causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
    assert scoring.shares_prompts(lm)
    lm.module.train()
    assert not scoring.shares_prompts(lm)


def test_rows_share_a_prompt_only_if_its_dropout_is_the_same():
    ids = torch.tensor([[1, 2], [1, 2], [1, 2], [0, 2]])
    prompts = Prompts(ids, torch.tensor([[1, 1], [1, 1], [1, 1], [0, 1]]).bool())
    of = same_prompt(prompts, torch.tensor([[5, 1], [5, 2], [6, 3], [5, 4]]))
    assert of[0] == of[1]
    assert len({int(i) for i in of}) == 3
    assert len(same_prompt(prompts).unique()) == 2


def test_a_step_in_micro_batches_keeps_samples_together_and_has_the_same_gradient(monkeypatch):
    run = with_adapter(10**6)
    data = batch(run)
    first = torch.arange(len(QUESTIONS)) // 4 * 4
    shared = replace(
        data,
        student_prompts=Prompts(data.student_prompts.ids[first], data.student_prompts.mask[first]),
        teacher_prompts=Prompts(data.teacher_prompts.ids[first], data.teacher_prompts.mask[first]),
        dropout=dropout.seeds(0, ["a", "b"], 4),
    )
    parts = [set((part // 4).tolist()) for part in micro_batches(shared, 130, shared=True)]
    assert all(len(part) == 1 for part in parts)
    ranks = [torch.cat(list(micro_batches(shared, 10**6, rank, 2, shared=True))) for rank in (0, 1)]
    assert sorted(torch.cat(ranks).tolist()) == list(range(len(QUESTIONS)))
    assert [len(set((rows // 4).tolist())) for rows in ranks] == [1, 1]

    def found(budget: int) -> torch.Tensor:
        run.student.module.zero_grad()
        gradient(run, shared, 0, Phases(CPU), budget)
        return adapter_grads(run)

    pieces = [found(budget) for budget in (10**6, 130, 1)]
    apart(monkeypatch)
    monkeypatch.setattr("esr.distill.shares_prompts", lambda lm: False)
    own = found(10**6)
    assert own.abs().max() > 1e-3
    for piece in pieces:
        assert torch.allclose(piece, own, atol=1e-6)
