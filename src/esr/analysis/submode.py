"""Does the student commit to a secondary mode of the teacher? (the paper's sub-mode commitment)

Among the tenth of all response positions with the largest divergence from the teacher: how sure is the model of its own
first choice, and which choice of the teacher's is that? The paper does not say whose responses, which direction of the
KL, or whose tenth it took; the defaults are each model's own responses, reverse KL, and each model's own tenth.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from esr import intervals
from esr.analysis.bimodal import LEAST_SECOND, LEAST_TWO, Bimodal, positions
from esr.analysis.others import Other, other_students
from esr.analysis.responses import ResponseBatch, choices, chunks, one_each, rank, shared, training_sampler
from esr.analysis.subject import Subject
from esr.console import Advance, progress
from esr.method import divergence
from esr.method.divergence import Divergence
from esr.method.events import EventSpace
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.records.base import Estimate
from esr.records.problem import Problem
from esr.records.submode import SubMode, SubModeRow, SubModeSettings
from esr.runs.rundir import RunDir


@dataclass
class Commitment:
    """A model at the M positions of its responses: one entry of each list for each chunk."""

    divergence: list[Tensor] = field(default_factory=list)
    """Nats, from the teacher."""
    top1: list[Tensor] = field(default_factory=list)
    """Probability of its own most probable event."""
    rank: list[Tensor] = field(default_factory=list)
    """That event's rank under the teacher."""
    teacher_top1: list[Tensor] = field(default_factory=list)
    """Probability of the teacher's most probable event."""
    response: list[Tensor] = field(default_factory=list)
    """Number of the response."""

    def add(self, student: Tensor, teacher: Tensor, response: Tensor, measure: Divergence) -> None:
        """Note a chunk of (m, V) log-probabilities and (m,) response numbers."""
        top, event = student.max(-1)
        self.divergence.append(measure(student, teacher).cpu())
        self.top1.append(top.exp().cpu())
        self.rank.append(rank(teacher, event).cpu())
        self.teacher_top1.append(teacher.max(-1).values.exp().cpu())
        self.response.append(response.cpu())

    def join(self, later: "Commitment", before: int) -> None:
        """Add later responses, of which the first one follows `before` others."""
        self.divergence += later.divergence
        self.top1 += later.top1
        self.rank += later.rank
        self.teacher_top1 += later.teacher_top1
        self.response += [before + response for response in later.response]


@dataclass
class BatchMeasure:
    """A model on responses: its own, or those of the untrained student."""

    commitment: Commitment = field(default_factory=Commitment)
    bimodal: Bimodal = field(default_factory=Bimodal)
    responses: list[ResponseBatch] = field(default_factory=list)
    """On the CPU."""

    def join(self, later: "BatchMeasure") -> None:
        """Add later responses."""
        before = sum(len(problems) for problems, _ in self.responses)
        self.commitment.join(later.commitment, before)
        self.bimodal.join(later.bimodal, before)
        self.responses += later.responses


def compute(subject: Subject, settings: SubModeSettings, others: Sequence[RunDir] = ()) -> SubMode:
    """Rows for the untrained student, the trained one, those of other runs of the pair, and the teacher."""
    start, seed = time.perf_counter(), settings.seed
    students = other_students(subject, others)
    problems, task = subject.held_out(settings.problems)
    sampler, events = training_sampler(subject, settings.max_new_tokens), subject.events
    measure = getattr(divergence, settings.divergence)
    with progress("Sub-mode", len(problems) * (1 + (subject.after is not None) + len(students)), "response") as advance:
        look = partial(
            measured, problems=problems, teacher=subject.teacher, events=events, measure=measure, advance=advance
        )

        def new(lm: LM) -> Callable[[Sequence[Problem]], Rollout]:
            return lambda batch: one_each(lm, batch, sampler, seed)

        first = look(subject.before, new(subject.before), modes=True)
        before, top = first.commitment, decile(torch.cat(first.commitment.divergence))
        rows = [row("before", before, top)]
        for name, lm in _trained(subject, students):
            model = look(lm, again(first, lm) if settings.trajectories == "shared" else new(lm)).commitment
            rows.append(row(name, model, top if settings.decile == "shared" else decile(torch.cat(model.divergence))))
    rows.append(teacher_row(before, top))
    found = positions(first.bimodal, first.responses, subject.after, events, subject.before.tokenizer)
    return SubMode(
        models=subject.references(),
        task=task,
        problems=len(problems),
        settings={
            **choices(subject, sampler, seed),
            "with": {other.name: other.reference for other in students},
            "decile": "the tenth of all positions, pooled over responses, with the largest divergence (rounded up)",
            "source": "the paper does not say whose responses, which KL and whose decile it took; defaults: own, reverse_kl, per-model",
            "intervals": "ratio of sums over responses, clustered by response",
            "bimodal": f"the teacher's second choice has p >= {LEAST_SECOND:g}, its first two together p >= {LEAST_TWO:g}",
        },
        trajectories=settings.trajectories,
        decile=settings.decile,
        divergence=settings.divergence,
        rows=rows,
        bimodal=found,
        bimodal_share=first.bimodal.share,
        seconds=round(time.perf_counter() - start, 1),
    )


def _trained(subject: Subject, others: Sequence[Other]) -> Iterator[tuple[str, LM]]:
    if subject.after is not None:
        yield "after", subject.after
    for other in others:
        yield other.name, other.load()


def again(first: BatchMeasure, lm: LM) -> Callable[[Sequence[Problem]], Rollout]:
    """The responses that are there already, for `lm` to look at."""
    written = {problems[0].id: rollout for problems, rollout in first.responses}
    return lambda batch: written[batch[0].id].to(lm.device)


def measured(
    lm: LM,
    write: Callable[[Sequence[Problem]], Rollout],
    problems: Sequence[Problem],
    teacher: LM,
    events: EventSpace,
    measure: Divergence,
    advance: Advance,
    modes: bool = False,
) -> BatchMeasure:
    """What `lm` and the teacher say at every position of the response to each problem; with `modes`, where the teacher has two."""

    def both(batch: Sequence[Problem]) -> BatchMeasure:
        rollout = write(batch)
        found, read = BatchMeasure(responses=[(batch, rollout.to(torch.device("cpu")))]), events.read(rollout)
        where = read.student_starts.nonzero()
        for part, (student, target) in chunks(lm, teacher, batch, read, events):
            found.commitment.add(student, target, where[part, 0], measure)
            if modes:
                found.bimodal.add(student, target, where[part, 0], where[part, 1])
        return found

    whole = BatchMeasure()
    for found in shared(problems, both, advance):
        whole.join(found)
    return whole


def decile(values: Tensor) -> Tensor:
    """Indices of the largest tenth of (M,) values, rounded up; among equal ones the earlier."""
    return values.argsort(descending=True, stable=True)[: -(-len(values) // 10)]


def row(name: str, model: Commitment, top: Tensor) -> SubModeRow:
    """A model at the positions `top`."""
    response, ranks = torch.cat(model.response)[top], torch.cat(model.rank)[top]

    def share(values: Tensor) -> Estimate:
        return by_response(values, response)

    return SubModeRow(
        model=name,
        positions=len(top),
        threshold=float(torch.cat(model.divergence)[top].min()),
        top1=share(torch.cat(model.top1)[top]),
        rank_1=share(ranks == 1),
        rank_2_5=share((ranks > 1) & (ranks <= 5)),
        rank_beyond=share(ranks > 5),
    )


def teacher_row(before: Commitment, top: Tensor) -> SubModeRow:
    """The teacher itself at the untrained student's positions: its own first choice, always."""
    first = Commitment(
        before.divergence,
        before.teacher_top1,
        [torch.ones_like(r) for r in before.rank],
        before.teacher_top1,
        before.response,
    )
    return row("teacher", first, top)


def by_response(values: Tensor, response: Tensor) -> Estimate:
    """Mean of (M,) values in [0, 1], with an interval clustered by `response` (M,) numbers."""
    total = torch.bincount(response, values.double()).tolist()
    count = torch.bincount(response).tolist()
    estimate = intervals.ratio(total, count)
    assert estimate is not None
    return estimate
