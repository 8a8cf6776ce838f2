"""Where the tokens of prompts and responses lie in the rows of one forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

from esr.method.tensors import Prompts, Rollout


@dataclass(frozen=True)
class Layout:
    """Rows padded on the right, so that causal attention needs no mask: nothing looks to the right."""

    ids: Tensor
    """(R, L) token ids. The last token of the longest row is left out: nothing is predicted from it."""
    row: Tensor
    """(R, L) the row of the batch that each token belongs to."""
    in_response: Tensor
    """(R, L) bool: whether it stands in the response."""
    place: Tensor
    """(R, L) its place in its prompt or response, from 0."""
    predictors: Tensor
    """(M,) place in R * L of the token from which each of the M response tokens is predicted, in row-major order of the
    response mask. The causal shift lives here, once: the token at i predicts the one at i + 1."""


def lay_out(prompts: Prompts, rollout: Rollout) -> Layout:
    """Each prompt with its response in a row of its own."""
    device = prompts.ids.device
    mask = torch.cat([prompts.mask, rollout.response_mask], dim=1)
    ids = torch.cat([prompts.ids, rollout.response_ids], dim=1).masked_fill(~mask, 0)
    width = int(mask.sum(1).max()) - 1
    to_the_left = (~mask).int().argsort(dim=1, stable=True)[:, :width]
    row, length = torch.arange(len(prompts), device=device)[:, None], prompts.mask.sum(1, keepdim=True)
    column = torch.arange(width, device=device).expand(len(prompts), -1)
    in_response = column >= length
    first = row * width + length - 1
    predictors = first + torch.arange(rollout.response_ids.shape[1], device=device)
    return Layout(
        ids.gather(1, to_the_left),
        row.expand(-1, width),
        in_response,
        torch.where(in_response, column - length, column),
        predictors[rollout.response_mask],
    )
