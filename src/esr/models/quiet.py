"""Libraries that say too much are quiet where the run says it itself."""

import contextlib
import warnings
from collections.abc import Iterator

import transformers
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars over weights (the run has its own), and its warning at what PEFT reads.

    Downloads keep their bars: minutes of silence would look like a program that hangs.
    """
    bars, downloads = transformers.utils.logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    transformers.utils.logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
