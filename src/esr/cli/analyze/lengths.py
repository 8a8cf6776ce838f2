"""What `esr analyze lengths` prints."""

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.lengths import Lengths


def display(record: Lengths) -> None:
    """One row for each model."""
    table = Table(
        title=f"Response lengths in tokens [95% interval by problem]; {record.problems} problems of {record.task}, cap "
        f"{record.max_new_tokens}",
        title_justify="left",
    )
    for name in ("model", "responses", "finished, %", "p10", "p50", "p90", "mean"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for r in record.rows:
        quantiles = [as_text(e, "tokens") for e in (r.p10, r.p50, r.p90, r.mean)]
        table.add_row(r.model, f"{r.responses}", as_text(r.finish_rate), *quantiles)
    show.out.print(table)
    where = "evaluations" if record.settings["from"] == "evaluations" else "responses sampled for this"
    show.out.print(f"From {where}; responses that the cap cut count with their {record.max_new_tokens} tokens.")
