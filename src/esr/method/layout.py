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
    response mask. The causal shift lives here, once, for each layout: the token at i predicts the one at i + 1."""


@dataclass(frozen=True)
class SharedLayout:
    """Each prompt once, and the responses to it in rows of their own behind copies of its keys and values."""

    prompts: Layout
    """(Q, P) distinct prompts. Its predictors are the places in Q * P of the first response tokens' predictors."""
    responses: Layout
    """(B, T - 1) responses without their last tokens. Its predictors count on from Q * P, those of the prompts included."""
    columns: Tensor
    """(B, P) place in Q * P of the prompt token whose keys and values stand in each column of a row, moved to the right."""
    mask: Tensor
    """(B, P + T - 1) False where a column stands before its prompt."""
    positions: Tensor
    """(B, T - 1) positions of the response tokens."""


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


def same_prompt(prompts: Prompts, seeds: Tensor | None = None) -> Tensor:
    """(B,) a number for the prompt of each row: the same for rows whose prompts, and (B, 2) `seeds` of them, are the same."""
    parts = [prompts.ids, prompts.mask.long()] + ([] if seeds is None else [seeds[:, :1].long()])
    return torch.unique(torch.cat(parts, dim=1), dim=0, return_inverse=True)[1]


def lay_out_shared(prompts: Prompts, rollout: Rollout, prompt_of: Tensor) -> SharedLayout:
    """Each distinct prompt once; `prompt_of` (B,) is what `same_prompt` gives."""
    device, rows = prompts.ids.device, len(prompts)
    count, width = int(prompt_of.max()) + 1, prompts.ids.shape[1]
    first = torch.full((count,), rows, device=device).scatter_reduce(
        0, prompt_of, torch.arange(rows, device=device), "amin"
    )
    to_the_left = (~prompts.mask[first]).int().argsort(dim=1, stable=True)
    column, length = torch.arange(width, device=device), prompts.mask.sum(1, keepdim=True)
    ends = prompt_of * width + length[:, 0] - 1
    lone = Layout(
        prompts.ids[first].masked_fill(~prompts.mask[first], 0).gather(1, to_the_left),
        first[:, None].expand(-1, width),
        torch.zeros(count, width, dtype=torch.bool, device=device),
        column.expand(count, -1),
        ends,
    )
    mask = rollout.response_mask[:, :-1]
    place = torch.arange(mask.shape[1], device=device).expand(rows, -1)
    row = torch.arange(rows, device=device)[:, None]
    predictors = torch.cat([ends[:, None], count * width + row * mask.shape[1] + place], dim=1)
    behind = Layout(
        rollout.response_ids[:, :-1].masked_fill(~mask, 0),
        row.expand_as(mask),
        torch.ones_like(mask),
        place,
        predictors[rollout.response_mask],
    )
    columns = prompt_of[:, None] * width + (column - (width - length)).clamp(min=0)
    return SharedLayout(lone, behind, columns, torch.cat([prompts.mask, torch.ones_like(mask)], dim=1), length + place)
