"""Caches that grow with what is written, and whose rows can be kept, replaced and shortened while others are being written.

All rows of a cache write at the same column; a row that came later, or has a shorter prompt, has padding on its left.
"""

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from esr.models.lm import LM


def new_cache(lm: LM, capacity: int) -> DynamicCache:
    """The model's own cache, with room reserved in its plain attention layers."""
    cache = DynamicCache(config=lm.causal_lm.config)
    cache.layers = [Reserved(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


REPLACEABLE = {
    "Reserved", "DynamicSlidingWindowLayer", "LinearAttentionLayer", "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer", "DummyLayer", "FixedLayer",
}  # fmt: skip
"""Layers whose rows are known to hold nothing but keys, values and states."""


def replaceable(cache: Cache) -> bool:
    """Whether rows of this cache can be replaced by others while the rest is being written."""
    return all(type(layer).__name__ in REPLACEABLE for layer in cache.layers)


def replace_rows(cache: DynamicCache, rows: Tensor, new: DynamicCache) -> None:
    """Put the rows of `new`, which has no more columns, in the place of the given rows, ending at the same column."""
    for old, layer in zip(cache.layers, new.layers, strict=True):
        for name in ("keys", "values"):
            if isinstance(into := getattr(old, name, None), Tensor):
                given = getattr(layer, name)
                into[:, :, into.shape[2] - given.shape[2] :].index_copy_(0, rows, given)
        for name in ("conv_states", "recurrent_states"):
            for key, state in getattr(old, name, {}).items():
                if state is not None:
                    state.index_copy_(0, rows, getattr(layer, name)[key])


def keep_columns(cache: DynamicCache, count: int) -> None:
    """Forget all but the last `count` columns, which hold all that a row still needs."""
    for layer in cache.layers:
        if isinstance(layer, Reserved):
            layer.keep_columns(count)
        elif isinstance(getattr(layer, "keys", None), Tensor):
            layer.keys, layer.values = layer.keys[:, :, -count:], layer.values[:, :, -count:]
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = count


class Reserved(DynamicLayer):
    """A growing key-value cache that writes into reserved room instead of copying itself at each token."""

    STEP = 256
    is_initialized: bool
    room_k: Tensor
    room_v: Tensor

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (B, H, S, D) states; returns all states so far, as views."""
        length = self.get_seq_length()
        needed = length + key_states.shape[2]
        if not self.is_initialized or needed > self.room_k.shape[2]:
            self._grow(key_states, value_states, needed)
        self.room_k[:, :, length:needed] = key_states
        self.room_v[:, :, length:needed] = value_states
        self.keys, self.values = self.room_k[:, :, :needed], self.room_v[:, :, :needed]
        return self.keys, self.values

    def _grow(self, key_states: Tensor, value_states: Tensor, needed: int) -> None:
        room = min(max(self.capacity, needed), needed + self.STEP)
        old_k, old_v, length = self.keys, self.values, self.get_seq_length()
        self.room_k = key_states.new_empty(*key_states.shape[:2], room, key_states.shape[3])
        self.room_v = value_states.new_empty(*value_states.shape[:2], room, value_states.shape[3])
        if length:
            self.room_k[:, :, :length], self.room_v[:, :, :length] = old_k, old_v
        self.is_initialized, self.dtype, self.device = True, key_states.dtype, key_states.device

    def keep_columns(self, count: int) -> None:
        """Forget all but the last `count` columns."""
        length = self.get_seq_length()
        for room in (self.room_k, self.room_v):
            room[:, :, :count] = room[:, :, length - count : length].clone()
        self.keys, self.values = self.room_k[:, :, :count], self.room_v[:, :, :count]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep or repeat the given rows."""
        length = self.get_seq_length()
        self.room_k, self.room_v = self.room_k.index_select(0, beam_idx), self.room_v.index_select(0, beam_idx)
        self.keys, self.values = self.room_k[:, :, :length], self.room_v[:, :, :length]
