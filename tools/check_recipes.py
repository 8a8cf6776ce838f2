"""Hold `esr export --to verl|ms-swift` against those tools' own configuration, read from their wheels.

    python tools/check_recipes.py .venv-recipes      # with verl and ms-swift in it (pip install --no-deps --target)

Neither can be imported without its GPU stack: verl's keys are looked up in the configuration that it generates for its
trainer, ms-swift's among the fields of its argument classes. TRL's parser itself reads the recipe in `tests/test_trl.py`.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from esr.config import Config
from esr.runs.recipes import translate

CONFIG = Config(
    student={"model": "a/student"},
    teacher={"model": "a/teacher"},
    data={"source": "x.jsonl"},
    loss={"divergence": "jsd"},
)  # type: ignore[arg-type]


def strangers(mine: dict[str, Any], theirs: Any, path: str = "") -> Iterator[str]:
    """Keys of `mine` that `theirs` has not."""
    for key, value in mine.items():
        if not isinstance(theirs, dict) or key not in theirs:
            yield path + key
        elif isinstance(value, dict):
            yield from strangers(value, theirs[key], f"{path}{key}.")


def fields(file: Path) -> set[str]:
    """Annotated fields of the classes in a module, or in a folder's."""
    files = file.rglob("*.py") if file.is_dir() else [file]
    classes = (node for f in files for node in ast.walk(ast.parse(f.read_text())) if isinstance(node, ast.ClassDef))
    return {
        b.target.id for c in classes for b in c.body if isinstance(b, ast.AnnAssign) and isinstance(b.target, ast.Name)
    }


def main(home: Path) -> None:
    generated = yaml.safe_load((home / "verl/trainer/config/_generated_ppo_trainer.yaml").read_text())
    recipe = {k: v for k, v in translate(CONFIG, "verl").settings.items() if k not in ("defaults", "hydra")}
    arguments = Path(str(importlib.util.find_spec("transformers").origin)).with_name("training_args.py")  # type: ignore[union-attr]
    known = fields(arguments).union(
        *(fields(home / "swift" / part) for part in ("arguments", "rlhf_trainers", "trainers"))
    )
    found = {
        "verl": [*strangers(recipe, generated)],
        "ms-swift": sorted(translate(CONFIG, "ms-swift").settings.keys() - known),
    }
    for tool, unknown in found.items():
        print(f"{tool}: {'every key is known' if not unknown else 'unknown keys: ' + ', '.join(unknown)}")
    sys.exit(any(found.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
