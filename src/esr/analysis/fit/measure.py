"""The check: probe, pilots, verdict; and while a budget lasts, more problems where the verdict is least certain."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from esr import intervals, tasks
from esr.analysis.continuation import Graded, own_grades
from esr.analysis.fit import pilots
from esr.analysis.fit.check import Check, begin
from esr.analysis.fit.probe import decay, probe
from esr.analysis.fit.reach import at_the_end
from esr.analysis.fit.spending import Counts, another_block, spent
from esr.analysis.fit.verdict import SIDES, WORTH, judge
from esr.analysis.subject import Subject
from esr.console import progress
from esr.prepare import Prepared, prepare
from esr.ranks import here
from esr.records.base import Estimate
from esr.records.fit import Fit, FitSettings, Pilot
from esr.runs.checked import trained_with


@dataclass(frozen=True)
class Measured:
    """Grades so far."""

    student: Graded
    teacher: Graded
    pilots: Mapping[int, pilots.PilotGrades]
    """By N."""

    @property
    def gap(self) -> Estimate:
        return intervals.paired_difference(self.teacher, self.student)


def compute(subject: Subject, settings: FitSettings) -> Fit:
    """The record. Raises `UserError` for whatever a run would be refused for, and `TooLarge` if the device cannot hold it."""
    ours = here()
    plan = ours.together(lambda: prepared(subject))
    check, apart = begin(subject, settings)
    probed = probe(check)
    counts: Counts = {SIDES: check.block}
    found = measured(check, counts, Measured({}, {}, {}))
    full, tried = None, []
    if check.steps and found.gap.high >= WORTH:
        full = pilots.train(check, plan)
        first = dict.fromkeys(check.lengths, check.block)
        found, counts = measured(check, first, found), {**counts, **first}
        tried = records(check, found)
    while more := another_block(check, counts, found.gap, tried):
        grown = {key: count for key, count in more.items() if count > counts[key]}
        found, counts = measured(check, grown, found), more
        tried = records(check, found)
    followed = decay(check)
    seconds = ours.of_first(spent(check))  # all have read by then what rank 0 deletes
    if ours.first:
        shutil.rmtree(check.folder().path, ignore_errors=True)
    return Fit(
        models=subject.references("student", "teacher"),
        task=tasks.describe(check.how),
        problems=counts[SIDES],
        apart=apart,
        settings={
            **settings.model_dump(),
            "pilot": check.steps,
            **check.how.settings(),
            "config": trained_with(subject.config),
        },
        seconds=seconds,
        student=intervals.accuracy(list(found.student.values())),
        teacher=intervals.accuracy(list(found.teacher.values())),
        gap=found.gap,
        decay=followed,
        full=full,
        pilots=tried,
        verdict=judge(found.gap, probed["reach"], tried, full),
        **probed,
    )


def prepared(subject: Subject) -> Prepared:
    """What a run of this configuration begins with. Raises `TooLarge` if the device cannot hold it."""
    plan = prepare(subject.config)
    if plan.budget:
        plan.budget.require()
    return plan


def measured(check: Check, counts: Counts, known: Measured) -> Measured:
    """What is known, with student and teacher, or pilots, all on as many problems, measured as `counts` says."""
    student, teacher = sides(check, counts[SIDES]) if SIDES in counts else (known.student, known.teacher)
    lengths = [n for n in counts if n != SIDES]
    fresh = pilots.measure(check, lengths, max(counts.values())) if lengths else {}
    return Measured(student, teacher, {**known.pilots, **fresh})


def sides(check: Check, count: int) -> tuple[Graded, Graded]:
    """Student and teacher on the first `count` problems."""
    with progress("Student and teacher", 2 * count, "response") as advance:
        work = check.work(count, advance)
        student, teacher = check.own(work, "student"), check.own(work, "teacher")
    return own_grades(student, check.problems), own_grades(teacher, check.problems)


def records(check: Check, found: Measured) -> list[Pilot]:
    """Each pilot in figures, by ascending N."""
    return [pilot(check, n, found) for n in sorted(found.pilots)]


def pilot(check: Check, n: int, found: Measured) -> Pilot:
    """One pilot in figures."""
    own, passed, reach = found.pilots[n]
    return Pilot(
        n=n,
        steps=check.steps,
        last=intervals.accuracy(list(own.values())),
        gain=intervals.paired_difference(own, found.student),
        after=intervals.paired_difference(passed, own),
        within=intervals.paired_difference(found.teacher, passed),
        end=at_the_end(found.student, found.teacher, own, passed, reach),
        cost=pilots.cost(check, n),
    )
