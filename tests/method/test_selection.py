"""Selection weights and the one reduction."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.config import SelectionConfig
from esr.method import selection
from esr.method.loss import StepCounts, reduce
from esr.method.tensors import PositionStats

MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
KINDS = list(SelectionConfig.model_fields["by"].annotation.__args__)


def stats(seed: int, mask: torch.Tensor = MASK) -> PositionStats:
    g = torch.Generator().manual_seed(seed)
    fields = {name: torch.rand(mask.shape, generator=g) for name in PositionStats.__dataclass_fields__}
    return PositionStats(**fields)


def weights(by: str, k: int, seed: int = 0) -> torch.Tensor:
    return selection.weights(
        by, k, MASK, stats(seed), torch.rand(MASK.shape, generator=torch.Generator().manual_seed(seed + 1))
    )


def test_first_and_last():
    assert weights("first", 2).tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert weights("last", 2).tolist() == [[0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]
    assert torch.equal(weights("all", 2), MASK.float())


@pytest.mark.parametrize("by", KINDS)
@given(k=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_every_selection_keeps_min_k_length_real_positions(by, k, seed):
    w = weights(by, k, seed)
    assert not w[~MASK].any()
    assert torch.equal(w.sum(1).long(), selection.kept(by, k, MASK.sum(1)))


@pytest.mark.parametrize("by", [b for b in KINDS if b != "all"])
@given(k=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_top_kl_keeps_the_most_kl(by, k, seed):
    kl = stats(seed).reverse_kl
    assert (kl * weights("top_kl", k, seed)).sum() >= (kl * weights(by, k, seed)).sum() - 1e-6


def test_products_rank_by_the_product():
    s, w = stats(3), weights("top_kl_student_teacher_entropy", 1, 3)
    product = (s.reverse_kl * s.student_entropy * s.teacher_entropy).masked_fill(~MASK, -1)
    assert torch.equal(w.argmax(1), product.argmax(1))


def test_reductions_by_hand():
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 0.0, 0.0]])
    w = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    counts = StepCounts(sequences=2, positions=3)
    assert reduce(values, w, "sequence_mean", counts).item() == pytest.approx((1.5 + 10) / 2)
    assert reduce(values, w, "token_mean", counts).item() == pytest.approx(13 / 3)
    assert reduce(values, w, "token_sum", counts).item() == pytest.approx(13 / 2)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "token_sum"])
def test_shares_of_micro_batches_sum_to_the_whole(aggregation):
    values, w = stats(5).divergence, MASK.float()
    counts = StepCounts(3, int(w.sum()))
    parts = sum(reduce(values[i : i + 1], w[i : i + 1], aggregation, counts) for i in range(3))
    assert torch.allclose(parts, reduce(values, w, aggregation, counts))


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "token_sum"])
def test_nothing_selected_is_zero_with_a_gradient_path(aggregation):
    values = torch.ones(2, 3, requires_grad=True)
    loss = reduce(values, torch.zeros(2, 3), aggregation, StepCounts(2, 0))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(values.grad, torch.zeros(2, 3))


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="median"):
        reduce(torch.ones(1, 1), torch.ones(1, 1), "median", StepCounts(1, 1))
