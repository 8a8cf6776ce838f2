"""What the page compares: arms of a study, by the roles and lengths that it gives them, and runs, paired by problem."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from esr import intervals
from esr.config.keys import flatten
from esr.records.base import Estimate
from esr.records.evaluation import comparable, grades
from esr.records.study import Arm, Study
from esr.report.sources import Data, Found, Run
from esr.runs.comparing import closer

LENGTH = "rollout.max_new_tokens"
BY = "loss.selection.by"
MARGIN = 0.02
"""A loss of more than this is what "no worse" must rule out."""


EQUAL = {"updates": "updates", "tokens": "generated tokens", "seconds": "training time"}
"""What the arms of a study have in common, by its rule."""
Outcome = Literal["better", "worse", "no worse", "open"]


def outcome(low: float, high: float) -> Outcome:
    """What the 95% interval of a difference says: the one rule by which the page speaks."""
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no worse" if low > -MARGIN else "open"


@dataclass(frozen=True)
class Contest:
    """An early-stopped arm against the arm with the longest rollouts of the same study."""

    study: Found
    early: int
    """Index into `arms`."""
    full: int
    reason: str
    """Why this early-stopped arm and no other: never because of its result."""

    @property
    def arms(self) -> tuple[Arm, Arm]:
        return self.study.record.arms[self.early], self.study.record.arms[self.full]

    @property
    def difference(self) -> str:
        """Pointer to the paired difference early - full; empty if the study compared with another reference."""
        paired = self.arms[0].reference == self.arms[1].name and self.arms[0].difference is not None
        return f"/arms/{self.early}/difference" if paired else ""

    @property
    def gap(self) -> Estimate | None:
        """The paired difference early - full; None if the study compared with another reference."""
        return self.arms[0].difference if self.difference else None

    @property
    def longest(self) -> str:
        """What the arm with the longer rollouts is called: full if the study says so, or if they may be as long as responses in
        the evaluation."""
        full = self.arms[1]
        cap = (flatten(self.study.record.base) | flatten(full.overrides)).get("eval.max_new_tokens")
        reaches = isinstance(cap, int) and full.n >= cap
        return "full rollouts" if full.role == "full" or reaches else "the longest rollouts"


def selection_of(study: Study, arm: Arm) -> str:
    """The selection that an arm trained with."""
    return str(flatten(arm.overrides).get(BY) or flatten(study.base).get(BY) or "all")


def sweep(study: Study) -> list[int]:
    """Arms that differ from each other in N alone, by N: the largest such group; empty if none has two lengths."""
    return max(sweeps(study), key=lambda group: len({study.arms[i].n for i in group}), default=[])


def sweeps(study: Study) -> list[list[int]]:
    """All groups of arms that differ in N alone and have two lengths or more, each by N."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, arm in enumerate(study.arms):
        rest = {k: v for k, v in flatten(arm.overrides).items() if k != LENGTH and not k.startswith(("eval.", "run."))}
        groups[arm.student, arm.teacher_model, repr(sorted(rest.items()))].append(i)
    several = [group for group in groups.values() if len({study.arms[i].n for i in group}) > 1]
    return [sorted(group, key=lambda i: study.arms[i].n) for group in several]


def selections(study: Study) -> list[int]:
    """Arms with a selection of their own, and those beside them that train on all positions of what they write."""
    chosen = [arm for arm in study.arms if selection_of(study, arm) != "all"]
    return list(range(len(study.arms))) if len(chosen) > 1 else []


def stops_early(study: Study, arm: Arm) -> bool:
    """Whether an arm among selections writes less than the others, instead of selecting."""
    return selection_of(study, arm) == "all" and arm.n < max(other.n for other in study.arms)


def full_of(study: Study, group: list[int]) -> int:
    """The arm whose role is full, or else the one with the longest rollouts."""
    named = [i for i in group if study.arms[i].role == "full"]
    return max(named or group, key=lambda i: study.arms[i].n)


def contests(data: Data) -> list[Contest]:
    """The comparisons that verdicts are about, largest sweep first within a study; the same pair and lengths once."""
    found: dict[Any, Contest] = {}
    for record in data.studies:
        arms = record.record.arms
        for group in sorted(sweeps(record.record), key=len, reverse=True):
            full = full_of(record.record, group)
            early = [i for i in group if arms[i].n < arms[full].n]
            if early:
                match = _choose(record, early, full, data)
                ours, theirs = match.arms
                found.setdefault(
                    (ours.student, ours.teacher_model, record.record.task, ours.n, theirs.n, record.record.rule), match
                )
    return list(found.values())


def _choose(found: Found, early: list[int], full: int, data: Data) -> Contest:
    arms, lengths = found.record.arms, {run.config.rollout.max_new_tokens for run in data.runs}
    if len(early) == 1:
        return Contest(found, early[0], full, "the only early-stopped arm")
    for i in early:
        if arms[i].role == "early":
            return Contest(found, i, full, "the arm that the study names as early-stopped")
    for i in early:
        if arms[i].n in lengths:
            return Contest(found, i, full, "the arm with the N of the run on this page")
    return Contest(found, early[len(early) // 2], full, "the middle of the early-stopped arms")


@dataclass(frozen=True)
class Paired:
    """Two evaluations on the same problems: `value` is the first minus the second."""

    value: Estimate
    rule: str
    """How it is computed, for `data-derived`."""


def compared(run: Run, found: Found | None, other: Run, reference: Found | None) -> Paired | None:
    """Paired by problem; None without both, or without a problem that both graded."""
    if found is None or reference is None or not comparable(found.record, reference.record):
        return None
    sides = [grades(r.responses(f.record.name)) for r, f in ((run, found), (other, reference))]
    if not sides[0].keys() & sides[1].keys():
        return None
    names = [f"{r.label}/evals/{f.record.name}.jsonl" for r, f in ((run, found), (other, reference))]
    return Paired(intervals.paired_difference(*sides), "paired_difference | " + " | ".join(names))


def gained(run: Run) -> Paired | None:
    """After minus before."""
    return compared(run, run.evaluation("after"), run, run.evaluation("before"))


def moved(run: Run) -> dict[str, Paired]:
    """After minus before of each measure of a task without references."""
    found = [run.evaluation(model) for model in ("after", "before")]
    if not all(f is not None and f.record.closeness for f in found):
        return {}
    names = [f.record.name for f in found if f]
    files = " | ".join(f"{run.label}/evals/{name}.jsonl" for name in names)
    change = closer(*map(run.responses, names))
    return {name: Paired(value, f"paired_change {name} | {files}") for name, value in change.items()}


def rivals(data: Data) -> tuple[Run, Run, Paired] | None:
    """The first run, and the run of the same pair and task with the longest rollouts, if those are longer."""
    if not data.runs:
        return None
    run = data.runs[0]
    longer = [
        other
        for other in data.runs[1:]
        if other.config.rollout.max_new_tokens > run.config.rollout.max_new_tokens
        and (other.config.student.model, other.config.teacher.model)
        == (run.config.student.model, run.config.teacher.model)
    ]
    for other in sorted(longer, key=lambda r: -r.config.rollout.max_new_tokens):
        pair = compared(run, run.evaluation("after"), other, other.evaluation("after"))
        if pair is not None:
            return run, other, pair
    return None
