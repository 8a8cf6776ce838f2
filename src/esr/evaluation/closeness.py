"""How close a student is to its teacher on responses that nobody grades: divergence and agreement, response by response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr import prompts
from esr.method.divergence import reverse_kl
from esr.method.events import EventSpace
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.records.problem import Problem
from esr.sampling.respond import rendered
from esr.scoring import at, compare, hidden_states

Key = tuple[str, int]
"""Problem id, and number of the response to it."""
BATCH = 16
"""Responses scored together."""


@dataclass(frozen=True)
class Reference:
    """What responses are measured against."""

    teacher: LM
    events: EventSpace
    common: Mapping[Key, Sequence[int]] | None = None
    """The untrained student's responses, in token ids; None where it is the untrained student that is measured."""

    def measure(self, lm: LM, problems: Sequence[Problem], keys: Sequence[Key], own: Rollout) -> list[dict[str, float]]:
        """For each response of `lm` to `problems`: what `records.closeness.MEASURES` says of the distributions."""
        found = self._on(lm, problems, own, "own")
        if self.common is None:
            return [row | {name.replace("own", "common"): value for name, value in row.items()} for row in found]
        there = [i for i, key in enumerate(keys) if self.common.get(key)]
        if there:
            kept = [self.common[keys[i]] for i in there]
            rollout = Rollout.of(kept, [False] * len(kept)).to(lm.device)  # how they ended is not asked
            for i, row in zip(there, self._on(lm, [problems[i] for i in there], rollout, "common"), strict=True):
                found[i] |= row
        return found

    @torch.no_grad()
    def _on(self, lm: LM, problems: Sequence[Problem], rollout: Rollout, which: str) -> list[dict[str, float]]:
        """Mean reverse KL in nats, and share of positions with the same first choice, of each response.

        Nothing of a response without a position that is compared.
        """
        found: list[dict[str, float]] = []
        for rows in torch.arange(len(rollout), device=rollout.response_ids.device).split(BATCH):
            part, asked = rollout.select(rows), [problems[i] for i in rows.tolist()]
            positions = self.events.read(part)
            mask = positions.student_starts
            ours = at(hidden(lm, asked, part), part, mask)
            theirs = at(hidden(self.teacher, asked, positions.teacher), positions.teacher, positions.teacher_starts)
            tokens = part.response_ids[mask]
            stats = compare(lm, self.teacher, ours, theirs, tokens, self.events, reverse_kl).scatter(mask)
            sums = zip(
                stats.reverse_kl.sum(1).tolist(), stats.agreement.sum(1).tolist(), mask.sum(1).tolist(), strict=True
            )
            found += [{f"kl_{which}": kl / n, f"agreement_{which}": same / n} if n else {} for kl, same, n in sums]
        return found


def hidden(lm: LM, problems: Sequence[Problem], rollout: Rollout) -> Tensor:
    """(M, D) hidden states of `lm`, in evaluation mode, at the M real positions of responses after its own prompts."""
    lm.module.eval()
    return hidden_states(lm, prompts.pad(rendered(lm, problems)).to(rollout.response_ids.device), rollout)
