"""Which arms of a study can be compared, and which of them are ESR and full rollouts."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from esr.report.data import Data, Found
from esr.results import Arm, Study
from esr.rundir import flatten

LENGTH = "rollout.max_new_tokens"
BY = "loss.selection.by"
MARGIN = 0.02
"""A loss of more than this is what "no worse" must rule out."""


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
        paired = self.study.record.reference == self.arms[1].name and self.arms[0].difference is not None
        return f"/arms/{self.early}/difference" if paired else ""


def selection_of(study: Study, arm: Arm) -> str:
    """The selection that an arm trained with."""
    return str(flatten(arm.overrides).get(BY) or flatten(study.base).get(BY) or "all")


def sweep(study: Study) -> list[int]:
    """Arms that differ from each other in N alone, by N: the largest such group; empty if none has two lengths."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, arm in enumerate(study.arms):
        rest = {k: v for k, v in flatten(arm.overrides).items() if k != LENGTH}
        groups[arm.student, arm.teacher_model, repr(sorted(rest.items()))].append(i)
    best = max(groups.values(), key=lambda group: len({study.arms[i].n for i in group}), default=[])
    return sorted(best, key=lambda i: study.arms[i].n) if len({study.arms[i].n for i in best}) > 1 else []


def selections(study: Study) -> list[int]:
    """Arms with a selection of their own, and those of the same length that train on all positions."""
    chosen = [i for i, arm in enumerate(study.arms) if selection_of(study, arm) != "all"]
    longest = {study.arms[i].n for i in chosen}
    return [i for i, arm in enumerate(study.arms) if i in chosen or arm.n in longest] if len(chosen) > 1 else []


def full_of(study: Study, group: list[int]) -> int:
    """The arm named full, or else the one with the longest rollouts."""
    named = [i for i in group if "full" in study.arms[i].name.lower()]
    return max(named or group, key=lambda i: study.arms[i].n)


def contest(data: Data) -> Contest | None:
    """The comparison that the verdict is about, of the first study that has one."""
    for found in data.studies:
        group = sweep(found.record)
        if group:
            full = full_of(found.record, group)
            early = [i for i in group if found.record.arms[i].n < found.record.arms[full].n]
            if early:
                return _choose(found, early, full, data)
    return None


def _choose(found: Found, early: list[int], full: int, data: Data) -> Contest:
    arms, lengths = found.record.arms, {run.config.rollout.max_new_tokens for run in data.runs}
    if len(early) == 1:
        return Contest(found, early[0], full, "the only early-stopped arm")
    for i in early:
        if arms[i].name.lower().split("-")[0] == "esr":
            return Contest(found, i, full, "the arm that the study names ESR")
    for i in early:
        if arms[i].n in lengths:
            return Contest(found, i, full, "the arm with the N of the run on this page")
    return Contest(found, early[len(early) // 2], full, "the middle of the early-stopped arms")
