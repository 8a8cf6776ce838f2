"""What `esr analyze selection` prints."""

from rich.table import Table
from rich.text import Text

from esr.cli import show
from esr.records.base import as_text
from esr.records.selection import SelectionShares


def display(record: SelectionShares) -> None:
    """One row for each selection."""
    k, longer = record.settings["k"], record.settings["responses_longer_than_k"]
    title = (
        f"Reverse KL (nats) kept at K = {k} positions of {record.responses} responses to {record.task}; "
        f"{longer} are longer than K"
    )
    table = Table(title=title, title_justify="left")
    for name in ("selection", "share of KL, %", "mean KL", "position", "in first K", "often kept"):
        left = name in ("selection", "often kept")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "selection")
    for row in record.selections:
        often = " ".join(repr(t.token)[1:-1] for t in row.tokens[:6])
        shared = "-" if row.by == "first" else f"{100 * row.overlap['first']:.0f}%"
        cells = as_text(row.share_of_kl), f"{row.mean_kl:.3f}", f"{row.mean_position:.0f}", shared
        table.add_row(row.by, *cells, Text(often))
    show.out.print(table)
    if not longer:
        show.out.print("No response is longer than K, so every selection keeps everything; choose a smaller --k.")
