"""What `esr analyze profile` prints."""

from collections.abc import Callable

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.profile import Curve, PositionBin, Profile


def value(found: PositionBin | None, protocol: str) -> str:
    """A bin's cell; `*` marks one that few responses reach."""
    if found is None:
        return "-"
    text = as_text(found.reverse_kl, "nats") if protocol == "ours" else f"{found.sampled_gap:.3f}"
    return text + ("*" if found.few else "")


def shown(record: Profile) -> list[Curve]:
    """The curves to print: the untrained student's own responses are the common ones."""
    ours = record.protocol == "ours"
    return [c for c in record.curves if not ours or (c.model, c.trajectories) != ("before", "own")]


def by_bin(curves: list[Curve]) -> list[tuple[str, list[PositionBin | None]]]:
    """Each bin's positions, and what every curve has there."""
    longest = max((c.bins for c in curves), key=len)
    return [
        (
            f"{b.start}-{b.end - 1 if b.end else ''}",
            [next((x for x in c.bins if x.start == b.start), None) for c in curves],
        )
        for b in longest
    ]


def display(record: Profile) -> None:
    """Reverse KL (`paper`: the sampled gap) by bin for each curve; what else the bins tell; a summary in sentences."""
    ours, curves = record.protocol == "ours", shown(record)
    what = "Reverse KL" if ours else "Mean |log p_student - log p_teacher| of the sampled token"
    by = " [95% interval by response]" if ours else ""
    main = Table(
        title=f"{what} by position, nats{by}; {record.problems} held-out prompts of {record.prompts}",
        title_justify="left",
    )
    more = Table(
        title="The same positions" + ", in the order of the columns above" * (len(curves) > 1), title_justify="left"
    )
    for table in (main, more):
        table.add_column("positions")
    for curve in curves:
        main.add_column(f"{curve.model}, {curve.trajectories} responses", justify="right")
    for name in ("same first choice, %", "overlap of the top 8, %", "tokens", "responses"):
        more.add_column(name, justify="right")
    for positions, found in by_bin(curves):
        main.add_row(positions, *(value(b, record.protocol) for b in found))
        shares = (side_by_side(found, f, lambda v: f"{100 * v:.0f}") for f in ("agreement", "top_k_overlap"))
        more.add_row(positions, *shares, *(side_by_side(found, f, "{:,}".format) for f in ("tokens", "responses")))
    show.out.print(main)
    show.out.print(more)
    for line in notes(record, any(b.few for c in curves for b in c.bins)):
        show.out.print(line, markup=False, soft_wrap=True)


def side_by_side(bins: list[PositionBin | None], field: str, text: Callable[[float], str]) -> str:
    """A field of each curve's bin: `78 / 85`."""
    values = [None if b is None else getattr(b, field) for b in bins]
    return " / ".join("-" if v is None else text(v) for v in values)


def notes(record: Profile, few: bool) -> list[str]:
    """What the tables say, in sentences."""
    n, said = record.trained_window, []
    if few:
        said.append("* Fewer than 10 responses get this far: no trend should be read into it.")
    if record.inside or record.beyond:
        change = f"first {n} positions {as_text(record.inside, 'nats')}; beyond {as_text(record.beyond, 'nats')}"
        said.append(f"Change on common responses: {change}.")
    if record.share_first:
        shares = ", ".join(f"{100 * share:.0f}% in the first {k}" for k, share in record.share_first.items())
        said.append(f"Of the untrained student's summed reverse KL lie {shares} positions.")
        ratio = record.first_to_rest
        said.append(
            f"Its mean over the first {n} positions is {ratio:.2f} times the mean of the rest."
            if ratio is not None
            else f"Its responses have nothing beyond the first {n} positions to compare those with."
        )
    return said
