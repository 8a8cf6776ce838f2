"""The memory plan: the same from shapes alone as from loaded models, and what is added up is what there is."""

import peft
import pytest
import torch

from esr.footprint import Activations, Footprint, footprint
from esr.models import dropout
from esr.models.lm import LM
from tiny import make_lm, make_model

GIB = 2**30


def student(device: str = "cpu", p: float = 0.1, **options) -> LM:
    lm = make_lm(1)
    with torch.device(device):
        model = make_model(1, **options)
        lora = peft.LoraConfig(r=4, lora_dropout=p, target_modules="all-linear")
        module = peft.get_peft_model(model, lora).to(device)
    return LM(module.eval(), lm.tokenizer, lm.config, (2,), "default", dropout=dropout.install(module))


def teacher(device: str = "cpu") -> LM:
    lm = make_lm(2)
    with torch.device(device):
        return LM(make_model(2, layers=3), lm.tokenizer, lm.config, (2,))


def test_shapes_alone_give_the_plan_of_the_loaded_models():
    loaded = footprint(student(), teacher())
    shapes = footprint(student("meta"), teacher("meta"))
    assert (
        loaded.weights
        == shapes.weights
        == sum(4 * p.numel() for lm in (student(), teacher()) for p in lm.module.parameters())
    )
    assert (loaded.optimizer, loaded.cache, loaded.merged) == (shapes.optimizer, shapes.cache, shapes.merged)
    assert loaded.activations.plain == pytest.approx(shapes.activations.plain, rel=0.02)


def test_weights_that_both_share_count_once_and_a_pass_leaves_no_trace():
    ours = student()
    base = LM(ours.module, ours.tokenizer, ours.config, (2,), None)
    assert footprint(ours, base).weights == sum(4 * p.numel() for p in ours.module.parameters())
    assert not ours.module.training
    assert all(p.grad is None for p in ours.module.parameters())


def test_dropout_and_layers_cost_what_they_keep():
    """Dropout keeps a copy of each adapter's input and a byte an element, instead of one input for q, k and v; layers add up."""
    plain, dropping, deeper = (
        footprint(lm, teacher()).activations.plain for lm in (student(p=0.0), student(), student(layers=4))
    )
    inputs = 2 * (3 * 32 + 32 + 2 * 32 + 64)  # two layers: q, k, v; o; gate, up; down
    shared = 2 * (32 + 32 + 32 + 64)
    assert dropping - plain == pytest.approx(5 * inputs - 4 * shared, rel=0.15)
    assert deeper == pytest.approx(2 * dropping, rel=0.15)


def test_checkpointing_is_planned_only_where_memory_is_short():
    held = Footprint(GIB, GIB // 2, 0, 1000, 2**16, Activations(plain=2**20, checkpointed=2**14, layer=2**15))
    assert held.micro_batch(64 * GIB, 200, None) == (4096, False)
    tokens, checkpointing = held.micro_batch(4 * GIB, 200, None)
    assert checkpointing and tokens == 4096
    tokens, checkpointing = held.micro_batch(4 * GIB, 200, False)
    assert not checkpointing and 200 <= tokens < 4096
    assert held.training(tokens, 100, False) < 4 * GIB
    assert held.micro_batch(GIB, 200, None) == (200, True), "a single row is tried whatever the plan says"
