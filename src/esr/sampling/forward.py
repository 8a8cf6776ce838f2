"""One forward pass from a cache."""

from torch import Tensor
from transformers.cache_utils import Cache

from esr.models.lm import LM


def forward(lm: LM, ids: Tensor, mask: Tensor, cache: Cache, positions: Tensor | None = None) -> Tensor:
    """(B, V) logits after the last of `ids` (B, S); `mask` (B, C) covers all columns of the cache, theirs among them.

    `positions` (B, S): which token of its row each one is; without, `mask` ends with them.
    """
    if positions is None:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    out = lm.causal_lm(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1]
