"""Divergences between two next-token distributions, one definition each, unreduced.

Every function takes log-probabilities over one event space (`esr.events`), shape (..., V), in float32 or better, and
returns nats of shape (...). Training and every analysis call these. An event may have probability zero in both
distributions at once; `esr.events` marks it with a large negative finite number, so no `inf - inf` can arise.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Divergence = Callable[[Tensor, Tensor], Tensor]


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student || teacher) = sum_v p_s(v) (log p_s(v) - log p_t(v)), the loss of ESR (arXiv:2605.27028)."""
    return (student.exp() * (student - teacher)).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) = sum_v p_t(v) (log p_t(v) - log p_s(v))."""
    return reverse_kl(teacher, student)


def jsd(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Generalised Jensen-Shannon divergence (arXiv:2306.13649, section 3).

    beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta p_t + (1 - beta) p_s, for 0 < beta < 1.
    """
    weight = student.new_tensor(beta)
    mixture = torch.logaddexp(teacher + weight.log(), student + (-weight).log1p())
    return beta * reverse_kl(teacher, mixture) + (1 - beta) * reverse_kl(student, mixture)


def k2(log_ratio: Tensor) -> Tensor:
    """Half the squared log-ratio log p_s(x) - log p_t(x) of what the student sampled.

    Its gradient is, in expectation over x, that of KL(student || teacher); its value is not.
    """
    return 0.5 * log_ratio.square()


def uld(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of the two sorted lists of probabilities, sum_r |p_s(r) - p_t(r)| (arXiv:2402.12030), from logits.

    The vocabularies may differ, and nothing says which tokens correspond; the shorter list ends in zeros.
    """
    width = max(student.shape[-1], teacher.shape[-1])
    ranked = [
        torch.nn.functional.pad(x.float().softmax(-1).sort(-1, descending=True).values, (0, width - x.shape[-1]))
        for x in (student, teacher)
    ]
    return (ranked[0] - ranked[1]).abs().sum(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Shannon entropy, -sum_v p(v) log p(v)."""
    return -(log_probs.exp() * log_probs).sum(-1)


def by_name(name: str, beta: float) -> Divergence:
    """The divergence that `loss.divergence` names."""
    named: dict[str, Divergence] = {"reverse_kl": reverse_kl, "forward_kl": forward_kl, "jsd": partial(jsd, beta=beta)}
    return named[name]
