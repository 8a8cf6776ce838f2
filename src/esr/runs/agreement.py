"""What may differ between a run and its resumption, and what must not. No torch here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from esr.config import Config
from esr.config.keys import flatten
from esr.console.foreign import brief
from esr.errors import UserError

FREE_TO_CHANGE = (
    "run.dir", "run.trackers", "run.checkpoint_every", "run.rollouts_every", "optim.micro_batch_tokens",
    "optim.gradient_checkpointing", "optim.on_nonfinite", "eval.every", "eval.batch_size", "run.device", "run.threads",
    "teacher.server", "rollout.server", "eval.server",
    "teacher.placement", "teacher.device",
)  # fmt: skip
"""Keys that may differ between a run and its resumption: they change no number beyond rounding."""


class Change(NamedTuple):
    """A key whose value is another one now."""

    key: str
    old: object
    new: object


def differences(
    old: Config, new: Config, before: dict[str, str], inputs: dict[str, str]
) -> tuple[list[Change], list[str]]:
    """Keys that differ and change numbers, and keys that name something else than they did.

    `before` and `inputs` are digests of what is read, by key: data under another name are the same data.
    """
    free = {*FREE_TO_CHANGE, *(key for key in inputs if before.get(key) == inputs[key])}
    was, now = flatten(old.model_dump()), flatten(new.model_dump())
    changed = [Change(k, was.get(k), now.get(k)) for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k)]
    replaced = [key for key in inputs if key in before and before[key] != inputs[key]]
    return [change for change in changed if change.key not in free], replaced


def require(path: Path, changed: Sequence[Change], replaced: Sequence[str]) -> None:
    """Raise `UserError` if the run at `path`, which has been trained, cannot go on like that."""
    if changed:
        shown = ", ".join(f"{c.key}: {brief(c.old, 40)} -> {brief(c.new, 40)}" for c in changed[:3])
        raise UserError(
            f"{path} holds a run with another configuration ({shown}). Choose another run.dir, or add --fresh to "
            "move that run aside and start anew."
        )
    if replaced:
        raise UserError(
            f"{path}: what {', '.join(replaced)} names was replaced since this run began. Put it back, choose another "
            "run.dir, or add --fresh to move that run aside and start anew."
        )
