"""The method: one optimiser step of on-policy distillation. With `rollout.max_new_tokens` = 100 it is ESR.

`step` can be read beside section 3 of arXiv:2605.27028: the student samples responses of at most N tokens; the teacher
scores every one of them; the student is trained on the exact reverse KL between the two next-token distributions, with
gradient through its own second forward pass only. `esr.train` holds the loop around it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from esr import divergence, selection
from esr.config import Config
from esr.decoding import decoding
from esr.errors import RunStopped, UserError
from esr.events import EventSpace
from esr.loss import StepCounts, reduce
from esr.metrics import step_metrics
from esr.models import LM
from esr.prompts import pad
from esr.results import Problem
from esr.sampling import Noise, Sampler, sample
from esr.scoring import compare, hidden_states
from esr.telemetry import PeakMemory, Phases
from esr.tensors import PositionStats, Prompts, Rollout


@dataclass(frozen=True)
class PromptPair:
    """One problem as a prompt for each side."""

    problem: Problem
    student_ids: list[int]
    teacher_ids: list[int]


@dataclass
class Distiller:
    """What a step needs. `micro_batch_tokens` shrinks when memory runs out; nothing else changes but the weights."""

    config: Config
    student: LM
    teacher: LM
    events: EventSpace
    sampler: Sampler
    optimizer: torch.optim.Optimizer
    micro_batch_tokens: int
    notify: Callable[[str], None]
    """Told of what the user should know while a run goes on."""


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    metrics: dict[str, float]
    rollout: Rollout
    kl: Tensor
    """(B, T) reverse KL."""
    keys: list[str]
    """Problem id of each response."""


@dataclass(frozen=True)
class Batch:
    """A step's rollouts with both sides' prompts, one row for each response."""

    rollout: Rollout
    student_prompts: Prompts
    teacher_prompts: Prompts
    noise: Tensor
    """(B, T) uniform numbers for random selection."""
    keys: list[str]

    def select(self, rows: Tensor) -> "Batch":
        rollout = self.rollout.select(rows)
        noise = self.noise[rows, : rollout.response_ids.shape[1]]
        prompts = self.student_prompts.select(rows), self.teacher_prompts.select(rows)
        return Batch(rollout, *prompts, noise, [self.keys[i] for i in rows.tolist()])


@dataclass(frozen=True)
class Scored:
    """A step's statistics, after its gradient has been accumulated."""

    stats: PositionStats
    """(B, T), detached."""
    weights: Tensor
    """(B, T) loss weights."""
    loss: float
    micro_batches: int


def step(run: Distiller, pairs: Sequence[PromptPair], index: int, lr: float) -> StepReport:
    """One optimiser step on fresh rollouts (strictly on-policy).

    `index` counts steps from 0 and, with `run.seed`, fixes all randomness. Raises `RunStopped` before the weights change
    if a loss or gradient is not finite.
    """
    phases, memory = Phases(run.student.device), PeakMemory(run.student.device)
    batch = rollouts(run, pairs, index, phases)
    scored = with_less_memory(run, batch, lambda: gradient(run, batch, index, phases))
    with phases("train"):
        norm = update(run, index, lr)
    metrics = {
        "loss": scored.loss,
        **step_metrics(scored.stats, scored.weights, batch.rollout, run.sampler.terminators),
        **token_counts(batch, scored),
        "optim/lr": lr,
        "optim/grad_norm": norm,
        "optim/micro_batches": float(scored.micro_batches),
        **{f"time/{name}": seconds for name, seconds in phases.seconds.items()},
        "time/step": sum(phases.seconds.values()),
        "memory/peak_gib": memory.gib(),
    }
    return StepReport(metrics, batch.rollout, scored.stats.reverse_kl, batch.keys)


def rollouts(run: Distiller, pairs: Sequence[PromptPair], index: int, phases: Phases) -> Batch:
    """Responses of at most N tokens that the student samples, without gradient, to each prompt."""
    n, seed, device = run.config.rollout.samples_per_prompt, run.config.run.seed, run.student.device
    keys = [f"{index}:{place}:{pair.problem.id}" for place, pair in enumerate(pairs)]
    student = pad([pair.student_ids for pair in pairs])
    teacher = pad([pair.teacher_ids for pair in pairs])
    run.student.module.eval()
    with ExitStack() as stack:
        with phases("sync"):
            stack.enter_context(decoding(run.student))
        with phases("generate"):
            rollout = sample(run.student, student, run.sampler, Noise.of(seed, keys, n))
    noise = Noise.of(seed + 1, keys, n).table(rollout.response_ids.shape[1])
    names = [pair.problem.id for pair in pairs for _ in range(n)]
    return Batch(rollout, student.repeat(n).to(device), teacher.repeat(n).to(device), noise.to(device), names)


def gradient(run: Distiller, batch: Batch, index: int, phases: Phases) -> Scored:
    """Score the rollouts with both models and accumulate the exact gradient of the step's loss over micro-batches."""
    cfg, by, k = run.config.loss, run.config.loss.selection.by, run.config.loss.selection.k
    counts = StepCounts(len(batch.rollout), int(selection.kept(by, k, batch.rollout.lengths).sum()))
    divergence_fn = divergence.by_name(cfg.divergence, cfg.beta)
    rows = list(micro_batches(batch, run.micro_batch_tokens))
    parts = [batch.select(r) for r in rows]
    run.student.module.eval()
    with phases("score"), torch.no_grad():
        teacher_hidden = [hidden_states(run.teacher, part.teacher_prompts, part.rollout) for part in parts]
    run.student.module.train()
    torch.manual_seed(run.config.run.seed * 1_000_003 + index)
    run.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    stats: list[PositionStats] = []
    weights: list[Tensor] = []
    with phases("train"):
        for part, hidden_t in zip(parts, teacher_hidden, strict=True):
            mask = part.rollout.response_mask
            hidden_s = hidden_states(run.student, part.student_prompts, part.rollout)
            tokens = part.rollout.response_ids[mask]
            flat = compare(run.student, run.teacher, hidden_s, hidden_t, tokens, run.events, divergence_fn)
            scores = flat.scatter(mask)
            weight = selection.weights(by, k, mask, scores, part.noise)
            loss = reduce(scores.divergence, weight, cfg.aggregation, counts)
            require_finite(scores, part, index)
            loss.backward()
            total += loss.item()
            stats.append(scores.detach())
            weights.append(weight)
    return gather(rows, stats, weights, batch.rollout, total)


def update(run: Distiller, index: int, lr: float) -> float:
    """Clip the gradient and take the optimiser's step; returns the gradient's norm before clipping."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, run.config.optim.clip))
    if not math.isfinite(norm):
        raise RunStopped(f"The gradient of step {index + 1} is not finite (norm {norm}).")
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return norm


def micro_batches(batch: Batch, budget: int) -> Iterator[Tensor]:
    """Row indices of micro-batches: rows by length, so that little is padded, at most `budget` padded tokens each."""
    prompt = torch.maximum(batch.student_prompts.mask.sum(1), batch.teacher_prompts.mask.sum(1))
    order = torch.argsort(batch.rollout.lengths, descending=True, stable=True).tolist()
    rows: list[int] = []
    for row in order:
        longest = batch.rollout.lengths[rows or [row]].max() + prompt[[*rows, row]].max()
        if rows and int(longest) * (len(rows) + 1) > budget:
            yield torch.tensor(rows, device=prompt.device)
            rows = []
        rows.append(row)
    yield torch.tensor(rows, device=prompt.device)


def gather(
    rows: list[Tensor], stats: list[PositionStats], weights: list[Tensor], rollout: Rollout, loss: float
) -> Scored:
    """Put the micro-batches' statistics and weights back into the order of the rollout."""

    def whole(pieces: list[Tensor]) -> Tensor:
        out = torch.zeros(rollout.response_ids.shape, device=rollout.response_ids.device)
        for index, values in zip(rows, pieces, strict=True):
            out[index, : values.shape[1]] = values.float()
        return out

    fields = {name: whole([getattr(s, name) for s in stats]) for name, _ in stats[0].tensors()}
    return Scored(PositionStats(**fields), whole(weights), loss, len(rows))


def token_counts(batch: Batch, scored: Scored) -> dict[str, float]:
    """Tokens sampled, tokens that went through a forward pass of either model, positions that carried loss."""
    generated = int(batch.rollout.lengths.sum())
    prompts = int(batch.student_prompts.mask.sum() + batch.teacher_prompts.mask.sum())
    return {
        "tokens/generated": float(generated),
        "tokens/scored": float(2 * generated + prompts),
        "tokens/trained": float((scored.weights > 0).sum()),
    }


def require_finite(stats: PositionStats, batch: Batch, index: int) -> None:
    """Raise `RunStopped` that names the first rollout whose divergence is not finite."""
    bad = ~torch.isfinite(stats.divergence.detach())
    if bool(bad.any()):
        row, position = (int(i) for i in bad.nonzero()[0])
        raise RunStopped(
            f"The loss of step {index + 1} is not finite: response to problem {batch.keys[row]}, position {position}."
        )


def with_less_memory(run: Distiller, batch: Batch, attempt: Callable[[], Scored]) -> Scored:
    """Run `attempt`; whenever memory runs out, run it again, whole, with half the micro-batch. No gradient is dropped."""
    width = batch.rollout.response_ids.shape[1] + max(
        p.ids.shape[1] for p in (batch.student_prompts, batch.teacher_prompts)
    )
    while True:
        try:
            return attempt()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        run.optimizer.zero_grad(set_to_none=True)
        if run.student.device.type == "cuda":
            torch.cuda.empty_cache()
        budget = min(run.micro_batch_tokens, width * len(batch.rollout))
        if budget <= width:
            raise UserError(
                "Out of memory with a single response in a micro-batch; lower rollout.max_new_tokens or use a smaller model."
            )
        run.micro_batch_tokens = budget // 2
        run.notify(f"Out of memory: the step is done again with micro-batches of {run.micro_batch_tokens:,} tokens.")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the host ran out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
