"""`esr study`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from esr.cli import show
from esr.console import duration, say
from esr.results import Arm, Study
from esr.rundir import RunDir, writable, write_json


def study(
    file: Annotated[
        Path, typer.Argument(help="Study file: arms, seeds, and what they are to be compared by.", show_default=False)
    ],
    parallel: Annotated[
        int, typer.Option(min=1, help="Runs at once; the processor's cores are dealt out to them.")
    ] = 1,
    record: Annotated[Path | None, typer.Option(help="Write the record here too, besides `RUNS/study.json`.")] = None,
    table_only: Annotated[bool, typer.Option("--table", help="Run nothing; show what is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Run arms x seeds and compare them. The same command again goes on; finished runs are never run again.

    Example: `esr study studies/lab/main.yaml --parallel 2`
    """
    from esr.study import plan as plans
    from esr.study import result, work

    plan = plans.read(file)
    target = Path("runs") / "studies" / plan.name
    with writable(target):
        target.mkdir(parents=True, exist_ok=True)
    with RunDir(target).locked():
        failed = {} if table_only else work.carry_out(plan, parallel)
        outcome = result.record(plan, failed, f"esr study {file}")
        for path in (target / "study.json", *([record] if record else [])):
            with writable(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, outcome.model_dump())
    if json:
        show.emit(outcome.model_dump())
    else:
        study_table(outcome)
        show.out.print(f"Record: {target / 'study.json'}", markup=False, soft_wrap=True)
    if failed:
        say(f"{len(failed)} runs failed; the same command tries them again.")
        raise typer.Exit(1)


def study_table(study: Study) -> None:
    """One row for each arm."""
    seeds = ", ".join(map(str, study.seeds))
    title = (
        f"{study.name}: {study.question}\n{study.task}, {study.problems} problems x {study.samples} responses, seeds {seeds}; "
        f"equal {study.rule}; percent [95% interval over problems and seeds]"
    )
    table = Table(title=title, title_justify="left")
    columns = (
        "arm",
        "N",
        "accuracy",
        "against reference",
        "against untrained",
        "each seed",
        "s/step",
        "s",
        "tokens",
        "GiB",
        "marks",
    )
    for name in columns:
        table.add_column(name, justify="left" if name in ("arm", "marks") else "right")
    students = {(a.student, a.teacher_model): a for a in study.arms}
    for a in students.values():
        for name, estimate in ((f"untrained {a.student}", a.before), (f"teacher {a.teacher_model}", a.teacher)):
            table.add_row(name, "", show.pct(estimate), *[""] * 8)
    table.add_section()
    for a in study.arms:
        table.add_row(*row(a))
    show.out.print(table)
    show.out.print(f"All runs together took {duration(study.seconds)}.")


def row(arm: Arm) -> list[str]:
    """The cells of an arm."""
    each = " ".join("failed" if s.avg is None else f"{100 * s.avg.value:.1f}" for s in arm.seeds)
    costs = (f"{arm.seconds_per_step:.2f}", f"{arm.seconds:.0f}", f"{arm.generated:,.0f}", f"{arm.peak_memory_gib:.2f}")
    against = show.pct(arm.difference, sign=True) + (f" ({arm.reference})" if arm.reference else "")
    changes = (against, show.pct(arm.gain, sign=True))
    return [arm.name, str(arm.n), show.pct(arm.avg), *changes, each, *costs, ", ".join(arm.marks)]
