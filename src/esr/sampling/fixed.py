"""A cache of fixed size at fixed addresses, so that a device can decode without being told anything by the host.

Where the next column lies is a number on the device. Attention sees all columns, and a mask hides those that hold nothing.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin

from esr.console import say
from esr.memory import out_of_memory
from esr.models.lm import LM
from esr.models.same import distance, tolerance
from esr.sampling.cache import Reserved, new_cache
from esr.sampling.forward import forward

HELD = ("Reserved", "DynamicSlidingWindowLayer")
"""Layers of a growing cache that hold keys and values alone."""
EMPTY = "DummyLayer"


class FixedLayer(CacheLayerMixin):
    """Keys and values of one layer in a room of (B, H, C, D) of which the first rows and columns are in use."""

    is_compileable = True

    def __init__(self, like: Reserved, rows: int, columns: int, column: Tensor):
        super().__init__()
        self.is_sliding = bool(getattr(like, "is_sliding", False))
        self.column = column
        self.room_k, self.room_v = (
            states.new_zeros(rows, states.shape[1], columns, states.shape[3]) for states in (like.keys, like.values)
        )
        self.is_initialized = True
        self.use(rows, columns)

    def use(self, rows: int, columns: int) -> None:
        """Take part with the first rows and columns only."""
        self.keys, self.values = self.room_k[:rows, :, :columns], self.room_v[:rows, :, :columns]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write (B, H, 1, D) states at the column; returns everything."""
        self.keys.index_copy_(2, self.column.view(1), key_states)  # type: ignore[union-attr]
        self.values.index_copy_(2, self.column.view(1), value_states)  # type: ignore[union-attr]
        return self.keys, self.values  # type: ignore[return-value]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do: the room is there from the start."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0  # type: ignore[union-attr]

    def get_seq_length(self) -> int:
        return self.column  # type: ignore[return-value]  # a number on the device: the host is not told

    def get_max_length(self) -> int:
        return self.room_k.shape[2]


class FixedCache(Cache):
    """The layers of a model's cache at fixed size. `column` is where the next token is written."""

    def __init__(self, like: DynamicCache, rows: int, columns: int):
        first = next(layer for layer in like.layers if type(layer).__name__ in HELD)
        self.column = torch.zeros((), dtype=torch.long, device=first.keys.device)
        layers = [
            FixedLayer(layer, rows, columns, self.column) if type(layer).__name__ in HELD else layer
            for layer in like.layers
        ]
        super().__init__(layers=layers)

    @property
    def held(self) -> list[FixedLayer]:
        return [layer for layer in self.layers if isinstance(layer, FixedLayer)]

    def use(self, rows: int, columns: int) -> None:
        """Take part with the first rows and columns only."""
        for layer in self.held:
            layer.use(rows, columns)

    def replace_rows(self, rows: Tensor, new: DynamicCache, end: int) -> None:
        """Put the rows of a growing cache in the place of the given rows, ending before column `end`."""
        for old, layer in zip(self.layers, new.layers, strict=True):
            if isinstance(old, FixedLayer):
                for into, given in ((old.room_k, layer.keys), (old.room_v, layer.values)):
                    into[:, :, end - given.shape[2] : end].index_copy_(0, rows, given)

    def keep_rows(self, rows: Tensor) -> None:
        """The given rows become the first ones."""
        for layer in self.held:
            for room in (layer.room_k, layer.room_v):
                room[: len(rows)] = room.index_select(0, rows)

    def keep_columns(self, first: int, end: int) -> None:
        """The columns from `first` to `end` become the first ones."""
        for layer in self.held:
            for room in (layer.room_k, layer.room_v):
                room[:, :, : end - first] = room[:, :, first:end].clone()
        self.column.sub_(first)


def fits(lm: LM) -> bool:
    """Whether `lm` decodes the same from a fixed cache. Found out once for each model, by running it, and said if not."""
    if lm.module not in _FITS:
        reason = _differs(lm)
        _FITS[lm.module] = not reason
        if reason:
            say(f"{lm.config.model} decodes from a growing cache, which is slower on a GPU ({reason}).")
    return _FITS[lm.module]


_FITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
STEPS = 3


@torch.no_grad()
def _differs(lm: LM) -> str:
    """What keeps `lm` from a fixed cache; "" for nothing: two padded rows are written from both caches and compared."""
    ids = (torch.arange(2 * (8 + STEPS), device=lm.device).view(2, -1) * 7 + 3) % lm.vocab_size
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :4] = False
    training = lm.module.training
    lm.module.eval()
    try:
        with lm.running():
            growing = new_cache(lm, ids.shape[1])
            forward(lm, ids[:, :8], mask[:, :8], growing)
            unknown = {type(layer).__name__ for layer in growing.layers} - {*HELD, EMPTY}
            if unknown:
                return f"its layers are {', '.join(sorted(unknown))}"
            fixed = FixedCache(growing, 2, ids.shape[1] + 5)
            fixed.replace_rows(torch.arange(2, device=lm.device), growing, 8)
            fixed.column.fill_(8)
            wide = torch.zeros(2, ids.shape[1] + 5, dtype=torch.bool, device=lm.device)
            wide[:, :8] = mask[:, :8]
            for t in range(8, 8 + STEPS):
                wide[:, t] = True
                at = mask[:, : t + 1].sum(1, keepdim=True) - 1
                own = forward(lm, ids[:, t : t + 1], mask[:, : t + 1], growing, at)
                found = forward(lm, ids[:, t : t + 1], wide, fixed, at)
                fixed.column.add_(1)
                apart = distance(own, found)
                if not apart <= tolerance(own.dtype):
                    return f"from a fixed one it differs by {apart:.2g} nats a token"
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        return " ".join(str(error).split())[:120] or type(error).__name__
    finally:
        lm.module.train(training)
    return ""
