"""Event spaces: probabilities are sums over members, names do not matter, coarser events hold no more divergence."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.method.divergence import reverse_kl
from esr.method.events import IMPOSSIBLE, event_space, one_vocabulary
from esr.method.events.classes import LEFT_OUT


def naive(logits: torch.Tensor, labels: np.ndarray) -> dict[int, torch.Tensor]:
    """Probability of each class among the columns that are compared."""
    there = [i for i, label in enumerate(labels) if label != LEFT_OUT]
    p = torch.zeros(logits.shape).double()
    p[..., there] = logits.double()[..., there].softmax(-1)
    return {int(k): p[..., np.flatnonzero(labels == k)].sum(-1) for k in np.unique(labels) if k != LEFT_OUT}


@st.composite
def labelled(draw) -> tuple[np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 6))
    sides = []
    for _ in range(2):
        more = draw(st.lists(st.integers(LEFT_OUT, classes - 1), max_size=14))
        sides.append(np.array(draw(st.permutations([*range(classes), *more]))) * np.array(1))
    return sides[0], sides[1]


@settings(max_examples=150, deadline=None)
@given(labelled(), st.integers(0, 2**16))
def test_masses_are_sums_over_members_and_add_up_to_one(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    space = event_space(*labels)
    masses = []
    for side, of in zip((space.student, space.teacher), labels):
        logits = 4 * torch.randn(3, len(of) + 2, generator=generator)  # two columns more than named ones
        got, expected = side.log_probs(logits), naive(logits[..., : len(of)], of)
        assert got.shape == (3, space.size)
        assert torch.allclose(got.exp().sum(-1), torch.ones(3), atol=1e-5)
        for k, mass in expected.items():
            members = torch.from_numpy(np.flatnonzero(of == k))
            events = side.event_of(members)
            assert events.unique().numel() == 1
            assert torch.allclose(got[:, int(events[0])].double().exp(), mass, atol=1e-5)
        masses.append((got, torch.stack(list(expected.values()), -1)))
    plain = (masses[0][1] * (masses[0][1].log() - masses[1][1].log())).sum(-1)
    assert torch.allclose(reverse_kl(masses[0][0], masses[1][0]).double(), plain, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(labelled(), st.data())
def test_coarser_classes_hold_no_more_divergence(labels, data):
    classes = max(side.max() for side in labels) + 1
    joined = np.array([data.draw(st.integers(0, classes - 1)) for _ in range(classes)])
    coarse = [np.where(side == LEFT_OUT, LEFT_OUT, joined[side]) for side in labels]
    logits = [torch.randn(4, len(side)) for side in labels]

    def kl(labels):
        space = event_space(*labels)
        return reverse_kl(space.student.log_probs(logits[0]), space.teacher.log_probs(logits[1]))

    assert (kl(coarse) <= kl(labels) + 1e-5).all()


def test_one_vocabulary_with_no_merged_terminators_is_a_log_softmax():
    logits = torch.randn(5, 40)
    space = one_vocabulary(32)
    assert torch.equal(space.student.log_probs(logits), logits[:, :32].log_softmax(-1))
    assert torch.equal(space.teacher.log_probs(logits), logits[:, :32].log_softmax(-1))


def test_merged_terminators_are_one_event_under_the_first_of_their_names():
    logits = torch.randn(5, 32)
    logp = one_vocabulary(32, (9, 2)).student.log_probs(logits)
    plain = logits.log_softmax(-1)
    assert torch.equal(logp[:, 2], plain[:, [2, 9]].logsumexp(-1))
    assert (logp[:, 9] == IMPOSSIBLE).all()
    kept = [i for i in range(32) if i not in (2, 9)]
    assert torch.equal(logp[:, kept], plain[:, kept])
    assert one_vocabulary(32, (9, 2)).student.event_of(torch.tensor([2, 9, 4])).tolist() == [2, 2, 4]


def test_other_ids_for_the_same_tokens_give_the_same_divergence():
    order = torch.randperm(50)
    s, t = torch.randn(4, 50), torch.randn(4, 50)
    labels = np.arange(50)
    labels[[3, 8]] = 3
    plain, moved = one_vocabulary(50, (3, 8)), event_space(labels, labels[order.numpy()])
    there = reverse_kl(plain.student.log_probs(s), plain.teacher.log_probs(t))
    assert torch.allclose(
        there, reverse_kl(moved.student.log_probs(s), moved.teacher.log_probs(t[:, order])), atol=1e-6
    )


@pytest.mark.parametrize("labels", [([0, 1, 1, 2, -1, 0, 3], [3, 0, 1, 2, 2]), ([0, 1, 2], [0, 1, 2])])
def test_gradient_of_the_divergence_is_that_of_central_differences(labels):
    space = event_space(*map(np.array, labels))
    s, t = torch.randn(len(labels[0])).double(), torch.randn(len(labels[1])).double()
    assert torch.autograd.gradcheck(
        lambda x: reverse_kl(space.student.log_probs(x), space.teacher.log_probs(t)), s.requires_grad_(True)
    )
