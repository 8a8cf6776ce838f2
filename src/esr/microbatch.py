"""A step's rollouts in micro-batches: split by length, put together again, done again in smaller ones when memory runs out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from esr.errors import OutOfMemory
from esr.memory import out_of_memory, release
from esr.method.events.positions import Positions
from esr.method.layout import same_prompt
from esr.method.tensors import PositionStats, Prompts, Rollout
from esr.models.lm import LM
from esr.scoring import shares_prompts


@dataclass(frozen=True)
class Batch:
    """A step's rollouts, as both sides read them, with both sides' prompts, one row for each response."""

    positions: Positions
    student_prompts: Prompts
    teacher_prompts: Prompts
    noise: Tensor
    """(B, T) uniform numbers for random selection."""
    dropout: Tensor
    """(B, 2) int32 seeds of the student's dropout."""
    keys: list[str]
    """Problem id of each row."""

    @property
    def rollout(self) -> Rollout:
        """The responses as the student wrote them."""
        return self.positions.student

    def select(self, rows: Tensor) -> "Batch":
        positions = self.positions.select(rows)
        noise = self.noise[rows, : positions.student_starts.shape[1]]
        prompts = self.student_prompts.select(rows), self.teacher_prompts.select(rows)
        return Batch(positions, *prompts, noise, self.dropout[rows], [self.keys[i] for i in rows.tolist()])


@dataclass(frozen=True)
class Accumulated:
    """A step's statistics, after its gradient has been accumulated."""

    stats: PositionStats
    """(B, T), detached."""
    weights: Tensor
    """(B, T) loss weights."""
    loss: float
    micro_batches: int


def micro_batches(batch: Batch, budget: int, rank: int = 0, world: int = 1, shared: bool = False) -> Iterator[Tensor]:
    """Row indices of micro-batches: rows by length, so that little is padded, at most `budget` padded tokens each.

    With `shared` prompts, the responses to a prompt are one rank's, stay together where they fit, and the prompt counts once.
    Of `world` ranks each takes every `world`-th prompt, or row, so that all have rows of all lengths.
    """
    sides = (batch.student_prompts, batch.positions.student), (batch.teacher_prompts, batch.positions.teacher)
    prompt, response = (
        torch.stack(parts).amax(0).tolist()
        for parts in zip(*((p.mask.sum(1), r.lengths) for p, r in sides), strict=True)
    )
    prompt_of = same_prompt(batch.student_prompts, batch.dropout).tolist() if shared else list(range(len(prompt)))
    longest = {o: max(r for p, r in zip(prompt_of, response, strict=True) if p == o) for o in set(prompt_of)}
    order = sorted(range(len(prompt)), key=lambda row: (-longest[prompt_of[row]], prompt_of[row], -response[row]))
    groups = [list(samples) for _, samples in groupby(order, key=lambda row: prompt_of[row])]

    def padded(rows: list[int]) -> int:
        return len({prompt_of[i] for i in rows}) * max(prompt[i] for i in rows) + len(rows) * max(
            response[i] for i in rows
        )

    def full(rows: list[int], more: list[int]) -> bool:
        return bool(rows) and padded(rows + more) > budget

    device, rows = batch.student_prompts.ids.device, list[int]()
    for group in groups[rank::world]:
        for number, row in enumerate(group):
            if full(rows, [row]) or (number == 0 and full(rows, group)):
                yield torch.tensor(rows, device=device)
                rows = []
            rows.append(row)
    if rows:
        yield torch.tensor(rows, device=device)


def gather(
    rows: list[Tensor], stats: list[PositionStats], weights: list[Tensor], rollout: Rollout, loss: float
) -> Accumulated:
    """Put the micro-batches' statistics and weights back into the order of the rollout; zero in rows of other ranks."""

    def whole(pieces: list[Tensor]) -> Tensor:
        out = torch.zeros(rollout.response_ids.shape, device=rollout.response_ids.device)
        for index, values in zip(rows, pieces, strict=True):
            out[index, : values.shape[1]] = values.float()
        return out

    fields = {name: whole([getattr(s, name) for s in stats]) for name in PositionStats.__dataclass_fields__}
    return Accumulated(PositionStats(**fields), whole(weights), loss, len(rows))


def with_less_memory(
    attempt: Callable[[int], Accumulated], budget: int, batch: Batch, notify: Callable[[str], None], again: bool = True
) -> tuple[Accumulated, int]:
    """Run `attempt(budget)`, and again, whole, with half the budget whenever memory runs out; no gradient is dropped.

    `budget` is a number of padded tokens in a micro-batch. Returns what `attempt` returned and the budget that fitted.
    Without `again`, running out of memory is an error: a rank that holds split weights cannot go back alone.
    Raises `OutOfMemory` if a single response does not fit.
    """
    width = max(r.response_ids.shape[1] for r in (batch.positions.student, batch.positions.teacher)) + max(
        p.ids.shape[1] for p in (batch.student_prompts, batch.teacher_prompts)
    )
    while True:
        try:
            return attempt(budget), budget
        except (RuntimeError, MemoryError, OSError) as error:
            if not again or not out_of_memory(error):
                raise
        release()
        budget = min(budget, width * len(batch.rollout))
        if budget <= width:
            raise OutOfMemory(
                "Out of memory with a single response in a micro-batch; lower rollout.max_new_tokens or use a smaller model."
            )
        budget //= 2
        notify(f"Out of memory: the step is done again with micro-batches of {budget:,} tokens.")


def token_counts(batch: Batch, scored: Accumulated, student: LM, teacher: LM) -> dict[str, float]:
    """Tokens sampled, tokens that went through a scoring pass of either model, positions that carried loss.

    A prompt counts once where its samples share it.
    """
    generated, read = int(batch.rollout.lengths.sum()), int(batch.positions.teacher.lengths.sum())
    sides = (student, batch.student_prompts), (teacher, batch.teacher_prompts)
    prompts = sum(prompt_tokens(p, batch.dropout, shares_prompts(lm)) for lm, p in sides)
    return {
        "tokens/generated": float(generated),
        "tokens/scored": float(generated + read + prompts),
        "tokens/trained": float((scored.weights > 0).sum()),
    }


def prompt_tokens(prompts: Prompts, seeds: Tensor, shared: bool) -> int:
    """Prompt tokens of a batch; of the rows that share a prompt, only one counts if they do share it."""
    lengths = prompts.mask.sum(1)
    if not shared:
        return int(lengths.sum())
    prompt_of = same_prompt(prompts, seeds)
    return int(torch.zeros_like(lengths).scatter_reduce(0, prompt_of, lengths, "amax").sum())
