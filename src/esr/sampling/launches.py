"""What a piece of work asks of a device, counted: kernels launched, and times that the host waits for an answer."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "equal",
    "repeat_interleave", "is_nonzero", "_assert_async", "nonzero_numpy",
}  # fmt: skip
"""Operations whose result, or its shape, the host must know before it can go on. (`lift_fresh` sends numbers of the host.)"""
SILENT = {"empty", "new_empty", "empty_like", "new_empty_strided", "empty_strided", "detach"}
"""Operations that start nothing on a device, besides views."""


class Launches(TorchDispatchMode):
    """Counts operations by name while it is entered: `kernels` that start work on a device, and `waits` for it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if name == "lift_fresh":
            self.waits[name] += result.device.type == self.device.type
        elif name in WAITS or _selects_by_truth(name, args) or _crosses(name, args, result):
            self.waits[name] += 1
        elif name not in SILENT and not _is_view(func):
            self.kernels[name] += 1
        return result


def _is_view(func: Any) -> bool:
    returned = [r.alias_info for r in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)


def _selects_by_truth(name: str, args: Any) -> bool:
    """Indexing by a boolean tensor counts its true entries first."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    return any(t is not None and t.dtype == torch.bool for t in args[1])


def _crosses(name: str, args: Any, result: Any) -> bool:
    """A copy between the host and a device."""
    if name not in ("_to_copy", "copy_") or not isinstance(result, Tensor):
        return False
    return any(isinstance(a, Tensor) and a.device.type != result.device.type for a in args)
