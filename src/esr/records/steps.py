"""How a step is spelled where it names a file: `step-000200`. No torch here."""

import re


def step_name(step: int) -> str:
    """`step-000200`; names sort as steps do."""
    return f"step-{step:06d}"


def step_of(name: str) -> int | None:
    """The step that `step_name` spelled; None for any other name."""
    match = re.fullmatch(r"step-(\d{6,})", name)
    return int(match[1]) if match else None


BEFORE = step_name(0)
"""The untrained student."""
