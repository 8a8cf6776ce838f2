"""What `esr analyze prefix-swap` prints."""

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.prefix_swap import PrefixSwap


def display(record: PrefixSwap) -> None:
    """The four conditions, and the share of the gain that the prefix brings."""
    table = Table(
        title=f"{record.task}: {record.problems} problems x {record.samples}; percent [95% interval]",
        title_justify="left",
    )
    for name in (f"first {record.n} tokens", "the rest"):
        table.add_column(name)
    for name in ("accuracy", "change, paired"):
        table.add_column(name, justify="right")
    for c in record.conditions:
        table.add_row(c.prefix, c.tail, as_text(c.avg), as_text(c.change, sign=True))
    show.out.print(table)
    ended = ", ".join(f"{count} of {side}" for side, count in record.finished.items())
    show.out.print(f"Finished within {record.n} tokens, and graded as they are: {ended}.")
    if record.share_in_prefix is None:
        show.out.print("The trained student's gain is not certain to be above zero, so there is no share to tell.")
    else:
        show.out.print(f"The prefix alone brings {100 * record.share_in_prefix:.0f}% of the gain.")
