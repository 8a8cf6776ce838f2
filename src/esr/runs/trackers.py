"""Metrics to TensorBoard, wandb or trackio, through accelerate's trackers."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator

from esr.config import Config
from esr.config.keys import flatten
from esr.errors import UserError
from esr.runs.rundir import RunDir

Log = Callable[[dict[str, float], int], None]


def check(config: Config) -> None:
    """Raise `UserError` if a tracker in `run.trackers` is not installed."""
    for name in config.run.trackers:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"run.trackers names {name}, which is not installed; pip install 'esr-distill[{name}]'.")


@contextlib.contextmanager
def trackers(config: Config, run: RunDir) -> Iterator[Log]:
    """A function that sends (metrics, step) to every tracker in `run.trackers`; closes them afterwards."""
    if not config.run.trackers:
        yield lambda metrics, step: None
        return
    from accelerate import Accelerator

    accelerator = Accelerator(
        log_with=list(config.run.trackers), project_dir=str(run.path), cpu=config.run.device == "cpu"
    )
    settings = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in flatten(config.model_dump()).items()}
    accelerator.init_trackers("esr", config=settings)
    try:
        yield lambda metrics, step: accelerator.log(metrics, step=step)
    finally:
        for tracker in accelerator.trackers:  # `end_training` would end the group of processes too
            tracker.finish()
