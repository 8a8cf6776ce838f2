"""`esr config`."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic_core import PydanticUndefined
from rich.table import Table

from esr.cli import show
from esr.config import Config, Section
from esr.configfile import load


def config(
    file: Annotated[
        Path | None, typer.Argument(help="Config file to resolve; without one, every key is explained.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON (the JSON Schema, if no file is given).")] = False,
) -> None:
    """Check a config file and print it resolved, or explain every key.

    Example: `esr config configs/qwen2.5-math-1.5b.yaml rollout.max_new_tokens=2048`
    """
    if file is None:
        if json:
            show.emit(Config.model_json_schema())
        else:
            explain()
        return
    resolved = load(file, overrides).model_dump()
    if json:
        show.emit(resolved)
    else:
        print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), end="")


def explain() -> None:
    """Every key, its default and its meaning."""
    table = Table(show_lines=False)
    for name in ("key", "default", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=False)
    for key, default, meaning in documented():
        table.add_row(key, default, meaning)
    show.out.print(table)


def documented(section: type[Section] = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every key that holds a value."""
    rows: list[tuple[str, str, str]] = []
    for name, field in section.model_fields.items():
        nested = [
            k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type) and issubclass(k, Section)
        ]
        if nested:
            rows += documented(nested[0], f"{prefix}{name}.")
        else:
            rows.append((prefix + name, _default(field.default), " ".join((field.description or "").split())))
    return rows


def _default(value: Any) -> str:
    return "required" if value is PydanticUndefined else str(value)
