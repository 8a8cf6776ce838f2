"""The numbers of one training step, under stable names (docs/metrics.md lists them)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esr.method.events.positions import Positions
from esr.method.tensors import PositionStats

BIN_EDGES = (0, 10, 25, 50, 100, 200, 400, 800, 1600)
"""First positions of the bins in which divergence is reported; the last bin is open."""
SHARES = (25, 50, 100)
"""Windows whose share of the summed KL is reported."""


def bin_names() -> list[str]:
    """`000-009`, `010-024`, ..., `1600-`."""
    ends = [str(b - 1).zfill(3) for b in BIN_EDGES[1:]] + [""]
    return [f"{str(a).zfill(3)}-{b}" for a, b in zip(BIN_EDGES, ends, strict=True)]


def by_bin(values: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean of (B, T) `values` over the real positions of each bin that has any."""
    edges = [*BIN_EDGES, values.shape[1]]
    out = {}
    for name, start, end in zip(bin_names(), edges, edges[1:], strict=False):
        inside = mask[:, start:end] if start < end else mask[:, :0]
        if bool(inside.any()):
            out[name] = float(values[:, start:end][inside].mean())
    return out


def step_metrics(
    stats: PositionStats, weights: Tensor, positions: Positions, terminators: Sequence[int]
) -> dict[str, float]:
    """Metrics of a step's (B, T) statistics; `weights` are the loss weights, as in `esr.selection`.

    Means over positions are over those at which the two models can be compared; lengths are the student's tokens.
    """
    rollout, mask = positions.student, positions.student_starts
    kl = stats.reverse_kl
    lengths = rollout.lengths.float().cpu().numpy()
    at_stop = mask & torch.isin(rollout.response_ids, torch.tensor(terminators, device=mask.device))
    out = {
        "kl/mean": _mean(kl, mask),
        "kl/max": float(kl[mask].max()) if bool(mask.any()) else 0.0,
        "kl/sampled": _mean(stats.student_logp - stats.teacher_logp, mask),
        "entropy/student": _mean(stats.student_entropy, mask),
        "entropy/teacher": _mean(stats.teacher_entropy, mask),
        "agreement/top1": _mean(stats.agreement, mask),
        "selection/share_of_kl": float((kl * (weights > 0)).sum() / kl[mask].sum().clamp(min=1e-12)),
        "stop/terminator": float(rollout.finished.float().mean()),
        "stop/length": float((~rollout.finished).float().mean()),
        "positions/compared": float(mask.sum() / rollout.response_mask.sum()),
        "positions/long_chunks": float((mask & positions.student_long).sum() / mask.sum().clamp(min=1)),
        **length_quantiles(lengths),
    }
    if bool(at_stop.any()):
        out["kl/at_terminator"] = _mean(kl, at_stop)
    total = kl[mask].sum().clamp(min=1e-12)
    for n in SHARES:
        out[f"kl/share_first_{n}"] = float(kl[:, :n][mask[:, :n]].sum() / total)
    return out | {f"kl/by_position/{name}": value for name, value in by_bin(kl, mask).items()}


def length_quantiles(lengths: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Response length in tokens: p10, p50, p90, mean, max."""
    p10, p50, p90 = (float(q) for q in np.quantile(np.asarray(lengths), [0.1, 0.5, 0.9]))
    return {
        "length/p10": p10,
        "length/p50": p50,
        "length/p90": p90,
        "length/mean": float(np.mean(lengths)),
        "length/max": float(np.max(lengths)),
    }


def _mean(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].mean())
