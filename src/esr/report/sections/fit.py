"""Does it fit? The check before training: one picture of the gap and of what N reaches."""

from typing import Any

from markupsafe import Markup

from esr.report import bars
from esr.report.figure import BY_PROBLEM, Figure, Table, source_line
from esr.report.format import NONE, datum, estimate, points, round_pct, spoken, where
from esr.report.scales import Axis
from esr.report.section import Section
from esr.report.sources import Data, Found, Run

TITLE = "Does it fit?"


def view(data: Data) -> Section:
    """One part for each run or pair that was checked."""
    checks = [_check(run, found) for run, found in data.all("fit")]
    if not checks:
        why = "Whether ESR fits this pair was not checked before training."
        return Section("fit", TITLE, missing=why, commands=(data.command("fit"),))
    return Section("fit", TITLE, "fit.html", {"checks": checks})


def _check(run: Run, found: Found) -> dict[str, Any]:
    verdict = found.record.verdict
    return {
        "label": run.label,
        "answer": verdict.answer,
        "reasons": verdict.reasons,
        "better": verdict.better,
        "n": datum(found, "/verdict/n", "count") if verdict.n else None,
        "expected": estimate(found, "/verdict/end/accuracy") if verdict.end else None,
        "gap": estimate(found, "/gap", "points"),
        "student": estimate(found, "/student"),
        "teacher": estimate(found, "/teacher"),
        "faster": datum(found, "/verdict/faster", "times") if verdict.faster else None,
        "smaller": datum(found, "/verdict/smaller", "times"),
        "apart": found.record.apart,
        "figure": _figure(found) if found.record.pilots else None,
        "probe": _probe(found),
    }


def _figure(found: Found) -> Figure:
    """A bar for each N from nothing to the teacher: the student, what lies within reach of N, and what after it."""
    pilots = found.record.pilots
    rows = [bars.Bar(f"N = {p.n}", _parts(found, i), f"{p.cost.seconds:.3g} s") for i, p in enumerate(pilots)]
    longest = max(sum(part[2] for part in row.parts) for row in rows)
    chart = bars.bars(
        "The teacher's accuracy, split into the student's, what lies within reach of N, and what lies after it",
        rows,
        Axis("accuracy", 0, max(longest, 0.01), round_pct),
    )
    table = [_row(found, f"/pilots/{i}") for i in range(len(pilots))]
    if found.record.full:
        length, cost = (datum(found, f"/full/{key}", form) for key, form in (("n", "count"), ("seconds", "seconds")))
        table.append((Markup("full, N = {}").format(length), *[NONE] * 6, cost))
    columns = (
        "",
        "pilot reached",
        "left within N",
        "after N",
        "expected",
        "gain, points",
        "then left after N",
        "a step",
    )
    return Figure(
        chart,
        columns,
        table,
        source_line(found, "/problems", "problems", BY_PROBLEM),
        "What the teacher has over the student: what lies within reach of N, and what lies after it. "
        "Beside each bar: the seconds of a training step. Negative parts are not drawn.",
    )


def _row(found: Found, at: str) -> tuple[Markup, ...]:
    return (
        Markup("N = {}").format(datum(found, f"{at}/n", "count")),
        estimate(found, f"{at}/last"),
        estimate(found, f"{at}/within", "points"),
        estimate(found, f"{at}/after", "points"),
        estimate(found, f"{at}/end/accuracy"),
        estimate(found, f"{at}/end/gain", "points"),
        estimate(found, f"{at}/end/after", "points"),
        datum(found, f"{at}/cost/seconds", "seconds"),
    )


def _parts(found: Found, i: int) -> list[tuple[str, str, float, str, str]]:
    record, end, at = found.record, found.record.pilots[i].end, f"/pilots/{i}/end"
    n = found.record.pilots[i].n
    values = (
        ("student", "c1", record.student, spoken(record.student), "/student/value"),
        ("within reach of N", "c2", end.gain, points(end.gain.value), f"{at}/gain/value"),
        ("after N: longer rollouts", "c3", end.after, points(end.after.value), f"{at}/after/value"),
    )
    return [
        (name, colour, e.value, f"N = {n}, {name}: {said}", where(found, pointer))
        for name, colour, e, said, pointer in values
        if e.value > 0
    ]


def _probe(found: Found) -> Table:
    rows = [
        (
            datum(found, f"/decay/{i}/k", "count"),
            estimate(found, f"/decay/{i}/avg"),
            estimate(found, f"/decay/{i}/gain", "points"),
            estimate(found, f"/reach/{i}/avg"),
            estimate(found, f"/reach/{i}/gain", "points"),
        )
        for i in range(len(found.record.decay))
    ]
    columns = ("k", "teacher after the student's k tokens", "change", "student after the teacher's k tokens", "change")
    return Table(columns, rows, "The probe: nothing is trained")
