"""`esr analyze`: one command for each row of `ANALYSES`; an option for each field of its settings."""

from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer
from pydantic.fields import FieldInfo

from esr.analysis import ANALYSES, Analysis, open_subject
from esr.analysis import analyze as analyze_subject
from esr.cli import show
from esr.console import loading
from esr.records.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Analyses of a run or of a pair; each writes one record into RUN/analysis/."
)

RUN = Annotated[str, typer.Argument(help="Run directory.", show_default=False)]
TARGET = Annotated[
    str, typer.Argument(help="Run directory, config file, or the student's model reference.", show_default=False)
]
TEACHER = Annotated[
    str | None, typer.Argument(help="The teacher's model reference, if TARGET is a student's.", show_default=False)
]
TASK = Annotated[str | None, typer.Option(help="Source of problems for two model references, such as math500.")]
STEP = Annotated[int | None, typer.Option(help="Checkpoint; default: the last.")]
OTHERS = Annotated[
    list[Path] | None, typer.Option("--with", help="Another run of the same pair beside this one; may be repeated.")
]
QUICK = Annotated[bool, typer.Option("--quick", help="Fewer problems and points: a first look in a minute or two.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


@app.callback()
def analyze() -> None:
    """Analyses of a run or of a pair; each writes one record into RUN/analysis/."""


def command(row: Analysis) -> Callable[..., None]:
    """The command of an analysis, its signature made from the settings."""

    def run(
        target: str,
        teacher: str | None = None,
        task: str | None = None,
        others: list[Path] | None = None,
        quick: bool = False,
        json: bool = False,
        **options: Any,
    ) -> None:
        step = options["step"] if "step" in row.settings.model_fields else options.pop("step", None)
        settings = row.settings.of({k: v for k, v in options.items() if v is not None}, quick)
        subject = open_subject(target, teacher, task, step)
        loading()
        record = analyze_subject(subject, row.name, settings, others or [])
        if json:
            show.emit(record.model_dump())
        else:
            import_module(f"esr.cli.analyze.{row.module}").display(record)
            file = subject.record_file(row.name, settings)
            show.out.print(f"Record: {file}", markup=False, soft_wrap=True)

    run.__signature__ = Signature(list(parameters(row)))  # type: ignore[attr-defined]
    run.__doc__ = f"{row.about}\n\nExample: `esr analyze {row.name} {row.example}`"
    return run


def parameters(row: Analysis) -> Iterator[Parameter]:
    """What the command of an analysis takes."""
    if "run" in row.needs:
        yield parameter("target", RUN, Parameter.empty)
    else:
        yield parameter("target", TARGET, Parameter.empty)
        if "training" not in row.needs:
            yield parameter("teacher", TEACHER)
            yield parameter("task", TASK)
        if "step" not in row.settings.model_fields:
            yield parameter("step", STEP)
    if row.beside:
        yield parameter("others", OTHERS)
    for name, field in row.settings.model_fields.items():
        yield parameter(name, option(row.settings, name, field))
    if row.settings.QUICK:
        yield parameter("quick", QUICK, False)
    yield parameter("json", JSON, False)


def parameter(name: str, kind: Any, default: Any = None) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def option(settings: type[Settings], name: str, field: FieldInfo) -> Any:
    """The option of a field, None where it is not given; its help is the field's docstring and the values without it."""
    kind: Any = str if get_origin(field.annotation) is tuple else field.annotation
    least = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    values = {"default": field.default, "quick": settings.QUICK.get(name), "`paper`": settings.PAPER.get(name)}
    said = "; ".join(f"{of}: {_text(value)}" for of, value in values.items() if value is not None)
    text = " ".join((field.description or "").split())
    return Annotated[kind | None, typer.Option(min=least, help=f"{text} [{said}]" if said else text)]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


for row in ANALYSES.values():
    app.command(row.name)(command(row))
