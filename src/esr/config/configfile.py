"""Config files and overrides: read, merged, validated, with one clear sentence for a mistake. No torch here."""

import copy
import json
import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from esr.config import Config, ConfigSection, plainyaml
from esr.config.keys import kinds, sections
from esr.config.mistakes import explain
from esr.console.foreign import brief, control_character, visible
from esr.errors import UserError
from esr.runs.files import check_format

PATHS = (
    "student.model", "student.adapter", "teacher.model", "teacher.adapter", "data.source", "eval.source", "data.grader",
    "eval.grader",
)  # fmt: skip
"""Keys that may name a local file or directory to read; a grader as `python:FILE:FUNCTION`."""
SHOWN = 5
"""Mistakes that one message names."""
S = TypeVar("S", bound=ConfigSection)


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file (or a run's `config.json`), apply `a.b=value` overrides, validate.

    A relative path in the file is looked for in the file's directory, then in the working directory; one in an override
    in the working directory only. Raises `UserError` with one sentence that names the file, the key and the remedy.
    """
    path = Path(path)
    tree = read_mapping(path)
    if isinstance(tree.get("eval"), dict) and tree["eval"].get("unsafe_code"):
        raise UserError(
            f"{path}: eval.unsafe_code is for one command line; take it out of the file and add eval.unsafe_code=true."
        )
    changes = list(overrides)
    try:
        return validate(apply_overrides(found_from(path, tree), changes), where=str(path))
    except UserError as error:
        if path.suffix != ".json" or changes:
            raise
        raise UserError(f"{str(error).rstrip('.')}; put a copy in its place.") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping at the top of a YAML or JSON file."""
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the path of a YAML file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file.") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: not a text file in UTF-8; save it in that encoding, or put a copy in its place."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).") from None
    try:
        tree = _read_json(text) if path.suffix == ".json" else plainyaml.read(text)
    except plainyaml.Trouble as error:
        line = f", line {error.line}" if error.line else ""
        kind, remedy = ("JSON", "; put a copy in its place") if path.suffix == ".json" else ("YAML", "")
        raise UserError(f"{path}{line}: not valid {kind} ({error}){remedy}.") from None
    if not isinstance(tree, dict):
        raise UserError(
            f"{path}: expected sections such as `student:` and `teacher:` at the top level; put them there, or a copy in its place."
        )
    return tree


def _read_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in ((key, sum(k == key for k, _ in pairs)) for key, _ in pairs):
            if count > 1:
                raise plainyaml.Trouble(f"{brief(key)} stands there twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise plainyaml.Trouble(error.msg, error.lineno) from None
    except (RecursionError, ValueError) as error:
        raise plainyaml.Trouble(str(error).partition(";")[0]) from None


def found_from(file: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` with each relative path in it that exists beside `file` written so that it can be found from here.

    In a run's `config.json`, which names everything absolutely, `run.dir` becomes the directory that the file lies in, and
    what was moved along with that directory is found again by the way from the one to the other.
    """
    out = copy.deepcopy(tree)
    folder = file.parent
    home, run = None, out.get("run")
    if "format_version" in out and isinstance(run, dict):
        home, run["dir"] = run.get("dir"), str(folder)
    for section, key in (name.split(".") for name in PATHS):
        values = out.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str):
            before, path, after = _file_in(values[key])
            values[key] = before + _found(path, folder, home) + after
    return out


def _file_in(reference: str) -> tuple[str, str, str]:
    """The part of a reference that may be a path, and what stands before and after it."""
    if not reference.startswith("python:"):
        return "", reference, ""
    file, colon, function = reference.removeprefix("python:").rpartition(":")
    return "python:", file, colon + function


def _found(reference: str, folder: Path, home: Any) -> str:
    if not reference or ":" in reference or "\0" in reference:
        return reference
    try:
        if not Path(reference).is_absolute():
            beside = folder / reference
            here = beside.exists() and not (Path(reference).exists() and Path(reference).samefile(beside))
            return str(beside.resolve()) if here else reference
        if isinstance(home, str) and Path(home).is_absolute() and not Path(reference).exists():
            moved = Path(os.path.normpath(folder.absolute() / os.path.relpath(reference, home)))
            reference = str(moved) if moved.exists() else reference
        return os.path.relpath(reference) if home and Path(reference).is_relative_to(Path.cwd()) else reference
    except (OSError, ValueError):  # such as a name of a thousand characters
        return reference


def portable(config: Config, home: Path) -> dict[str, Any]:
    """What a run's `config.json` holds: every key, with all that is local named absolutely, for use from anywhere."""
    tree = config.model_dump()
    for section, key in (name.split(".") for name in PATHS):
        values = tree.get(section) or {}
        before, file, after = _file_in(values.get(key) or "")
        if file and Path(file).exists():
            values[key] = before + os.path.abspath(file) + after
    tree["run"]["dir"] = os.path.abspath(home)
    return tree


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `tree` with every `a.b=value` set: text as it stands where the key holds text, else read as YAML."""
    values = []
    for item in overrides:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(
                f"Override {brief(item)}: write it as section.key=value, for example rollout.max_new_tokens=50."
            )
        values.append((key, _value(key, text)))
    return merge(tree, values)


def _value(key: str, text: str) -> Any:
    """What the user means by `text`. `null` empties a key that may be empty."""
    allowed = kinds(key)
    if (
        str in allowed
        and (text != "null" or type(None) not in allowed)
        and not (list in allowed and text.startswith("["))
    ):
        return text
    try:
        return plainyaml.read(text)
    except plainyaml.Trouble as error:
        raise UserError(f"Override {brief(key + '=' + text)}: the value is not valid YAML ({error}).") from None


def merge(tree: dict[str, Any], values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A copy of `tree` with every dotted key set.

    A mapping is merged into its section, key by key. Free mappings (`params`, `chat_template_kwargs`) are values like any
    other: they are replaced.
    """
    out = copy.deepcopy(tree)
    known = sections()
    for key, value in values:
        _set(out, key, value, known)
    return out


def _set(tree: dict[str, Any], key: str, value: Any, known: Container[str]) -> None:
    node = tree
    *parents, leaf = key.split(".")
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise UserError(f"{brief(key)} cannot be set: {brief(part)} is a value, not a section.")
    if isinstance(value, dict) and key in known:
        if not isinstance(node.get(leaf), dict):
            node[leaf] = {}
        for name, part in value.items():
            _set(tree, f"{key}.{name}", part, known)
    else:
        node[leaf] = copy.deepcopy(value)


def validate(tree: dict[str, Any], where: str) -> Config:
    """The `Config` that `tree` describes; `where` names its origin in errors."""
    check_format(tree, where)
    return checked(Config, {k: v for k, v in tree.items() if k != "format_version"}, where)


def checked(kind: type[S], tree: dict[str, Any], where: str) -> S:
    """A section of this kind. Raises `UserError` that names the mistakes."""
    _refuse_controls(tree, where, "")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        mistakes = list(dict.fromkeys(explain(e, kind) for e in error.errors()))
        more = [f"and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        raise UserError(f"{where}: {'; '.join(mistakes[:SHOWN] + more)}.") from None


def _refuse_controls(value: Any, where: str, key: str) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_controls(str(name), where, f"a key of {key}" if key else "a key")
            _refuse_controls(part, where, f"{key}.{name}".strip("."))
    elif isinstance(value, list):
        for part in value:
            _refuse_controls(part, where, key)
    elif isinstance(value, str) and (trouble := control_character(value)):
        raise UserError(f"{where}: {visible(key)} holds {trouble}.")
