"""`esr analyze decay`."""

from typing import Annotated, Literal

import typer
from rich.table import Table

from esr.cli import show
from esr.cli.analyze.options import Json, Problems, Quick, Seed, Target, Task, Teacher, finish
from esr.errors import UserError
from esr.records.decay import Decay, DecaySeries, Recommendation

LENGTHS = {"full": (0, 10, 25, 50, 100, 200, 300), "quick": (0, 10, 25, 50, 100), "paper": (0, 100, 200, 300)}


def decay(
    target: Target,
    teacher: Teacher = None,
    task: Task = None,
    step: Annotated[
        int | None, typer.Option(help="Let the student of this checkpoint write; default: the untrained one.")
    ] = None,
    problems: Problems = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Continuations of each prefix; default: 4, quick: 2.")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Prefix lengths in tokens; default: 0,10,25,50,100,200,300.")
    ] = None,
    protocol: Annotated[
        Literal["ours", "paper"],
        typer.Option(help="`paper`: prefixes pass as text, finished ones count as they are."),
    ] = "ours",
    seed: Seed = 1,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Accuracy when the teacher continues the student's first k tokens, and the N that follows (200 problems; quick: 40).

    Example: `esr analyze decay runs/smollm2 --lengths 25,50,100 --problems 100`
    """
    from esr.analysis import decay as analysis
    from esr.analysis.parts import parts
    from esr.analysis.subject import graded, open_subject

    subject = open_subject(target, teacher, task, step, needs="eval")
    tasks, source, settings = graded(subject.config, problems or (40 if quick else 200))
    measured = chosen_lengths(lengths, protocol, quick, settings.max_new_tokens)
    samples = samples or (2 if quick else 4)
    chosen = analysis.choices(settings, measured, samples, protocol, seed)
    models = {role: name for role, name in subject.models.items() if role != "after"}
    student = subject.before
    if step is not None:
        student = subject.trained("--step names a checkpoint of a run.")
        models["student"] = subject.models["after"]
    depends = {**chosen, "models": models, "task": source, "batch": settings.batch_size, "ids": [p.id for p in tasks]}
    with parts(subject.directory, "decay", depends) as kept:
        record = analysis.compute(
            student, subject.teacher, tasks, settings, subject.pair.terminators, measured, samples, chosen,
            (models, source), kept,
        )  # fmt: skip
        finish(subject.directory, "decay", record, json, decay_table)


def chosen_lengths(given: str | None, protocol: str, quick: bool, cap: int) -> list[int]:
    """Prefix lengths, ascending, 0 always among them. Raises `UserError` for what is no length below `cap`."""
    if given is None:
        return [k for k in LENGTHS["paper" if protocol == "paper" else "quick" if quick else "full"] if k < cap]
    words = [word.strip() for word in given.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f"--lengths {given}: give numbers of tokens separated by commas, such as 0,10,25.")
    lengths = sorted({0, *map(int, words)})
    if lengths[-1] >= cap:
        raise UserError(f"--lengths: {lengths[-1]} leaves nothing to continue, because eval.max_new_tokens is {cap}.")
    if lengths == [0]:
        raise UserError(f"--lengths {given}: give at least one length above 0.")
    return lengths


def decay_table(record: Decay) -> None:
    """The teacher after the student's prefixes, the two controls, and the recommendation."""
    found = {(s.prefix, s.continued_by, s.subset): s for s in record.series}
    main = found["student", "teacher", "all"]
    table = Table(
        title=f"The teacher continues the student's first k tokens; {record.task}: {record.problems} problems x "
        f"{record.samples}; percent [95% interval]",
        title_justify="left",
    )
    for name in ("k", "continued", "finished", "accuracy", "change, paired"):
        table.add_column(name, justify="right")
    for name in ("right", "wrong"):
        table.add_column(f"change, {name} responses", justify="right")
    split = [found["student", "teacher", "right"], found["student", "teacher", "wrong"]]
    for i, p in enumerate(main.points):
        changes = [show.pct(s.points[i].change, sign=True) for s in (main, *split)]
        table.add_row(str(p.k), str(p.continued), str(p.finished), show.pct(p.avg), *changes)
    show.out.print(table)
    controls(main, found["student", "student", "all"], found["teacher", "student", "all"])
    show.out.print(advice(record.recommendation), markup=False, soft_wrap=True)


def controls(main: DecaySeries, own: DecaySeries, reverse: DecaySeries) -> None:
    """Finished prefixes included, and the student after its own and after the teacher's prefixes."""
    table = Table(title="For comparison", title_justify="left")
    table.add_column("k", justify="right")
    for name in ("teacher, finished prefixes included", "student continues its own", "student continues the teacher's"):
        table.add_column(name, justify="right")
    for p, q, r in zip(main.points, own.points, reverse.points, strict=True):
        table.add_row(str(p.k), show.pct(p.with_finished), show.pct(q.avg), show.pct(r.avg))
    show.out.print(table)


def advice(found: Recommendation) -> str:
    """The recommendation in words."""
    points = f"{100 * found.margin:g} points"
    if found.at_most is not None:
        first = f"A loss is certain from {found.at_most} tokens on"
        first += f"; the longest prefix without one is {found.n}." if found.n else ", the shortest prefix measured."
    else:
        first = f"No certain loss up to {found.n} tokens." if found.n else "Too few prefixes go on to say anything."
    surely = f"up to {found.surely} tokens" if found.surely else "at no measured length: more problems narrow it down"
    return f"{first} A loss of more than {points} can be ruled out {surely}."
