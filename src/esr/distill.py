"""The method: one optimiser step of on-policy distillation. With `rollout.max_new_tokens` = 100 it is ESR.

`step` can be read beside section 3 of arXiv:2605.27028: the student samples responses of at most N tokens; the teacher
scores every one of them; the student is trained on the exact reverse KL between the two next-token distributions, with
gradient through its own second forward pass only. `esr.train` holds the loop around it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esr.config import Config
from esr.meters import PeakMemory, Phases
from esr.method import divergence, selection
from esr.method.divergence import Divergence
from esr.method.events import EventSpace
from esr.method.events.positions import Positions
from esr.method.horizon import TRACED, trace
from esr.method.loss import StepCounts, reduce
from esr.method.metrics import length_quantiles, step_metrics
from esr.method.tensors import PositionStats, Rollout
from esr.microbatch import Accumulated, Batch, gather, micro_batches, token_counts, with_less_memory
from esr.models import dropout
from esr.models.lm import LM
from esr.models.server import ahead
from esr.models.sharded import gathered, sharded, whole, with_ends
from esr.nonfinite import NotFinite, not_finite, with_other_kernels
from esr.prompts import pad
from esr.ranks import here
from esr.records.problem import Problem
from esr.sampling.kept import Kept
from esr.sampling.loop import sample
from esr.sampling.noise import Noise
from esr.sampling.packed import decoding
from esr.sampling.sampler import Sampler
from esr.sampling.served import published
from esr.scoring import at, chunk_rest, compare, hidden_states, padding_is_exact, shares_prompts

AHEAD = 4
"""Micro-batches that servers are asked for at the same time."""


@dataclass(frozen=True)
class PromptPair:
    """One problem as a prompt for each side."""

    problem: Problem
    student_ids: list[int]
    teacher_ids: list[int]


@dataclass
class Distiller:
    """What a step needs. `sampler` has the step's N; `micro_batch_tokens` shrinks when memory runs out."""

    config: Config
    student: LM
    teacher: LM
    events: EventSpace
    sampler: Sampler
    optimizer: torch.optim.Optimizer
    micro_batch_tokens: int
    notify: Callable[[str], None]
    """Told of what the user should know while a run goes on."""
    of_logits: Divergence | None = None
    """A baseline between different tokenizers, instead of the divergence over `events`."""
    measured: LM | None = None
    """The student as it is evaluated, if other servers write then, or none."""
    kept: Kept | None = None
    """What the sampler keeps on the device from step to step; None: nothing."""


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    metrics: dict[str, float]
    rollout: Rollout
    kl: Tensor
    """(B, T) reverse KL."""
    keys: list[str]
    """Problem id of each response."""
    skipped: NotFinite | None = None
    """Why the weights have not changed, if they have not."""


def step(distiller: Distiller, pairs: Sequence[PromptPair], index: int, lr: float) -> StepReport:
    """One optimiser step on fresh rollouts (strictly on-policy).

    `index` counts steps from 0 and, with `run.seed`, fixes all randomness. If a loss or gradient is not finite, with other
    kernels too, the weights do not change: raises `NotFinite`, or reports the step as skipped (`optim.on_nonfinite`).
    """
    phases, memory = Phases(distiller.student.device), PeakMemory(distiller.student.device)
    batch = rollouts(distiller, pairs, index, phases)
    split = sharded(distiller.student) or sharded(distiller.teacher)
    attempt = with_other_kernels(
        lambda budget: here().together(
            lambda: gradient(distiller, batch, index, phases, budget), NotFinite if split else Exception
        ),
        distiller.notify,
    )
    try:
        scored, distiller.micro_batch_tokens = with_less_memory(
            attempt, distiller.micro_batch_tokens, batch, distiller.notify, again=not split
        )
    except NotFinite as error:
        if distiller.config.optim.on_nonfinite == "stop":
            raise
        return skipped(distiller, batch, error, phases, memory)
    with phases("train"):
        scored = over_ranks(scored)
        norm = update(distiller, lr)
    metrics = {
        "loss": scored.loss,
        **step_metrics(scored.stats, scored.weights, batch.positions, distiller.sampler.terminators),
        **token_counts(batch, scored, distiller.student, distiller.teacher),
        "rollout/n": float(distiller.sampler.max_new_tokens),
        "optim/lr": lr,
        "optim/grad_norm": norm,
        "optim/micro_batches": float(scored.micro_batches),
        **{f"time/{name}": seconds for name, seconds in phases.seconds.items()},
        "time/step": sum(phases.seconds.values()),
        "memory/peak_gib": max(here().gather(memory.gib())),
    }
    if distiller.config.rollout.horizon.policy in TRACED:
        metrics |= trace(scored.stats.reverse_kl, scored.stats.agreement, batch.positions.student_starts)
    return StepReport(metrics, batch.rollout, scored.stats.reverse_kl, batch.keys)


def skipped(distiller: Distiller, batch: Batch, error: NotFinite, phases: Phases, memory: PeakMemory) -> StepReport:
    """The report of a step that was left out: what it cost, and no statistics."""
    distiller.optimizer.zero_grad(set_to_none=True)
    metrics = {
        "loss": float("nan"),
        "optim/skipped": 1.0,
        "rollout/n": float(distiller.sampler.max_new_tokens),
        "tokens/generated": float(batch.rollout.lengths.sum()),
        **length_quantiles(batch.rollout.lengths.cpu().numpy()),
        **{f"time/{name}": seconds for name, seconds in phases.seconds.items()},
        "time/step": sum(phases.seconds.values()),
        "memory/peak_gib": memory.gib(),
    }
    return StepReport(metrics, batch.rollout, torch.zeros_like(batch.noise), batch.keys, error)


def rollouts(distiller: Distiller, pairs: Sequence[PromptPair], index: int, phases: Phases) -> Batch:
    """Responses of at most N tokens that the student samples, without gradient, to each prompt.

    Each rank samples those to its part of the prompts, and then knows all: so the loss's denominators need no message.
    """
    n, seed, device = distiller.config.rollout.samples_per_prompt, distiller.config.run.seed, distiller.student.device
    keys = [f"{index}:{place}:{pair.problem.id}" for place, pair in enumerate(pairs)]
    student = pad([pair.student_ids for pair in pairs])
    teacher = pad([pair.teacher_ids for pair in pairs])
    mine = here().share(range(len(pairs)))
    distiller.student.module.eval()
    with ExitStack() as stack:
        with phases("sync"):
            stack.enter_context(gathered(distiller.student))
            published(distiller.student, index)
            stack.enter_context(decoding(distiller.student, distiller.kept))
        with phases("generate"):
            asked, noise_of = pad([pairs[i].student_ids for i in mine]), Noise.of(seed, [keys[i] for i in mine], n)
            own = here().together(
                lambda: sample(distiller.student, asked, distiller.sampler, noise_of, kept=distiller.kept)
            )
            rollout = Rollout.join(here().gather(own.to(torch.device("cpu")))).to(device)
    noise = Noise.of(seed, keys, n, stream="selection").table(rollout.response_ids.shape[1])
    names = [pair.problem.id for pair in pairs for _ in range(n)]
    drops = dropout.seeds(seed, keys, n)
    sides = student.repeat(n).to(device), teacher.repeat(n).to(device)
    return Batch(distiller.events.read(rollout), *sides, noise.to(device), drops.to(device), names)


def gradient(distiller: Distiller, batch: Batch, index: int, phases: Phases, budget: int) -> Accumulated:
    """Score the rollouts with both models and accumulate the exact gradient of the step's loss over micro-batches.

    Of several ranks each does so for its rows; the loss of the step, and its gradient, are the sums over the ranks.

    A micro-batch has at most `budget` padded tokens.
    """
    distiller.optimizer.zero_grad(set_to_none=True)
    cfg, by, k = distiller.config.loss, distiller.config.loss.selection.by, distiller.config.loss.selection.k
    starts = batch.positions.student_starts
    counts = StepCounts(len(starts), int(selection.kept(by, k, starts.sum(1)).sum()))
    divergence_fn = divergence.by_name(cfg.divergence, cfg.beta)
    distiller.student.module.train()
    rows, idle = shares(distiller, batch, budget)
    parts = [batch.select(r) for r in (*rows, *idle)]
    distiller.student.module.eval()
    with phases("score"), torch.no_grad():
        teacher_hidden = scored(distiller.teacher, parts)
    distiller.student.module.train()
    total, failures = 0.0, []
    stats: list[PositionStats] = []
    weights: list[Tensor] = []
    for part in parts:
        with phases("train"):
            with_ends(distiller.student)
            mask = part.positions.student_starts
            hidden_s = hidden_states(distiller.student, part.student_prompts, part.rollout, part.dropout)
        with phases("score"):
            hidden_t = next(teacher_hidden)
        with phases("train"):
            scores = score(distiller, part.positions, hidden_s, hidden_t, divergence_fn)
            weight = selection.weights(by, k, mask, scores, part.noise)
            weight = weight * selection.by_position(cfg.position_weight.shape, cfg.position_weight.scale, mask)
            loss = reduce(scores.divergence, weight, cfg.aggregation, counts)
            if len(stats) == len(rows):
                (0 * loss).backward()
                continue
            loss.backward()
            failures.append(not_finite(scores, distiller.student.module, index, part))
            total += loss.item()
            stats.append(scores.detach())
            weights.append(weight)
    if any(failures):  # only now, as ranks that hold split weights go through all micro-batches together
        raise next(filter(None, failures))
    return gather(rows, stats, weights, batch.rollout, total)


def shares(distiller: Distiller, batch: Batch, budget: int) -> tuple[list[Tensor], list[Tensor]]:
    """The rows of this rank's micro-batches, and of more that carry no loss: ranks that hold split weights run equally often."""
    ranks, fitting = here(), budget if padding_is_exact(distiller.student) else 1
    shared = shares_prompts(distiller.student)
    each = [list(micro_batches(batch, fitting, rank, ranks.world, shared)) for rank in range(ranks.world)]
    own, most = each[ranks.rank], max(map(len, each))
    split = sharded(distiller.student) or sharded(distiller.teacher)
    return own, [each[0][-1]] * (most - len(own)) if split else []


def scored(teacher: LM, parts: Sequence[Batch]) -> Iterator[Tensor]:
    """The teacher's hidden states for each micro-batch: all now, or from servers, which are asked while the student trains."""
    sides = [(part.teacher_prompts, part.positions.teacher) for part in parts]
    if teacher.scorer is None:
        return iter([hidden_states(teacher, *side) for side in sides])
    scorer = teacher.scorer
    return ahead(lambda turn: scorer(*sides[turn], turn), range(len(sides)), AHEAD)


def score(
    distiller: Distiller, positions: Positions, hidden: Tensor, teacher_hidden: Tensor, divergence_fn: Divergence
) -> PositionStats:
    """(B, T) statistics where the two can be compared: the divergence at the start of every chunk, and k2 of its rest."""
    student, teacher, events = distiller.student, distiller.teacher, distiller.events
    starts, rollout = positions.student_starts, positions.student
    flat = compare(
        student,
        teacher,
        at(hidden, rollout, starts),
        at(teacher_hidden, positions.teacher, positions.teacher_starts),
        rollout.response_ids[starts],
        events,
        divergence_fn,
        distiller.of_logits,
    )
    if distiller.config.loss.chunk_rest == "k2" and bool(positions.student_long.any()):
        rest = chunk_rest(student, teacher, hidden, teacher_hidden, positions, events)
        flat = replace(flat, divergence=flat.divergence + divergence.k2(rest))
    return flat.scatter(starts)


def over_ranks(scored: Accumulated) -> Accumulated:
    """What all ranks have scored: rows of other ranks are zero, so it is the sum."""
    ranks = here()
    ranks.add([scored.weights, *(value for _, value in scored.stats.tensors())])
    parts = ranks.gather((scored.loss, scored.micro_batches))
    return replace(scored, loss=sum(loss for loss, _ in parts), micro_batches=sum(number for _, number in parts))


def update(distiller: Distiller, lr: float) -> float:
    """Add up the ranks' gradients, clip and take the optimiser's step; returns the gradient's norm before clipping.

    The sum is taken once for a step, and not by DistributedDataParallel: the loss has the whole step's denominators, so that
    nothing is to be averaged, and ranks may have different numbers of micro-batches, or none.
    """
    parameters = [p for group in distiller.optimizer.param_groups for p in group["params"]]
    if here().world > 1 and not sharded(distiller.student):
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        here().add([p.grad for p in parameters])
    norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, distiller.config.optim.clip)))
    for group in distiller.optimizer.param_groups:
        group["lr"] = lr
    distiller.optimizer.step()
    distiller.optimizer.zero_grad(set_to_none=True)
    return norm
