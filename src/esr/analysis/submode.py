"""Does the student commit to a secondary mode of the teacher? (the paper's sub-mode commitment)

Among the tenth of all response positions with the largest divergence from the teacher: how sure is the model of its own
first choice, and which choice of the teacher's is that? The paper does not say whose responses, which direction of the
KL, or whose tenth it took; the defaults are each model's own responses, reverse KL, and each model's own tenth.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esr import intervals
from esr.analysis.bimodal import LEAST_SECOND, LEAST_TWO, Bimodal, positions
from esr.analysis.others import Other, other_students
from esr.analysis.responses import Batch, batches, choices, chunks, rank, training_sampler
from esr.analysis.subject import Subject
from esr.console import Advance, progress
from esr.method import divergence
from esr.method.divergence import Divergence
from esr.method.events import EventSpace
from esr.models.lm import LM
from esr.records.base import Estimate
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


def compute(subject: Subject, settings: SubModeSettings, others: Sequence[RunDir] = ()) -> SubMode:
    """Rows for the untrained student, the trained one, those of other runs of the pair, and the teacher."""
    start, seed = time.perf_counter(), settings.seed
    students = other_students(subject, others)
    problems, task = subject.held_out(settings.problems)
    sampler, events = training_sampler(subject, settings.max_new_tokens), subject.events
    measure = getattr(divergence, settings.divergence)
    shared: list[Batch] = []
    bimodal = Bimodal(subject.before.tokenizer)
    with progress("Sub-mode", len(problems) * (1 + (subject.after is not None) + len(students)), "response") as advance:
        own = keeping(batches(subject.before, problems, sampler, seed), shared)
        before = measured(subject.before, subject.teacher, own, events, measure, advance, bimodal)
        top = decile(torch.cat(before.divergence))
        rows = [row("before", before, top)]
        for name, lm in _trained(subject, students):
            responses = shared if settings.trajectories == "shared" else batches(lm, problems, sampler, seed)
            model = measured(lm, subject.teacher, responses, events, measure, advance)
            rows.append(row(name, model, top if settings.decile == "shared" else decile(torch.cat(model.divergence))))
    rows.append(teacher_row(before, top))
    found = positions(bimodal, shared, subject.after, events)
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
        bimodal_share=bimodal.share,
        seconds=round(time.perf_counter() - start, 1),
    )


def _trained(subject: Subject, others: Sequence[Other]) -> Iterator[tuple[str, LM]]:
    if subject.after is not None:
        yield "after", subject.after
    for other in others:
        yield other.name, other.load()


def keeping(responses: Iterable[Batch], into: list[Batch]) -> Iterator[Batch]:
    """The same responses; they are kept in `into` as they come."""
    for batch in responses:
        into.append(batch)
        yield batch


def measured(
    lm: LM,
    teacher: LM,
    responses: Iterable[Batch],
    events: EventSpace,
    measure: Divergence,
    advance: Advance,
    bimodal: Bimodal | None = None,
) -> Commitment:
    """What `lm` and the teacher say at every position of the responses."""
    into, seen = Commitment(), 0
    for batch, rollout in responses:
        read = events.read(rollout)
        where = read.student_starts.nonzero()
        for part, (student, target) in chunks(lm, teacher, batch, read, events):
            into.add(student, target, seen + where[part, 0], measure)
            if bimodal is not None:
                bimodal.add(student, target, seen + where[part, 0], where[part, 1])
        seen += len(batch)
        advance(len(batch))
    return into


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
