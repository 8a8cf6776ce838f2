"""`esr analyze lengths`."""

from pathlib import Path

from rich.table import Table

from esr.cli import show
from esr.cli.analyze.options import Json, Others, Problems, Quick, Seed, Step, Target, Task, Teacher, finish
from esr.records.base import Estimate
from esr.records.lengths import Lengths


def lengths(
    target: Target,
    teacher: Teacher = None,
    task: Task = None,
    step: Step = None,
    others: Others = None,
    problems: Problems = None,
    seed: Seed = 1,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Response lengths before and after training, of the teacher, and of other runs.

    From the responses of a run's evaluations where it has them; else (and for two models) from new ones to `--problems`
    problems (64; quick: 24).

    Example: `esr analyze lengths runs/lab --with runs/lab-full`
    """
    from esr.analysis import lengths as analysis
    from esr.runs.rundir import RunDir, open_run

    with_runs = [open_run(path).path for path in others or []]
    directory = RunDir(Path(target))
    last = analysis.student_evaluation(directory, step) if teacher is None and directory.exists() else None
    if last is not None:
        record = analysis.from_evaluations(directory, last, with_runs)
    else:
        from esr.analysis.subject import open_subject

        subject = open_subject(target, teacher, task, step)
        directory = subject.directory
        record = analysis.from_models(subject, with_runs, problems or (24 if quick else 64), seed)
    finish(directory, "lengths", record, json, lengths_table)


def tokens(estimate: Estimate) -> str:
    """`212 [198, 230]`."""
    return f"{estimate.value:.0f} [{estimate.low:.0f}, {estimate.high:.0f}]"


def lengths_table(record: Lengths) -> None:
    """One row for each model."""
    table = Table(
        title=f"Response lengths in tokens [95% interval by problem]; {record.problems} problems of {record.task}, cap "
        f"{record.max_new_tokens}",
        title_justify="left",
    )
    for name in ("model", "responses", "finished, %", "p10", "p50", "p90", "mean"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for r in record.rows:
        quantiles = [tokens(e) for e in (r.p10, r.p50, r.p90, r.mean)]
        table.add_row(r.model, f"{r.responses}", show.pct(r.finish_rate), *quantiles)
    show.out.print(table)
    where = "evaluations" if record.settings["from"] == "evaluations" else "responses sampled for this"
    show.out.print(f"From {where}; responses that the cap cut count with their {record.max_new_tokens} tokens.")
