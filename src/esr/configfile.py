"""Config files and overrides: read, merged, validated, with one clear sentence for a mistake. No torch here."""

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from esr.config import Config, Section
from esr.errors import UserError


def load(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file (or a run's `config.json`), apply `a.b=value` overrides, validate.

    Raises `UserError` with one sentence that names the file, the key and the remedy.
    """
    path = Path(path)
    return validate(apply_overrides(read_mapping(path), overrides or []), where=str(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping at the top of a YAML or JSON file."""
    if not path.exists():
        raise UserError(f"{path}: no such config file.")
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the path of a YAML file.")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected sections such as `student:` and `teacher:` at the top level.")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of `tree` with every `a.b=value` set; values are read as YAML."""
    out = yaml.safe_load(yaml.safe_dump(tree))
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"Override {item!r}: write it as section.key=value, for example rollout.max_new_tokens=50.")
        node = out
        *parents, leaf = key.strip().split(".")
        for part in parents:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise UserError(f"Override {item!r}: {part} is a value, not a section.")
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"Override {item!r}: the value is not valid YAML; put it in quotes.") from None
    return out


def validate(tree: dict[str, Any], where: str) -> Config:
    """The `Config` that `tree` describes; `where` names its origin in errors."""
    tree = {k: v for k, v in tree.items() if k != "format_version"}
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_explain(e) for e in error.errors()) + ".") from None


def _explain(error: Any) -> str:
    """One validation error as part of a sentence."""
    key = ".".join(str(part) for part in error["loc"])
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, keys(), n=1, cutoff=0.5) or _same_leaf(key)
        return f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else "")
    if kind == "missing":
        return f"{key} is missing"
    text = error["msg"][0].lower() + error["msg"][1:]
    return f"{key} is {given!r}, but {text.replace('input should', 'it should')}"


def _same_leaf(key: str) -> list[str]:
    """Valid keys whose last part resembles that of `key` (the right name in the wrong section)."""
    leaves = {k.rsplit(".", 1)[-1]: k for k in keys()}
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], list(leaves), n=1, cutoff=0.8)
    return [leaves[n] for n in near]


def keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """All dotted keys of the configuration, sections included."""
    found: list[str] = []
    for name, field in section.model_fields.items():
        found.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                found += keys(kind, f"{prefix}{name}.")
    return found
