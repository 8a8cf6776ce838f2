"""Dropout by row: the right share, no pattern, and the same for a token wherever its row lies."""

import itertools

import peft
import torch
from torch import nn

from esr import scoring
from esr.config import ModelConfig
from esr.method import divergence
from esr.method.events import one_vocabulary
from esr.method.layout import lay_out
from esr.method.tensors import Prompts, Rollout
from esr.models.dropout import Codes, RowDropout, dropped, install, seeds
from esr.models.lm import LM
from tiny import make_lm, make_model, make_tokenizer


def codes(rows: int, columns: int) -> torch.Tensor:
    """Token codes of `rows` responses of `columns` tokens to prompts of one token."""
    ones = torch.ones(rows, 1, dtype=torch.bool)
    response = torch.ones(rows, columns, dtype=torch.long)
    found = Codes()
    found.set(
        seeds(0, [str(i) for i in range(rows)]),
        lay_out(Prompts(ones.long(), ones), Rollout(response, response.bool(), ones.long()[:, 0])),
    )
    return found.tokens


def test_the_share_that_is_dropped_is_p_in_every_row_column_feature_and_layer():
    tokens, p = codes(40, 60), 0.1
    masks = torch.stack([dropped(tokens, 31, layer, p) for layer in range(8)]).double()
    for dims in itertools.combinations(range(4), 3):
        shares = masks.mean(dims)
        n = masks.numel() / len(shares)
        assert (shares - p).abs().max() < 5 * (p * (1 - p) / n) ** 0.5


def test_elements_are_dropped_independently():
    masks = torch.stack([dropped(codes(24, 40), 32, layer, 0.5) for layer in range(4)]).double() * 2 - 1
    for dim in range(4):
        pairs = torch.movedim(masks, dim, 0).flatten(1)
        correlation = pairs @ pairs.T / pairs.shape[1] - torch.eye(len(pairs))
        assert correlation.abs().max() < 6 / pairs.shape[1] ** 0.5


def test_expectation_is_kept_and_the_gradient_has_the_same_mask():
    holder = Codes()
    holder.tokens = codes(8, 50)
    x = torch.ones(8, 50, 64, requires_grad=True)
    y = RowDropout(0.25, 0, holder)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)
    assert torch.allclose(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert abs(y.mean().item() - 1) < 0.02


def test_evaluation_drops_nothing():
    holder = Codes()
    holder.tokens = codes(2, 5)
    x = torch.ones(2, 5, 8)
    assert torch.equal(RowDropout(0.5, 0, holder).eval()(x), x)


def test_an_adapter_on_the_head_has_no_dropout_and_the_models_own_is_off():
    model = make_model(1, attention_dropout=0.2)
    module = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "lm_head"]))
    assert install(module) is not None
    kinds = {name: type(m.lora_dropout["default"]) for name, m in module.named_modules() if hasattr(m, "lora_dropout")}
    assert {kind for name, kind in kinds.items() if name.endswith("q_proj")} == {RowDropout}
    assert [kind for name, kind in kinds.items() if name.endswith("lm_head")] == [nn.Identity]
    assert all(layer.self_attn.attention_dropout == 0 for layer in model.model.layers)


def test_an_adapter_on_the_head_has_the_same_gradient_in_chunks(monkeypatch):
    """A chunk is computed again in the backward pass: dropout drawn anew there would be another one."""
    module = peft.get_peft_model(make_model(1), peft.LoraConfig(r=2, lora_dropout=0.5, target_modules=["lm_head"]))
    install(module)
    student, teacher = LM(module.train(), make_tokenizer(), ModelConfig(model="x"), (2,), "default"), make_lm(2)
    torch.manual_seed(0)
    module.get_output_embeddings().lora_B["default"].weight.data.normal_()
    hidden, tokens = torch.randn(2, 12, 32), torch.arange(12)

    def gradient() -> torch.Tensor:
        module.zero_grad()
        found = scoring.compare(student, teacher, *hidden, tokens, one_vocabulary(64), divergence.reverse_kl)
        found.divergence.sum().backward()
        return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])

    whole = gradient()
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 4 * 64)
    assert whole.abs().max() > 0
    assert torch.allclose(gradient(), whole, rtol=1e-4, atol=1e-5)


def test_without_dropout_nothing_is_replaced():
    module = peft.get_peft_model(make_model(1), peft.LoraConfig(r=2, target_modules="all-linear"))
    assert install(module) is None
