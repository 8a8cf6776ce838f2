"""YAML as people mean it: the core schema of YAML 1.2, each key once, nothing endless. No torch here.

YAML 1.1, which PyYAML reads, takes `no` for false, `010` for 8, `1:30` for 90 and `2024-07-26` for a date, lets the second
of two equal keys win in silence, and reads `1e-4` as text. Here `true`, `false`, `null` and plain numbers are what they
look like and all else is text.
"""

import re
from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from esr.console.foreign import brief, control_character, visible

DEEPEST = 40
LARGEST = 200_000
"""Values in one document, aliases counted each time."""


class Trouble(ValueError):
    """What is wrong with a document, in words that fit into a sentence, and its line where there is one."""

    def __init__(self, text: str, line: int | None = None):
        super().__init__(text)
        self.line = line


class Loader(yaml.SafeLoader):
    """Builds plain Python values; raises `Trouble`."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping from text, unless a key occurs twice."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise Trouble("a list or mapping cannot be a key", line)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise Trouble(f"{brief(key.value)} stands there twice (first in line {seen[key.value]})", line)
            seen[key.value], key.tag = line, "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: ScalarNode) -> int:
        """A whole number of at most 64 bits."""
        if len(node.value) > 20 or abs(int(node.value)) >= 2**63:
            raise Trouble(f"the number {brief(node.value)} is too large", node.start_mark.line + 1)
        return int(node.value)


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("merge", r"<<", ["<"]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), first)
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_integer)


def read(text: str) -> Any:
    """The value of a document. Raises `Trouble`."""
    if trouble := control_character(text):
        raise Trouble(f"it holds {trouble}")
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, frozenset(), 0)
        return loader.construct_document(node)
    except RecursionError:
        raise Trouble(f"it is nested deeper than {DEEPEST} levels") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise Trouble(visible(problem)[:120], mark.line + 1 if mark else None) from None
    finally:
        loader.dispose()


def _measure(node: Node, sizes: dict[int, int], above: frozenset[int], depth: int) -> int:
    """How many values a node stands for; refuses what contains itself, is nested too deeply, or grows too large."""
    if id(node) in above:
        raise Trouble("an alias stands inside what it names", node.start_mark.line + 1)
    if depth > DEEPEST:
        raise Trouble(f"it is nested deeper than {DEEPEST} levels", node.start_mark.line + 1)
    if id(node) not in sizes:
        inside: list[Node] = []
        if isinstance(node, SequenceNode):
            inside = node.value
        elif isinstance(node, MappingNode):
            inside = [part for pair in node.value for part in pair]
        sizes[id(node)] = 1 + sum(_measure(part, sizes, above | {id(node)}, depth + 1) for part in inside)
    if sizes[id(node)] > LARGEST:
        raise Trouble(f"it stands for more than {LARGEST:,} values", node.start_mark.line + 1)
    return sizes[id(node)]
