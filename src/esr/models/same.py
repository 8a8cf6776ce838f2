"""Whether two ways through a model give the same, up to rounding."""

import torch
from torch import Tensor


def tolerance(dtype: torch.dtype) -> float:
    """Nats a token that rounding may make: 2e-3 was measured in bfloat16, 1e-7 in float32."""
    return 1e-4 if dtype == torch.float32 else 0.02


@torch.no_grad()
def distance(own: Tensor, found: Tensor) -> float:
    """Mean KL between the distributions of (M, V) logits, in nats."""
    p, q = (t.double().log_softmax(-1) for t in (own, found))
    return float((p.exp() * (p - q)).sum(-1).mean())
