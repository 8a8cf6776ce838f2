"""The keys of the configuration, as its models declare them: all of them, sections, the types of their values. No torch here."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from esr.config import Config, ConfigSection


def kinds(key: str) -> set[Any]:
    """The types that the value of a key may have; a choice among words is text."""
    section: type[ConfigSection] | None = Config
    *parents, leaf = key.split(".")
    for part in parents:
        section = section and nested(section).get(part)
    field = section.model_fields.get(leaf) if section else None
    return set(_members(field.annotation)) if field else set()


def _members(annotation: Any) -> Iterator[Any]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        for part in inside:
            yield from _members(part)
    elif origin is Annotated:
        yield from _members(inside[0])
    elif origin is Literal:
        yield from map(type, inside)
    else:
        yield origin or annotation


def nested(section: type[ConfigSection]) -> dict[str, type[ConfigSection]]:
    """The keys of a section that are sections themselves."""
    found = {name: _members(field.annotation) for name, field in section.model_fields.items()}
    return {n: k for n, ks in found.items() for k in ks if isinstance(k, type) and issubclass(k, ConfigSection)}


def keys(section: type[ConfigSection] = Config, prefix: str = "") -> list[str]:
    """All dotted keys of the configuration, sections included."""
    inner = nested(section)
    found: list[str] = []
    for name in section.model_fields:
        found.append(prefix + name)
        if name in inner:
            found += keys(inner[name], f"{prefix}{name}.")
    return found


def sections(section: type[ConfigSection] = Config, prefix: str = "") -> set[str]:
    """The dotted keys that are sections."""
    return {prefix + n for n in nested(section)}.union(
        *(sections(kind, f"{prefix}{n}.") for n, kind in nested(section).items())
    )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
