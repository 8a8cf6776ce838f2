"""What a run reads besides its configuration, in short: so that a resumed run notices that it was replaced.

Of prompts and problems everything is hashed that training or grading sees. Of a local model: its JSON files and templates
whole; of each weights file the size, the header, and pieces spread over it, 4 MiB in all, which another training of the
same architecture changes almost surely. A model on the hub is known by its name and revision.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from esr.config import Config
from esr.models.load import location
from esr.records.problem import Problem

WEIGHTS = (".safetensors", ".gguf")
PIECES, PIECE = 64, 1 << 16


def data(config: Config, train: Iterable[Problem], problems: Iterable[Problem]) -> dict[str, str]:
    """Digests of the training prompts and of the evaluation problems, by the key that names them."""
    prompts = {"data.source": _short(repr([p.conversation for p in train]))}
    graded = [(p.conversation, p.answer, p.grader, sorted(p.data)) for p in problems]
    return prompts | ({"eval.source": _short(repr(graded))} if config.eval else {})


def models(config: Config) -> dict[str, str]:
    """Digests of local models and adapters, by the key that names them."""
    named = {
        "student.model": location(config.student.model),
        "teacher.model": location(config.teacher.model),
        "student.adapter": config.student.adapter,
        "teacher.adapter": config.teacher.adapter,
    }
    return {key: directory(Path(path)) for key, path in named.items() if path and Path(path).is_dir()}


def directory(folder: Path) -> str:
    """Digest of a model directory."""
    parts = [f"{file.name} {_file(file)}" for file in sorted(folder.iterdir()) if _counts(file)]
    return _short("\n".join(parts))


def _counts(file: Path) -> bool:
    """Whether a model is made from this file; notes beside it may change."""
    return file.is_file() and file.suffix in (*WEIGHTS, ".json", ".jinja", ".txt", ".model")


def _file(file: Path) -> str:
    size = file.stat().st_size
    seen = hashlib.sha256(str(size).encode())
    with file.open("rb") as content:
        if file.suffix not in WEIGHTS or size <= PIECES * PIECE:
            seen.update(content.read())
        else:
            for i in range(PIECES):  # the first piece holds the header, or its beginning
                content.seek(i * (size - PIECE) // (PIECES - 1))
                seen.update(content.read(PIECE))
    return seen.hexdigest()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
