"""`esr config`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic_core import PydanticUndefined
from rich.table import Table
from rich.text import Text

from esr.cli import show
from esr.config import Config, ConfigSection
from esr.config.configfile import load
from esr.config.keys import nested
from esr.console import say
from esr.errors import UserError

PATHS = (
    "A relative path in a file is looked for in the file's directory, then in the working directory; one on the command "
    "line in the working directory. What a run writes (run.dir, a study's runs) starts at the working directory. ~ is your home."
)


def config(
    file: Annotated[
        Path | None, typer.Argument(help="Config file to resolve; without one, every key is explained.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value.")] = None,
    study: Annotated[bool, typer.Option("--study", help="Explain the keys of a study file instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON (the JSON Schema, if no file is given).")] = False,
) -> None:
    """Check a config file and print it resolved, with a prompt of each side, or explain every key.

    Example: `esr config configs/qwen2.5-math-1.5b.yaml rollout.max_new_tokens=2048`
    """
    kind: type[ConfigSection] = Config
    if study:
        from esr.study.plan import StudyConfig

        kind = StudyConfig
        if file is not None:
            raise UserError("--study explains the keys; to check a study file, use `esr study FILE --table`.")
    if file is None:
        if json:
            show.emit(kind.model_json_schema())
        else:
            explain(kind)
        return
    settings = load(file, overrides or [])
    if json:
        show.emit(settings.model_dump())
    else:
        print(yaml.safe_dump(settings.model_dump(), sort_keys=False, allow_unicode=True), end="", flush=True)
        show_prompts(settings)


def show_prompts(settings: Config) -> None:
    """One prompt of each side, on stderr; or why it cannot be had. Nothing is fetched for it from the hub."""
    from esr import prompts, tasks
    from esr.models import template
    from esr.models.load import check, load_tokenizer

    sides = []
    try:
        for name, side in (("student", settings.student), ("teacher", settings.teacher)):
            check(side)
            sides.append((name, load_tokenizer(side), side))
            template.check(sides[-1][1], side)
        on_hub = tasks.is_remote(settings.data)
        problems = () if on_hub else tasks.load(settings.data, "train", need_answer=False).problems
        for line in prompts.describe(sides, problems):
            say(line)
    except UserError as error:
        say(f"The prompts cannot be shown: {error}")


def explain(kind: type[ConfigSection] = Config) -> None:
    """Every key, its default and its meaning."""
    table = Table(show_lines=False)
    for name in ("key", "default", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=False)
    for key, default, meaning in documented(kind):
        table.add_row(key, Text(default), Text(meaning))
    show.out.print(table)
    show.out.print(PATHS, soft_wrap=True, markup=False)


def documented(section: type[ConfigSection] = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every key that holds a value."""
    rows: list[tuple[str, str, str]] = []
    inner = nested(section)
    for name, field in section.model_fields.items():
        if name in inner:
            rows += documented(inner[name], f"{prefix}{name}.")
        else:
            rows.append((prefix + name, _default(field.default), " ".join((field.description or "").split())))
    return rows


def _default(value: Any) -> str:
    return "required" if value is PydanticUndefined else str(value)
