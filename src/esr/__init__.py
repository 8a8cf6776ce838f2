"""On-policy distillation of language models with Early Stopping Rollout (ESR, arXiv:2605.27028).

Each public name is loaded when it is first used, so that `import esr` is light; docs/python.md shows them at work.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esr.api import analyze, distil, evaluate_model, write_report
    from esr.config import Config
    from esr.config.configfile import load as load_config
    from esr.errors import RunStopped, UserError
    from esr.runs.rundir import RunDir, open_run

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # read when CUDA starts; caches grow and shrink

__version__ = "0.1.0"
__all__ = [
    "Config", "RunDir", "RunStopped", "UserError", "__version__", "analyze", "distil", "evaluate_model", "load_config",
    "open_run", "write_report",
]  # fmt: skip

_HOMES = {
    "analyze": "api", "distil": "api", "evaluate_model": "api", "write_report": "api", "Config": "config",
    "load_config": "config.configfile:load", "RunStopped": "errors", "UserError": "errors", "RunDir": "runs.rundir",
    "open_run": "runs.rundir",
}  # fmt: skip
"""Module of each public name, and what it is called there if that is another name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'esr' has no attribute {name!r}")
    module, _, own = _HOMES[name].partition(":")
    return getattr(import_module(f"esr.{module}"), own or name)


def __dir__() -> list[str]:
    return __all__
