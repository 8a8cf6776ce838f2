"""What `esr check` and `esr analyze fit` print."""

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.fit import Fit, FitVerdict


def display(record: Fit) -> None:
    """Probe, pilots, verdict."""
    where = "apart from the evaluation's" if record.apart else "the evaluation's own"
    show.out.print(
        f"{record.task}: {record.problems} problems, {where}, one response each; percent [95% interval by problem].\n"
        f"Student {record.student.text()}, teacher {record.teacher.text()}, gap {record.gap.text(sign=True)}.",
        soft_wrap=True,
    )
    probe(record)
    if record.pilots:
        pilots(record)
    verdict(record.verdict)


def probe(record: Fit) -> None:
    """One row for each k: who goes on after whom, and the share of the divergence before it."""
    table = Table(title="Probe, nothing trained", title_justify="left")
    for name in (
        "k",
        "teacher after the student's k",
        "change",
        "student after the teacher's k",
        "change",
        "divergence in k",
    ):
        table.add_column(name, justify="right")
    for d, r in zip(record.decay, record.reach, strict=True):
        share = record.share_first.get(str(d.k))
        table.add_row(
            str(d.k),
            as_text(d.avg),
            as_text(d.gain, sign=True),
            as_text(r.avg),
            as_text(r.gain, sign=True),
            "-" if share is None else f"{100 * share:.0f}%",
        )
    show.out.print(table)


def pilots(record: Fit) -> None:
    """One row for each N."""
    table = Table(title=f"Pilots of {record.pilots[0].steps} steps", title_justify="left")
    for name in ("N", "reached", "left within N", "after N", "expected", "s a step", "GiB"):
        table.add_column(name, justify="right")
    for p in record.pilots:
        table.add_row(
            str(p.n),
            as_text(p.last),
            as_text(p.within, sign=True),
            as_text(p.after, sign=True),
            as_text(p.end.accuracy),
            f"{p.cost.seconds:.2f}",
            f"{p.cost.peak_gib:.2f}",
        )
    if full := record.full:
        table.add_row("full", *["-"] * 4, f"{full.seconds:.2f}", f"{full.peak_gib:.2f}")
    show.out.print(table)


def verdict(found: FitVerdict) -> None:
    """In plain words, each with its number."""
    n = f" Recommended: N = {found.n}, expected accuracy {found.end.accuracy.text()}." if found.end else ""
    show.out.print(f"ESR: {found.answer}.{n}", soft_wrap=True)
    for reason in found.reasons:
        show.out.print(reason, soft_wrap=True)
    if found.faster and found.smaller:
        show.out.print(
            f"A step with full rollouts takes {found.faster:.1f} times as long, with {found.smaller:.1f} times the memory.",
            soft_wrap=True,
        )
    if found.better:
        show.out.print(f"{'Then' if found.answer == 'fits' else 'Better'}: {found.better}.", soft_wrap=True)
