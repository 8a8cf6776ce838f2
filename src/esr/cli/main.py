"""`esr`: collects the commands, and turns every expected failure into one sentence and an exit code."""

import atexit
import gc
import os
import sys
from typing import Annotated

import typer

from esr import __version__
from esr.cli import analyze, check, compare, config, demo, eval, export, lab, report, serve, study, train, watch
from esr.cli.failures import sentence
from esr.console import console, interrupts, say
from esr.errors import RunStopped, UserError
from esr.runs import trust

SHARED = ("train", "eval", "analyze", "check")
"""Commands that several processes work on together (docs/scale.md)."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, SIGTERM or SIGHUP."""
app = typer.Typer(
    name="esr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="On-policy distillation with Early Stopping Rollout (ESR, arXiv:2605.27028).",
)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("eval")(eval.evaluate)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.add_typer(analyze.app, name="analyze")
app.command("study")(study.study)
app.command("demo")(demo.demo)
app.add_typer(lab.app, name="lab")
app.command("report")(report.report)
app.command("watch")(watch.watch)
app.command("config")(config.config)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    trust_remote_code: bool = typer.Option(
        False, "--trust-remote-code", help="Run Python code that comes with the models of a run directory."
    ),
) -> None:
    """On-policy distillation with Early Stopping Rollout."""
    trust.ALLOWED.set(trust_remote_code)
    if launched() and ctx.invoked_subcommand not in SHARED:
        raise UserError(f"esr {ctx.invoked_subcommand} runs in one process; start it without a launcher.")
    if version:
        print(f"esr {__version__}")
        raise typer.Exit


@app.command("help")
def help_of(
    ctx: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(help="Command, such as `analyze decay`.")] = None,
) -> None:
    """Show the help of `esr` or of a command."""
    ctx.find_root().command.main([*(command or []), "--help"], prog_name="esr", standalone_mode=True)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code.

    0 well, 1 stopped before the end, 2 the user's mistake, 130 interrupted; `esr check` has 3 and 4 too.
    """
    try:
        app(arguments, prog_name="esr")
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0
        if code == INTERRUPTED:
            say("Stopped. What was finished is kept; the same command goes on.")
        return code
    except Exception as error:
        console.quiet &= getattr(error, "common", False)  # a process that fails alone says so itself
        if isinstance(error, RunStopped):
            say(str(error))
            return 1
        known = str(error) if isinstance(error, UserError) else sentence(error)
        if known is None:
            raise
        say(f"Error: {known}")
        return 2 if isinstance(error, UserError) else 1
    return 0


def launched() -> bool:
    """Whether a launcher started this process and others (`accelerate launch`, `torchrun`)."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def main() -> None:
    """The program. Torch's modules are half a million objects that stay: the search for garbage among them, again and again as
    they come and once more at the end, would take a third of the time of a short command, so it is made less often."""
    gc.set_threshold(20_000, 50, 50)
    atexit.register(gc.freeze)
    interrupts.obey()
    if not launched():
        sys.exit(run())
    from esr.ranks import joined

    with joined():
        sys.exit(run())


if __name__ == "__main__":
    main()
