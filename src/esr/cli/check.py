"""`esr check`."""

from pathlib import Path
from typing import Annotated

import typer

from esr.analysis import analyze, open_subject
from esr.analysis.subject import Subject
from esr.cli import show
from esr.cli.analyze.fit import display
from esr.config.configfile import load
from esr.console import say
from esr.errors import TooLarge
from esr.records.fit import Answer, Fit, FitSettings
from esr.runs.checked import holds
from esr.runs.files import read_record
from esr.runs.trust import from_file

EXIT: dict[Answer, int] = {"fits": 0, "does not fit": 3, "cannot tell": 4}


def check(
    config: Annotated[Path, typer.Argument(help="YAML file (or a run's config.json).", show_default=False)],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value.")] = None,
    static: Annotated[bool, typer.Option("--static", help="Only what is known without weights, in seconds.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer problems, steps and lengths.")] = False,
    pilot: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of each pilot. [default: 16; quick: 5]"),
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="The N to try, in tokens, such as 50,100. [default: 50,100,200; quick: 50,100]")
    ] = None,
    problems: Annotated[int | None, typer.Option(min=2, help="To measure on. [default: 48; quick: 24]")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Minutes: while they last and the answer is open, more problems are measured.")
    ] = None,
    device_memory: Annotated[
        str | None, typer.Option(help="Only plan the memory, of an accelerator with so much of it (24GiB).")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was checked before.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Does ESR fit this pair, which N, what will it bring, what does it cost? Before any training.

    Exit code 0: it fits; 3: it does not, or the device (`--device-memory`) cannot hold it; 4: cannot tell (2 is a mistake in
    what was given). The same command goes on after an interruption.

    Example: `esr check examples/lab.yaml --quick`
    """
    if static or device_memory:
        from esr.budget import size
        from esr.prepare import prepare

        memory = size(device_memory) if device_memory else None
        plan = prepare(from_file(load(config, overrides or []), config), memory)
        if json:
            show.emit(plan.facts().model_dump())
        raise typer.Exit(EXIT["does not fit"] if plan.budget and not plan.budget.fits else 0)
    given = {"pilot": pilot, "lengths": lengths, "problems": problems, "budget": budget}
    settings = FitSettings.of({k: v for k, v in given.items() if v is not None}, quick)
    try:
        subject = open_subject(config, overrides=overrides or [])
        found = None if fresh else kept(subject)
        if found and same(found, subject, settings):
            say("This was checked before; --fresh measures it again.")
            record = found
        else:
            record = measure(subject, settings)
    except TooLarge:  # as the plan has said already
        raise typer.Exit(EXIT["does not fit"]) from None
    if json:
        show.emit(record.model_dump())
    else:
        display(record)
    raise typer.Exit(EXIT[record.verdict.answer])


def measure(subject: Subject, settings: FitSettings) -> Fit:
    """The check of a config file's pair, made now."""
    record = analyze(subject, "fit", settings)
    assert isinstance(record, Fit)
    say(f"Record: {subject.record_file('fit', settings)}; as a page: esr report {subject.directory.path}")
    return record


def recorded(config: Path, overrides: list[str]) -> Fit:
    """The check of a config file that is there and holds for this configuration, or else one made now."""
    subject = open_subject(config, overrides=overrides)
    record = kept(subject)
    if record is not None:
        if holds(record, subject.config):
            return record
        say("The check that is there is of another configuration or task; checking anew.")
    return measure(subject, FitSettings())


def kept(subject: Subject) -> Fit | None:
    """The check that is there."""
    file = subject.record_file("fit", FitSettings())
    return read_record(file, Fit) if file.exists() else None


def same(record: Fit, subject: Subject, settings: FitSettings) -> bool:
    """Whether a check is just what would be measured now."""
    steps = settings.steps(subject.config.optim.steps)
    asked = {**settings.model_dump(mode="json", exclude={"seed"}), "pilot": steps}
    return holds(record, subject.config) and asked.items() <= record.settings.items()
