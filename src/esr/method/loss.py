"""The only place where positions become one number."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StepCounts:
    """Denominators over the whole optimiser step, so that micro-batches add up to exactly the full-batch loss."""

    sequences: int
    """Responses in the step."""
    positions: int
    """Positions in the step that carry weight."""


def reduce(values: Tensor, weights: Tensor, aggregation: str, counts: StepCounts) -> Tensor:
    """This micro-batch's share of the step's loss, a scalar; the shares of all micro-batches sum to the loss.

    `values` and `weights` are (B, T). `sequence_mean`: mean over a response's weighted positions, then over responses
    (the authors' code). `token_mean`: mean over all weighted positions of the step. `token_sum`: sum over a response's
    positions, mean over responses (the paper's printed equation). A response without weight contributes zero.
    """
    weighted = values * weights
    if aggregation == "sequence_mean":
        return (weighted.sum(1) / weights.sum(1).clamp(min=1e-9)).sum() / counts.sequences
    if aggregation == "token_mean":
        return weighted.sum() / max(counts.positions, 1)
    if aggregation == "token_sum":
        return weighted.sum() / counts.sequences
    raise ValueError(f"unknown aggregation {aggregation!r}")
