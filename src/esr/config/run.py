"""Where and how a run runs."""

from typing import Literal

from pydantic import Field

from esr.config.section import ConfigSection, LocalPath, Seed


class RunConfig(ConfigSection):
    """Where and how a run runs."""

    dir: LocalPath | None = None
    """Run directory. Default: `runs/` and the config file's name."""
    seed: Seed = 42
    """Seed of the data order, the rollouts and the dropout."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ..."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Threads of computation on a CPU. Default: what torch chooses when the run begins, and the same when it goes on."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between checkpoints; one is always written at the end."""
    rollouts_every: int = Field(10, ge=1)
    """Steps between records of a few rollouts in `rollouts.jsonl`."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Where metrics go besides `metrics.jsonl`."""
