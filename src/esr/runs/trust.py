"""Code that comes with a model or a run, graders among it, runs only if whoever types the command says so: a run directory cannot
say it for them."""

from contextvars import ContextVar
from pathlib import Path

from esr.config import Config
from esr.errors import UserError

ALLOWED: ContextVar[bool] = ContextVar("trust_remote_code", default=False)
"""Whether this command line repeats `--trust-remote-code`."""


def require_trust(config: Config, where: Path) -> Config:
    """`config`, read from the run directory `where`, to load its models and grade with.

    Raises `UserError` if it would run Python code that it names and the command line does not allow that.
    """
    asking = [f"that comes with {side.model}" for side in (config.student, config.teacher) if side.trust_remote_code]
    graders = [task.grader for task in (config.data, config.eval) if task and task.grader]
    asking += [f"of the grader {grader}" for grader in graders if grader.startswith("python:")]
    if asking and not ALLOWED.get():
        raise UserError(
            f"{where} would run Python code {' and '.join(dict.fromkeys(asking))}; "
            "if you trust it, write --trust-remote-code between esr and the command."
        )
    return config


def from_file(config: Config, file: Path) -> Config:
    """`config`, read from `file`: a run's own config.json is trusted no more than the run."""
    return require_trust(config, file.parent) if file.name == "config.json" else config
