"""Positions at which the teacher has two modes, for the sub-mode analysis."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esr.analysis.responses import ResponseBatch, chunks, token_text
from esr.method.divergence import reverse_kl
from esr.method.events import EventSpace
from esr.models.lm import LM
from esr.records.submode import BimodalPosition, Candidate

LEAST_SECOND = 0.2
LEAST_TWO = 0.7
"""The teacher is bimodal where its second choice has `LEAST_SECOND`, and its first two together have `LEAST_TWO`."""
SHOWN = 24
"""Positions reported: those of the largest reverse KL."""
CANDIDATES = 6
"""Tokens of each."""
CONTEXT = 160
"""Characters of the response before it."""


@dataclass(frozen=True)
class Position:
    """One bimodal position."""

    reverse_kl: float
    response: int
    position: int
    tokens: list[int]
    """Events, the teacher's most probable first."""
    student: list[float]
    teacher: list[float]


@dataclass
class Bimodal:
    """Counts bimodal positions and remembers those of the largest reverse KL."""

    bimodal: int = 0
    positions: int = 0
    largest: list[Position] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Of all positions; None without one."""
        return self.bimodal / self.positions if self.positions else None

    def add(self, student: Tensor, teacher: Tensor, response: Tensor, position: Tensor) -> None:
        """Look at a chunk: (m, V) log-probabilities, (m,) response numbers and (m,) positions in them."""
        best = teacher.topk(2, dim=-1).values.exp()
        two = (best[:, 1] >= LEAST_SECOND) & (best.sum(-1) >= LEAST_TWO)
        self.positions += len(two)
        self.bimodal += int(two.sum())
        where = two.nonzero().squeeze(-1)
        kl = reverse_kl(student[where], teacher[where])
        for i in kl.argsort(descending=True, stable=True)[:SHOWN].tolist():
            at = where[i]
            p, tokens = teacher[at].topk(min(CANDIDATES, teacher.shape[-1]))
            self.largest.append(
                Position(
                    max(float(kl[i]), 0.0),
                    int(response[at]),
                    int(position[at]),
                    tokens.tolist(),
                    student[at, tokens].exp().tolist(),
                    p.exp().tolist(),
                )
            )
        self.largest = _largest(self.largest)

    def join(self, later: "Bimodal", before: int) -> None:
        """Add what was found in later responses, of which the first one follows `before` others."""
        self.positions += later.positions
        self.bimodal += later.bimodal
        self.largest = _largest([*self.largest, *(replace(f, response=before + f.response) for f in later.largest)])


def _largest(found: Sequence[Position]) -> list[Position]:
    return sorted(found, key=lambda f: -f.reverse_kl)[:SHOWN]


def positions(
    bimodal: Bimodal,
    responses: Sequence[ResponseBatch],
    after: LM | None,
    events: EventSpace,
    tokenizer: PreTrainedTokenizerBase,
) -> list[BimodalPosition]:
    """The remembered positions of the untrained student's `responses`, with the trained student's view of them."""
    rows = [row for problems, r in responses for row in zip(problems, r.token_lists(), strict=True)]
    trained = afterwards(bimodal.largest, responses, after, events) if after else {}
    out = []
    for found in bimodal.largest:
        problem, tokens = rows[found.response]
        probabilities = trained.get((found.response, found.position))
        out.append(
            BimodalPosition(
                problem=problem.id,
                position=found.position,
                reverse_kl=found.reverse_kl,
                context=tokenizer.decode(tokens[: found.position]).strip("\ufffd")[-CONTEXT:],
                candidates=_candidates(tokenizer, found, found.student),
                after=_candidates(tokenizer, found, probabilities) if probabilities else [],
            )
        )
    return out


def _candidates(tokenizer: PreTrainedTokenizerBase, found: Position, student: Sequence[float]) -> list[Candidate]:
    names = [token_text(tokenizer, token) for token in found.tokens]
    return [Candidate(token=n, student=s, teacher=t) for n, s, t in zip(names, student, found.teacher, strict=True)]


def afterwards(
    largest: Sequence[Position], responses: Sequence[ResponseBatch], after: LM, events: EventSpace
) -> dict[tuple[int, int], list[float]]:
    """The trained student's probabilities of the tokens found, by (response, position); other responses are not run."""
    wanted = {(f.response, f.position): torch.tensor(f.tokens) for f in largest}
    out: dict[tuple[int, int], list[float]] = {}
    first = 0
    for problems, rollout in responses:
        rows = [i for i in range(len(problems)) if any(first + i == f.response for f in largest)]
        if rows:
            some = rollout.select(torch.tensor(rows)).to(after.device)
            read = events.read(some)
            where = [(first + rows[i], j) for i, j in read.student_starts.nonzero().tolist()]
            for part, (logp,) in chunks(after, None, [problems[i] for i in rows], read, events):
                for place, values in zip(where[part], logp, strict=True):
                    if place in wanted:
                        out[place] = values[wanted[place].to(values.device)].exp().tolist()
        first += len(problems)
    return out
