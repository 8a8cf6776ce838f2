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
    predictors: Tensor
    """(M,) place in R * L of the token from which each of the M response tokens is predicted, in row-major order of the
    response mask. The causal shift lives here, once: the token at i predicts the one at i + 1."""


def lay_out(prompts: Prompts, rollout: Rollout) -> Layout:
    """Each prompt with its response in a row of its own."""
    mask = torch.cat([prompts.mask, rollout.response_mask], dim=1)
    ids = torch.cat([prompts.ids, rollout.response_ids], dim=1).masked_fill(~mask, 0)
    width = int(mask.sum(1).max()) - 1
    to_the_left = (~mask).int().argsort(dim=1, stable=True)[:, :width]
    first = prompts.mask.sum(1) - 1 + torch.arange(len(prompts), device=ids.device) * width
    predictors = first[:, None] + torch.arange(rollout.response_ids.shape[1], device=ids.device)
    return Layout(ids.gather(1, to_the_left), predictors[rollout.response_mask])
