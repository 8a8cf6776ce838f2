"""Where the divergence lies by position, and what training changed inside and beyond its window.

The paper draws this ("cascading alignment") from each model's own responses and from log-probability gaps of sampled
tokens; `protocol="paper"` does the same. Otherwise it is the exact divergence, on the same fixed responses for both
models as well as on each model's own.
"""

import time
from collections.abc import Sequence

from esr import intervals
from esr.analysis.responses import Scored, choices, one_each, score, shared, training_sampler
from esr.analysis.subject import Subject
from esr.console import progress
from esr.method.metrics import BIN_EDGES
from esr.records.base import Estimate
from esr.records.problem import Problem
from esr.records.profile import Curve, PositionBin, Profile, ProfileSettings
from esr.sampling.sampler import Sampler

FEW = 10
"""A bin that fewer responses reach is marked (`PositionBin.few`)."""
FIRST = (10, 25, 50, 100, 200)
"""Windows of `Profile.share_first`."""


def compute(subject: Subject, settings: ProfileSettings) -> Profile:
    """The profile over held-out prompts, one response each.

    Without a trained student there is one curve, `before`. `paper` leaves out the common responses.
    """
    start, n, common = time.perf_counter(), subject.n, settings.protocol == "ours"
    problems, task = subject.held_out(settings.problems)
    before, after, teacher, events = subject.before, subject.after, subject.teacher, subject.events
    how = sampler(subject, settings)

    def measure(batch: Sequence[Problem]) -> tuple[list[Scored], ...]:
        written = one_each(before, batch, how, settings.seed)
        first = [score(before, teacher, batch, written, events)]
        if after is None:
            return first, [], []
        moved = [score(after, teacher, batch, written, events)] if common else []
        return first, moved, [score(after, teacher, batch, one_each(after, batch, how, settings.seed), events)]

    with progress("Profile", len(problems), "problem") as advance:
        measured = list(shared(problems, measure, advance))
    first, moved, own = ([scored for made in measured for scored in made[i]] for i in range(3))
    return Profile(
        models=subject.references(),
        task=task,
        problems=len(problems),
        settings=choices(subject, how, settings.seed),
        protocol=settings.protocol,
        step=subject.step,
        trained_window=n,
        prompts=task,
        max_new_tokens=how.max_new_tokens,
        seed=settings.seed,
        curves=curves(first, moved, own, common),
        inside=change(first, moved, 0, n),
        beyond=change(first, moved, n, None),
        share_first=share_first(first),
        first_to_rest=first_to_rest(first, n),
        seconds=round(time.perf_counter() - start, 1),
    )


def sampler(subject: Subject, settings: ProfileSettings) -> Sampler:
    """As in training; `paper` is temperature 0.7 without a nucleus, as in the authors' `kl_analysis_v3.py`."""
    if settings.protocol == "paper":
        return Sampler(settings.max_new_tokens, subject.pair.terminators, temperature=0.7, top_p=1.0)
    return training_sampler(subject, settings.max_new_tokens)


def curves(first: Sequence[Scored], moved: Sequence[Scored], own: Sequence[Scored], shared: bool) -> list[Curve]:
    """The untrained student's curve (its responses are both its own and the common ones), then the trained one's."""
    before = bins(first)
    found = [Curve(model="before", trajectories="common", bins=before)] if shared else []
    if own or not shared:
        found.append(Curve(model="before", trajectories="own", bins=before))
    if moved:
        found.append(Curve(model="after", trajectories="common", bins=bins(moved)))
    if own:
        found.append(Curve(model="after", trajectories="own", bins=bins(own)))
    return found


def response_means(parts: Sequence[Scored], field: str, start: int, end: int | None) -> list[float | None]:
    """Each response's mean of a statistic over the positions [start, end); None if it is too short."""
    means: list[float | None] = []
    for part in parts:
        values, mask = part.values(field)[:, start:end], part.mask[:, start:end]
        for row, inside in zip(values, mask, strict=True):
            means.append(float(row[inside].mean()) if bool(inside.any()) else None)
    return means


def bins(parts: Sequence[Scored]) -> list[PositionBin]:
    """The bins that at least two responses reach."""
    out = []
    for start, end in zip(BIN_EDGES, [*BIN_EDGES[1:], None], strict=True):

        def mean(field: str, start: int = start, end: int | None = end) -> Estimate:
            return intervals.mean([v for v in response_means(parts, field, start, end) if v is not None])

        reached = sum(int(p.mask[:, start:end].any(1).sum()) for p in parts)
        if reached < 2:
            continue
        out.append(
            PositionBin(
                start=start,
                end=end,
                tokens=sum(int(p.mask[:, start:end].sum()) for p in parts),
                responses=reached,
                reverse_kl=mean("reverse_kl"),
                forward_kl=mean("divergence"),
                student_entropy=mean("student_entropy").value,
                teacher_entropy=mean("teacher_entropy").value,
                agreement=mean("agreement").value,
                top_k_overlap=mean("overlap").value,
                sampled_gap=mean("gap").value,
                few=reached < FEW,
            )
        )
    return out


def change(before: Sequence[Scored], after: Sequence[Scored], start: int, end: int | None) -> Estimate | None:
    """Mean change of the reverse KL over [start, end) on the same responses; None if fewer than two get there."""
    if not after:
        return None
    sides = (response_means(side, "reverse_kl", start, end) for side in (before, after))
    moved = [a - b for b, a in zip(*sides, strict=True) if a is not None and b is not None]
    return intervals.mean(moved) if len(moved) > 1 else None


def summed(parts: Sequence[Scored], start: int, end: int | None) -> tuple[float, int]:
    """Reverse KL summed over all real positions in [start, end), nats, and their number."""
    kept = [p.values("reverse_kl")[:, start:end][p.mask[:, start:end]] for p in parts]
    return float(sum(k.double().sum() for k in kept)), sum(k.numel() for k in kept)


def share_first(parts: Sequence[Scored]) -> dict[str, float]:
    """Share of the summed reverse KL in the first n positions, n as in `FIRST`; empty if there is no divergence at all."""
    total, tokens = summed(parts, 0, None)
    if total <= 1e-6 * tokens:
        return {}
    return {str(n): summed(parts, 0, n)[0] / total for n in FIRST}


def first_to_rest(parts: Sequence[Scored], n: int) -> float | None:
    """Mean reverse KL of the first `n` positions over the mean of all later ones, by position; None without later ones."""
    (head_sum, head_count), (rest_sum, rest_count) = summed(parts, 0, n), summed(parts, n, None)
    if rest_count == 0 or rest_sum <= 1e-6 * rest_count:
        return None
    return (head_sum / head_count) / (rest_sum / rest_count)
