"""A teacher of which only the k most probable tokens are known: its distribution, completed. An approximation, labelled as one."""

import torch
from torch import Tensor

LEAST = 1e-6
"""The mass of all other tokens is taken for at least this: what a server says is rounded."""


def completed(scores: Tensor, student: Tensor) -> Tensor:
    """(M, V) log-probabilities of a teacher from (M, K, 2) `scores` (token id, log-probability) and (M, V) student logits.

    An id of -1, or one that the student does not have, is none. The mass that is not listed is spread over the other tokens
    in proportion to the student's own probabilities: KL(student || teacher) is then that over K + 1 events (the listed
    tokens, and all others as one), value and gradient. By the log-sum inequality that is at most the exact divergence.
    """
    ids, logp = scores[..., 0].long(), scores[..., 1].float()
    own = student.detach().float().log_softmax(-1)
    size = own.shape[-1]
    known = (ids >= 0) & (ids < size)
    place = ids.where(known, torch.full_like(ids, size))
    listed = torch.zeros(*own.shape[:-1], size + 1, dtype=torch.bool, device=own.device).scatter(-1, place, True)
    values = own.new_zeros(listed.shape).scatter(-1, place, logp)[..., :size]
    listed = listed[..., :size]
    rest = (1 - logp.exp().where(known, logp.new_zeros(())).sum(-1, keepdim=True)).clamp(min=LEAST).log()
    own_rest = own.masked_fill(listed, -torch.inf).logsumexp(-1, keepdim=True)
    return values.where(listed, own + rest - own_rest)
