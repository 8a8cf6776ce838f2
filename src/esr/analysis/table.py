"""Every analysis in one table: the command line, the demo and the page are made from it. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from esr.analysis.subject import Need, Subject
from esr.console import say
from esr.errors import UserError
from esr.ranks import here
from esr.records import decay, efficiency, fit, lengths, prefix_swap, profile, rollouts, selection, submode
from esr.records.finding import Finding
from esr.records.settings import Settings
from esr.runs import findings, parts
from esr.runs.rundir import open_run


@dataclass(frozen=True)
class Analysis:
    """One analysis. Its modules here (`compute`), in `cli/analyze/` (`table`) and in the tests are called as it is."""

    name: str
    """Of the command, and of the record: `analysis/NAME.json`."""
    about: str
    """What it tells, in a line."""
    settings: type[Settings]
    record: type[Finding]
    section: str
    """The section of the page that shows it: a module of `report/sections/`."""
    example: str
    """Arguments of its command."""
    needs: tuple[Need, ...] = ()
    beside: bool = False
    """Whether other runs of the same pair are put beside it."""
    foretells: bool = False
    """Whether it is about a training to come, so that it has no place beside one that is done."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def compute(self) -> Callable[..., Finding]:
        """`compute(subject, settings)`, and `others` behind them if other runs are put beside it; loads torch."""
        return import_module(f"esr.analysis.{self.module}").compute


ANALYSES: dict[str, Analysis] = {
    row.name: row
    for row in (
        Analysis(
            "fit", "Does ESR fit this pair, at which N, and what is out of its reach? Before any training (`esr check`).",
            fit.FitSettings, fit.Fit, "fit", "examples/lab.yaml", needs=("eval",), foretells=True,
        ),
        Analysis(
            "decay", "Accuracy when the teacher continues the student's first k tokens, and the N that follows.",
            decay.DecaySettings, decay.Decay, "decay", "runs/smollm2 --lengths 25,50,100 --problems 100", needs=("eval",),
        ),
        Analysis(
            "prefix-swap", "Is the gain in the first N tokens? Untrained and trained student continue each other.",
            prefix_swap.PrefixSwapSettings, prefix_swap.PrefixSwap, "profile", "runs/smollm2 --problems 100",
            needs=("training", "eval"),
        ),
        Analysis(
            "profile", "Divergence by position before and after training, on common and on own responses.",
            profile.ProfileSettings, profile.Profile, "profile", "runs/smollm2 --problems 48",
        ),
        Analysis(
            "submode", "How models commit where they differ most from the teacher, and where it has two modes.",
            submode.SubModeSettings, submode.SubMode, "submode", "runs/smollm2 --with runs/smollm2-full", beside=True,
        ),
        Analysis(
            "selection", "What each selection of K positions keeps of the untrained student's full responses.",
            selection.SelectionSettings, selection.SelectionShares, "selection", "runs/smollm2 --k 100",
        ),
        Analysis(
            "lengths", "Response lengths before and after training, of the teacher, and of other runs; from a run's "
            "evaluations, or from new responses where it has none.",
            lengths.LengthsSettings, lengths.Lengths, "results", "runs/lab --with runs/lab-full", beside=True,
        ),
        Analysis(
            "efficiency", "Seconds a step by phase, tokens, memory, and training time to equal accuracy, of one run or of "
            "several side by side.",
            efficiency.EfficiencySettings, efficiency.Efficiency, "efficiency", "runs/lab --with runs/lab-full",
            needs=("run",), beside=True,
        ),
        Analysis(
            "rollouts", "Responses to read, right and wrong ones, with both models' view of every token.",
            rollouts.RolloutsSettings, rollouts.Rollouts, "rollouts", "runs/smollm2 --count 4", needs=("eval",),
        ),
    )
}  # fmt: skip
"""By name, in the order of the page."""


def analyze(
    subject: Subject, name: str, settings: Settings | None = None, others: Sequence[str | Path] = ()
) -> Finding:
    """Do the analysis `name` and keep its record in the subject's directory. `settings` None is the whole protocol.

    Of several ranks, all get the record, and rank 0 keeps it.

    Raises `UserError` if there is no such analysis, if something that it needs is missing, or for `others` (run
    directories) that it does not put beside the subject.
    """
    if name not in ANALYSES:
        raise UserError(f"There is no analysis {name}; there are {', '.join(ANALYSES)}.")
    row = ANALYSES[name]
    if others and not row.beside:
        raise UserError(f"{name} puts no other runs beside the one that it is about.")
    subject.require(row.needs)
    settings = settings or row.settings()
    runs = [open_run(path) for path in others]
    record = row.compute(subject, settings, runs) if row.beside else row.compute(subject, settings)
    if not here().first:
        return record
    kept = name + settings.variant()
    aside = findings.keep(subject.directory, kept, record)
    parts.discard(subject.directory, kept)
    if aside is not None:
        say(f"The record before this one had other settings; it is kept as {aside}.")
    return record
