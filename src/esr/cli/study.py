"""`esr study`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.console import duration, say
from esr.errors import UserError
from esr.records.base import as_text
from esr.records.study import NOT_RUN, ArmSeed, Study
from esr.runs.files import read_record, writable, write_json
from esr.runs.lock import locked
from esr.runs.places import study_directory, study_record


def study(
    file: Annotated[
        Path, typer.Argument(help="Study file: arms, seeds, and what they are to be compared by.", show_default=False)
    ],
    parallel: Annotated[
        int, typer.Option(min=1, help="Runs at once; the processor's cores are dealt out to them.")
    ] = 1,
    record: Annotated[Path | None, typer.Option(help="Write the record here too, besides `RUNS/study.json`.")] = None,
    table_only: Annotated[
        bool, typer.Option("--table", help="Run nothing, write nothing; show what is there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Run arms x seeds and compare them. The same command again goes on; finished runs are never run again.

    Example: `esr study studies/lab/main.yaml --parallel 2`
    """
    from esr.study import plan as plans
    from esr.study import result, work

    plan = plans.read(file)
    if record:
        require_place(record)
    target, kept = study_directory(plan.name), study_record(plan.name)
    command = f"esr study {file}"
    if table_only:
        outcome, failed = result.record(plan, {}, command), {}
    else:
        with writable(target):
            target.mkdir(parents=True, exist_ok=True)
        with locked(target):
            keep = lambda failed: save(result.record(plan, failed, command), kept)  # noqa: E731
            failed = work.carry_out(plan, parallel, keep)
            outcome = result.record(plan, failed, command)
            for path in (kept, *([record] if record else [])):
                save(outcome, path)
    if json:
        show.emit(outcome.model_dump())
    else:
        study_table(outcome)
        if not table_only:
            show.out.print(f"Record: {kept}", markup=False, soft_wrap=True)
    if failed:
        say(f"{len(failed)} runs failed; the same command tries them again.")
        raise typer.Exit(1)


def require_place(record: Path) -> None:
    """Raise `UserError` if something else than a study's record is there, which would be lost."""
    if record.exists():
        try:
            read_record(record, Study)
        except UserError:
            raise UserError(f"{record} exists and is no study's record; name another file with --record.") from None


def save(outcome: Study, path: Path) -> None:
    """Write the record."""
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, outcome.model_dump())


def study_table(study: Study) -> None:
    """Accuracies and paired differences of the arms, then what they cost."""
    seeds = ", ".join(map(str, study.seeds))
    show.out.print(
        f"{study.name}: {study.question}\n{study.task}, {study.problems} problems x {study.samples} responses; seeds {seeds}; "
        f"equal {study.rule}; percent [95% interval over problems and seeds]; references: {', '.join(study.reference)}",
        markup=False,
        soft_wrap=True,
    )
    table = grid("arm", "N", "accuracy", "against reference", "against untrained", "each seed", "marks")
    for a in {(a.student, a.teacher_model): a for a in study.arms}.values():
        table.add_row(f"untrained {a.student}", "", as_text(a.before))
        table.add_row(f"teacher {a.teacher_model}", "", as_text(a.teacher))
    table.add_section()
    costs = grid("arm", "steps", "s a step", "seconds", "tokens generated", "peak GiB")
    for a in study.arms:
        each = " ".join(seed_cell(s) for s in a.seeds)
        changes = (as_text(a.difference, sign=True), as_text(a.gain, sign=True))
        table.add_row(a.name, a.stops_at, as_text(a.avg), *changes, each, ", ".join(a.marks))
        costs.add_row(
            a.name,
            number(a.steps, ".0f"),
            number(a.seconds_per_step, ".2f"),
            number(a.seconds, ".0f"),
            number(a.generated, ",.0f"),
            number(a.peak_memory_gib, ".2f"),
        )
    show.out.print(table)
    show.out.print(costs)
    show.out.print(f"All runs together took {duration(study.seconds)}.")


def number(value: float | None, digits: str) -> str:
    """A dash for what was not measured."""
    return "-" if value is None else f"{value:{digits}}"


def seed_cell(seed: ArmSeed) -> str:
    """One run's accuracy, or why there is none."""
    if seed.error is not None:
        return "-" if seed.error == NOT_RUN else "failed"
    return "ungraded" if seed.avg is None else f"{100 * seed.avg.value:.1f}"


def grid(*columns: str) -> Table:
    """A table whose first and last columns are text and the others numbers."""
    table = Table()
    for name in columns:
        text = name in ("arm", "marks")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    return table
