"""What `esr analyze decay` prints."""

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.decay import Decay, DecaySeries, Recommendation


def display(record: Decay) -> None:
    """The teacher after the student's prefixes, the two controls, and the recommendation."""
    found = {(s.prefix, s.continued_by, s.subset): s for s in record.series}
    main = found["student", "teacher", "all"]
    table = Table(
        title=f"The teacher continues the student's first k tokens; {record.task}: {record.problems} problems x "
        f"{record.samples}; percent [95% interval]",
        title_justify="left",
    )
    for name in ("k", "continued", "finished", "accuracy", "change, paired"):
        table.add_column(name, justify="right")
    for name in ("right", "wrong"):
        table.add_column(f"change, {name} responses", justify="right")
    split = [found["student", "teacher", "right"], found["student", "teacher", "wrong"]]
    for i, p in enumerate(main.points):
        changes = [as_text(s.points[i].change, sign=True) for s in (main, *split)]
        table.add_row(str(p.k), str(p.continued), str(p.finished), as_text(p.avg), *changes)
    show.out.print(table)
    controls(main, found["student", "student", "all"], found["teacher", "student", "all"])
    show.out.print(advice(record.recommendation), markup=False, soft_wrap=True)


def controls(main: DecaySeries, own: DecaySeries, reverse: DecaySeries) -> None:
    """Finished prefixes included, and the student after its own and after the teacher's prefixes."""
    table = Table(title="For comparison", title_justify="left")
    table.add_column("k", justify="right")
    for name in ("teacher, finished prefixes included", "student continues its own", "student continues the teacher's"):
        table.add_column(name, justify="right")
    for p, q, r in zip(main.points, own.points, reverse.points, strict=True):
        table.add_row(str(p.k), as_text(p.with_finished), as_text(q.avg), as_text(r.avg))
    show.out.print(table)


def advice(found: Recommendation) -> str:
    """The recommendation in words."""
    points = f"{100 * found.margin:g} points"
    if found.at_most is not None:
        first = f"A loss is certain from {found.at_most} tokens on"
        first += f"; the longest prefix without one is {found.n}." if found.n else ", the shortest prefix measured."
    else:
        first = f"No certain loss up to {found.n} tokens." if found.n else "Too few prefixes go on to say anything."
    surely = f"up to {found.surely} tokens" if found.surely else "at no measured length: more problems narrow it down"
    return f"{first} A loss of more than {points} can be ruled out {surely}."
