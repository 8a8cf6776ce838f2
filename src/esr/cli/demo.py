"""`esr demo`."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from esr.analysis import ANALYSES
from esr.cli import show
from esr.console import say
from esr.errors import UserError
from esr.records.base import as_text
from esr.records.study import Study
from esr.runs.files import read_record
from esr.runs.places import study_record


def demo(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Another study with arms `esr` and `full`. Default: the lab's headline pair.")
    ] = None,
) -> None:
    """The whole story on the lab's tiny models: ESR against full distillation, the analyses, and one page. Minutes, offline.

    Each step is an ordinary command, printed as it runs. The same command again goes on, or says that it is done.

    Example: `esr demo`
    """
    from esr.study import plan as plans
    from esr.study import work

    file = file or Path(str(resources.files("esr.lab") / "demo.yaml"))
    plan = plans.read(file)
    if not {"esr", "full"} <= set(plan.study.arms):
        raise UserError(f"{file}: the demo needs arms named esr and full.")
    runs = [plan.of(arm)[0].directory for arm in ("esr", "full")]
    esr, full = (run.path for run in runs)
    record = study_record(plan.name)
    report = record.with_name("report.html")
    todo = [] if all(map(work.finished, (run.directory for run in plan.runs))) else [["study", str(file)]]
    for row in (row for row in ANALYSES.values() if not row.foretells):
        beside = ["--with", str(full)] if row.beside else []
        quick = ["--quick"] if row.settings.QUICK else []
        if not runs[0].analysis_file(row.name).exists():
            todo.append(["analyze", row.name, str(esr), *beside, *quick])
    if todo or not report.exists():
        todo.append(["report", str(record.parent), str(esr), str(full), "-o", str(report)])
    for number, command in enumerate(todo, 1):
        say(f"[{number}/{len(todo)}] esr {' '.join(command)}")
        if code := ctx.find_root().command.main(command, prog_name="esr", standalone_mode=False):
            raise typer.Exit(code)
    if not todo:
        say(f"The demo is done already; remove {esr.parent} to see it run again.")
    verdict(read_record(record, Study))
    show.out.print(f"Runs: {esr} and {full}. The whole story on one page: {report}", markup=False, soft_wrap=True)


def verdict(study: Study) -> None:
    """What was just measured, in a few lines."""
    arms = {arm.name: arm for arm in study.arms}
    esr, full = arms["esr"], arms["full"]
    show.out.print(
        f"Accuracy: untrained {as_text(esr.before)}, ESR (N = {esr.n}) {as_text(esr.avg)}, full {as_text(full.avg)}, "
        f"teacher {as_text(esr.teacher)}; ESR against full {as_text(esr.difference, sign=True)}; "
        f"seeds: {', '.join(map(str, study.seeds))}.",
        soft_wrap=True,
    )
    if esr.seconds_per_step and full.seconds_per_step:
        show.out.print(
            f"A step took {esr.seconds_per_step:.2f} s with ESR and {full.seconds_per_step:.2f} s in full "
            f"({full.seconds_per_step / esr.seconds_per_step:.1f} times as long); peak memory of the process "
            f"{esr.peak_memory_gib:.2f} and {full.peak_memory_gib:.2f} GiB. A model system: real models differ.",
            soft_wrap=True,
        )
