"""What `esr analyze submode` prints."""

from rich.table import Table
from rich.text import Text

from esr.cli import show
from esr.records.base import as_text
from esr.records.submode import Candidate, SubMode


def display(record: SubMode) -> None:
    """One row for each model, then the bimodal positions of the largest divergence."""
    title = (
        f"The tenth of positions with the largest {record.divergence.replace('_kl', ' KL')} from the teacher "
        f"({record.trajectories} responses, "
        f"{record.decile} tenth), percent [95% interval by response]; {record.problems} prompts of {record.task}"
    )
    table = Table(title=title, title_justify="left")
    names = ("model", "positions", "from, nats", "own top-1 probability", "teacher's 1st", "2nd to 5th", "beyond")
    for name in names:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in record.rows:
        cells = [as_text(e) for e in (row.top1, row.rank_1, row.rank_2_5, row.rank_beyond)]
        table.add_row(row.model, f"{row.positions:,}", f"{row.threshold:.3f}", *cells)
    show.out.print(table)
    share = record.bimodal_share
    said = "The untrained student has no position to look for two modes at"
    if share is not None:
        said = f"The teacher has two modes at {100 * share:.2f}% of the untrained student's positions"
    show.out.print(f"{said}.")
    if record.bimodal:
        show.out.print(bimodal_table(record))


def bimodal_table(record: SubMode) -> Table:
    """The first of them: what comes before, and the teacher's two modes with each model's probability."""
    models = ["teacher", "before", *(["after"] if record.bimodal[0].after else [])]
    table = Table(
        title="Two modes, by reverse KL: probability of both under " + ", ".join(models), title_justify="left"
    )
    for name in ("KL, nats", "position", "context", "first mode", "second mode"):
        table.add_column(name, justify="right" if name in ("KL, nats", "position") else "left")
    for found in record.bimodal[:8]:
        trained: list[Candidate | None] = [*found.after] or [None] * len(found.candidates)
        modes = [
            f"{c.token!r} {c.teacher:.2f}, {c.student:.2f}" + (f", {a.student:.2f}" if a else "")
            for c, a in list(zip(found.candidates, trained, strict=True))[:2]
        ]
        context = Text(repr(found.context[-24:]))
        table.add_row(f"{found.reverse_kl:.2f}", str(found.position), context, *map(Text, modes))
    return table
