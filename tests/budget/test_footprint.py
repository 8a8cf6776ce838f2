"""The memory plan: the same from shapes alone as from loaded models, and what is added up is what there is."""

from dataclasses import replace

import peft
import pytest
import torch

from architectures import tiny_model
from esr.budget.footprint import cache_bytes, footprint, held
from esr.models import dropout
from esr.models.lm import LM
from tiny import make_lm, make_model

CPU = torch.device("cpu")


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
    loaded = footprint(student(), teacher(), CPU)
    shapes = footprint(student("meta"), teacher("meta"), CPU)
    assert (loaded.student, loaded.teacher, loaded.trained) == (shapes.student, shapes.teacher, shapes.trained)
    assert loaded.student.weights == sum(4 * p.numel() for p in student().module.parameters())
    assert loaded.trained == sum(4 * p.numel() for p in student().module.parameters() if p.requires_grad)
    assert loaded.activations.plain == pytest.approx(shapes.activations.plain, rel=0.02)


def test_autocast_keeps_a_copy_of_the_weights_and_no_more_for_a_longer_row():
    """On the meta device, which has no autocast, as on one that has."""

    def full(device: str, layers: int = 2) -> LM:
        with torch.device(device):
            model = make_model(1, layers=layers)
        return LM(model.eval().requires_grad_(True), None, make_lm(1).config, (2,), autocast=torch.bfloat16)

    real, shapes = (footprint(full(device), teacher(), CPU).activations for device in ("cpu", "meta"))
    linears = sum(m.weight.numel() for m in full("cpu").module.model.modules() if isinstance(m, torch.nn.Linear))
    assert shapes.fixed == pytest.approx(2 * linears, rel=0.02)
    assert real.fixed == pytest.approx(2 * linears, rel=0.1)
    assert real.plain <= shapes.plain <= 1.2 * real.plain, "attention has no fused kernel there"
    held = footprint(full("meta"), teacher(), CPU)
    assert held.micro_batch(10, 0, False) - held.micro_batch(0, 0, False) == 10 * shapes.plain
    assert held.micro_batch(0, 0, False) == shapes.fixed


def test_weights_that_both_share_count_once_and_a_pass_leaves_no_trace():
    ours = student()
    base = LM(ours.module, ours.tokenizer, ours.config, (2,), None)
    assert footprint(ours, base, CPU).teacher.weights == 0
    assert not ours.module.training
    assert all(p.grad is None for p in ours.module.parameters())


def test_dropout_and_layers_cost_what_they_keep():
    """Dropout keeps a copy of each adapter's input and a byte an element, instead of one input for q, k and v; layers add up."""
    plain, dropping, deeper = (
        footprint(lm, teacher(), CPU).activations.plain for lm in (student(p=0.0), student(), student(layers=4))
    )
    inputs = 2 * (3 * 32 + 32 + 2 * 32 + 64)  # two layers: q, k, v; o; gate, up; down
    shared = 2 * (32 + 32 + 32 + 64)
    assert dropping - plain == pytest.approx(5 * inputs - 4 * shared, rel=0.15)
    assert deeper == pytest.approx(2 * dropping, rel=0.15)


def test_a_cache_is_what_decoding_fills():
    """Two layers, two heads of eight, keys and values, four bytes."""
    assert cache_bytes(teacher()) == (3 * 2 * 2 * 8 * 4, 0)
    hybrid = tiny_model("falcon_h1")
    each, state = cache_bytes(LM(hybrid, None, None, ()))
    assert each == 2 * 2 * 2 * 8 * 4
    assert state >= 0


def test_decoding_copies_what_it_packs_or_merges():
    linears = sum(4 * m.weight.numel() for m in teacher().module.modules() if isinstance(m, torch.nn.Linear))
    assert held(teacher(), CPU).copies == linears
    assert held(teacher(), torch.device("meta")).copies == 0
    adapted = student()
    inside = sum(4 * m.base_layer.weight.numel() for m in adapted.module.modules() if hasattr(m, "base_layer"))
    assert held(adapted, torch.device("meta")).copies == inside
    assert held(adapted, CPU).copies == inside + 4 * adapted.causal_lm.lm_head.weight.numel()
    full = replace(teacher(), autocast=torch.bfloat16)
    assert held(full, torch.device("meta")).copies == linears // 2
