"""`esr eval`."""

from pathlib import Path
from typing import Annotated

import typer

from esr.api import evaluated, evaluation_of
from esr.cli import show
from esr.console import loading
from esr.records.evaluation import by_progress, comparable


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(help="Run directory, or a config file to evaluate its untrained models.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="eval.key=value, for example eval.source=math500.")
    ] = None,
    who: Annotated[
        str, typer.Option(help="`last`, `base`, `teacher`, or the number of a step that has a checkpoint.")
    ] = "last",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Evaluate a student (trained or not) or a teacher; records go to `RUN/evals/`.

    Example: `esr eval runs/smollm2 eval.source=gsm8k eval.limit=200 --who teacher`
    """
    directory, own, asked = evaluation_of(run, overrides or [])
    wanted = evaluated(directory, who, own, asked)

    loading()
    from esr.evaluation.evaluate import of_run

    result = of_run(directory, own, asked, wanted)
    group = [e for e in sorted(directory.evaluations(), key=by_progress) if comparable(e, result)]
    changes = show.differences(directory, group)
    if json:
        change = next((c.model_dump() for c in changes if c.name == result.name), None)
        show.emit({"evaluation": result.model_dump(), "difference": change})
    else:
        show.evaluation_table(group, changes)
