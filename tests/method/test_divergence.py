"""Divergences and events against naive float64 references and hand-computed cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.method import divergence
from esr.method.events import IMPOSSIBLE, one_vocabulary


def naive_kl(p, q) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q) if a > 0)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_two_tokens_by_hand():
    student, teacher = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.5, 0.5]).log()
    assert divergence.reverse_kl(student, teacher).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert divergence.forward_kl(student, teacher).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert divergence.entropy(teacher).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("seed", range(5))
def test_equal_the_definition_in_float64(seed):
    s, t = (logits(seed + k, 4, 11).log_softmax(-1) for k in (0, 100))
    p, q = s.exp().tolist(), t.exp().tolist()
    for row in range(4):
        assert divergence.reverse_kl(s, t)[row].item() == pytest.approx(naive_kl(p[row], q[row]), rel=1e-12)
        assert divergence.forward_kl(s, t)[row].item() == pytest.approx(naive_kl(q[row], p[row]), rel=1e-12)
        m = [0.3 * b + 0.7 * a for a, b in zip(p[row], q[row])]
        expected = 0.3 * naive_kl(q[row], m) + 0.7 * naive_kl(p[row], m)
        assert divergence.jsd(s, t, 0.3)[row].item() == pytest.approx(expected, rel=1e-12)


def test_jsd_tends_to_both_kls():
    s, t = logits(1, 7).log_softmax(-1), logits(2, 7).log_softmax(-1)
    assert divergence.jsd(s, t, 1e-6).item() / 1e-6 == pytest.approx(divergence.forward_kl(s, t).item(), rel=1e-3)
    assert divergence.jsd(s, t, 1 - 1e-6).item() / 1e-6 == pytest.approx(divergence.reverse_kl(s, t).item(), rel=1e-3)


def test_gradient_of_reverse_kl_is_its_formula():
    """d KL / d logits = p (log p - log q - KL)."""
    z, t = logits(3, 2, 9).requires_grad_(), logits(4, 2, 9).log_softmax(-1)
    s = z.log_softmax(-1)
    kl = divergence.reverse_kl(s, t)
    (grad,) = torch.autograd.grad(kl.sum(), z)
    assert torch.allclose(grad, s.exp() * (s - t - kl[:, None]), atol=1e-12)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd"])
@given(seed=st.integers(0, 10_000), size=st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_never_negative_and_zero_only_for_equals(name, seed, size):
    s, t = logits(seed, 3, size).log_softmax(-1), logits(seed + 1, 3, size).log_softmax(-1)
    compute = divergence.by_name(name, 0.5)
    assert (compute(s, t) > 0).all()
    assert compute(s, s).abs().max() < 1e-12


def test_no_terminators_or_one_is_the_plain_log_softmax():
    z = logits(5, 3, 8)
    for space in (one_vocabulary(8), one_vocabulary(8, (3,))):
        assert torch.equal(space.student.log_probs(z), z.log_softmax(-1))


def test_merged_terminators_sum_probabilities():
    z = logits(6, 3, 8)
    p, merged = z.softmax(-1), one_vocabulary(8, (2, 5, 7)).student.log_probs(z).exp()
    assert torch.allclose(merged[:, 2], p[:, [2, 5, 7]].sum(-1))
    assert merged[:, [5, 7]].abs().max() == 0
    assert torch.allclose(merged[:, [0, 1, 3, 4, 6]], p[:, [0, 1, 3, 4, 6]])
    assert one_vocabulary(8, (2, 5, 7)).student.event_of(torch.tensor([1, 2, 5, 7])).tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd"])
def test_merging_equals_the_divergence_of_the_merged_distribution(name):
    """The marked columns add exactly nothing, to value and gradient."""
    z, t = logits(7, 4, 9).float().requires_grad_(), logits(8, 4, 9).float()
    space, compute = one_vocabulary(9, (1, 6)), divergence.by_name(name, 0.4)
    value = compute(space.student.log_probs(z), space.student.log_probs(t)).sum()
    (grad,) = torch.autograd.grad(value, z)

    def by_hand(x):
        p = x.softmax(-1)
        return torch.cat([p[:, [0, 2, 3, 4, 5, 7, 8]], p[:, [1, 6]].sum(-1, keepdim=True)], -1).log()

    expected = compute(by_hand(z), by_hand(t)).sum()
    (expected_grad,) = torch.autograd.grad(expected, z)
    assert torch.allclose(value, expected, rtol=1e-5)
    assert torch.allclose(grad, expected_grad, atol=1e-6)
    assert torch.isfinite(grad).all()
    assert IMPOSSIBLE < -1000


def test_padded_tail_is_cut_and_renormalised():
    wide, narrow = logits(9, 2, 12), logits(10, 2, 10)
    space = one_vocabulary(10)
    assert torch.allclose(space.student.log_probs(wide), wide[:, :10].log_softmax(-1))
    assert torch.allclose(space.student.log_probs(wide).exp().sum(-1), torch.ones(2, dtype=torch.float64))
    assert torch.isfinite(divergence.reverse_kl(space.student.log_probs(wide), space.student.log_probs(narrow))).all()


def test_half_precision_logits_are_taken_to_float32():
    assert one_vocabulary(8).student.log_probs(logits(11, 2, 8).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("sizes", [(9, 9), (4, 11), (11, 4)])
def test_uld_is_the_distance_of_sorted_probabilities(sizes):
    s, t = logits(1, 3, sizes[0]), logits(2, 3, sizes[1])
    for row in range(3):
        ranked = [sorted(x[row].softmax(-1).tolist(), reverse=True) + [0.0] * 11 for x in (s, t)]
        expected = sum(abs(a - b) for a, b in zip(*ranked))
        assert divergence.uld(s, t)[row].item() == pytest.approx(expected, rel=1e-5)
    assert divergence.uld(s, s[:, torch.randperm(sizes[0])]).abs().max() < 1e-6, "names of tokens do not matter to it"


def test_k2_has_the_gradient_of_the_reverse_kl_in_expectation():
    z, t = logits(5, 7).requires_grad_(), logits(6, 7).log_softmax(-1)
    s = z.log_softmax(-1)
    assert divergence.k2(torch.tensor([2.0, -3.0])).tolist() == [2.0, 4.5]
    (expected,) = torch.autograd.grad(divergence.reverse_kl(s, t), z, retain_graph=True)
    (grad,) = torch.autograd.grad((s.detach().exp() * divergence.k2(s - t)).sum(), z)
    assert torch.allclose(grad, expected, atol=1e-12)
