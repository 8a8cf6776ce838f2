"""What `esr analyze efficiency` prints."""

from rich.table import Table

from esr.cli import show
from esr.records.base import as_text
from esr.records.efficiency import Efficiency, EfficiencyRow


def cells(r: EfficiencyRow, target: float | None) -> list[tuple[str, str, float | None]]:
    """Name, text and number (for the ratio; None: no ratio) of each line of a run's column."""
    lines: list[tuple[str, str, float | None]] = [
        ("N", f"{r.n}", None),
        ("steps", f"{r.steps}", None),
        ("responses a step", f"{r.responses_per_step}", None),
    ]
    lines += [
        ("seconds a step" if phase == "step" else f"  {phase}", as_text(e, "seconds"), e.value)
        for phase, e in r.phases.items()
    ]
    lines += [
        ("tokens generated a step", f"{r.tokens_generated:,.0f}", r.tokens_generated),
        ("tokens scored a step", f"{r.tokens_scored:,.0f}", r.tokens_scored),
        ("tokens trained a step", f"{r.tokens_trained:,.0f}", r.tokens_trained),
        (f"peak memory of the {r.memory_kind}, GiB", f"{r.peak_memory_gib:.2f}", r.peak_memory_gib),
    ]
    if r.curve:
        best = max(r.curve, key=lambda p: p.avg.value)
        lines.append(("best accuracy", f"{as_text(best.avg)} (step {best.step})", None))
        lines.append(("training seconds in all", f"{r.curve[-1].seconds:.1f}", r.curve[-1].seconds))
    if target is not None:
        reached = r.seconds_to_reach
        text = "not reached" if reached is None else f"{reached:.1f}"
        lines.append((f"training seconds to {100 * target:.1f}%", text, reached))
    return lines


def display(record: Efficiency) -> None:
    """One column for each run, and the ratio of the second to the first."""
    table = Table(
        title=f"What training cost on {record.device}; seconds with a 95% interval by step", title_justify="left"
    )
    table.add_column("")
    for r in record.rows:
        table.add_column(r.run, justify="right")
    columns = [cells(r, record.target) for r in record.rows]
    names = list(dict.fromkeys(name for column in columns for name, _, _ in column))
    texts = [{name: text for name, text, _ in column} for column in columns]
    numbers = [{name: number for name, _, number in column} for column in columns]
    compared = len(columns) > 1
    if compared:
        table.add_column(f"{record.rows[1].run} / {record.rows[0].run}", justify="right")
    for name in names:
        first, second = numbers[0].get(name), numbers[1].get(name) if compared else None
        ratio = f"{second / first:.2f}" if first and second is not None else ""
        table.add_row(name, *(t.get(name, "-") for t in texts), *([ratio] if compared else []))
    show.out.print(table)
    if any(record.settings["steps_left_out"].values()):
        show.out.print("Seconds by phase leave out a run's first step.")
    if compared:
        show.out.print(sentence(record), markup=False, soft_wrap=True)


def sentence(record: Efficiency) -> str:
    """The comparison of the first two runs in words."""
    a, b = record.rows[:2]
    ratio = b.phases["step"].value / a.phases["step"].value
    said = f"A step of {b.run} takes {ratio:.2f} times as long as one of {a.run}"
    if record.target is not None and a.seconds_to_reach and b.seconds_to_reach is not None:
        times = b.seconds_to_reach / a.seconds_to_reach
        said += f"; to {100 * record.target:.1f}% accuracy, the best that both reach, {times:.2f} times as long"
    elif record.target is None:
        said += f"; no accuracy to compare at ({record.settings['target']})"
    machines = record.settings["machines"].values()
    other = "" if all(m == next(iter(machines)) for m in machines) else " The runs were made on different machines."
    return f"{said}.{other}"
