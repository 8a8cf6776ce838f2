"""What a run holds in memory, computed before it starts: weights, optimiser, activations, caches, logits.

The same functions take loaded models or, for a plan without weights, models on the meta device: all that counts is shapes.
Activations are not guessed from a formula: a forward pass of a few tokens is run, and what it keeps for its backward pass
is added up, so that each architecture, adapter and attention counts as it is.
"""

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from esr.models.lm import LM
from esr.scoring import CHUNK_ELEMENTS, backbone_name

TOKENS = 32
"""Length of the rows whose activations are added up."""
LOGIT_COPIES = 9
"""Tensors of the size of a chunk's logits that live at once in a divergence and its backward pass."""
ENOUGH = 4096
"""Tokens of a micro-batch beyond which a device does no more in the same time, and rows are only padded more."""
SHARE = 0.85
"""Of the free memory that a plan fills: the rest is for what no plan sees (fragments, workspaces)."""


@dataclass(frozen=True)
class Activations:
    """Bytes that a training forward pass keeps for each token."""

    plain: int
    checkpointed: int
    """With gradient checkpointing: the inputs of the layers."""
    layer: int
    """What the largest layer keeps while it is computed again."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a run holds."""

    weights: int
    """Student and teacher; weights that both share count once."""
    optimizer: int
    """Gradients and AdamW's two moments."""
    merged: int
    """Merged copies of the student's linear layers while it writes."""
    cache: int
    """Keys and values of one token of one response (student)."""
    logits: int
    """The divergence at one position."""
    activations: Activations

    def training(self, tokens: int, positions: int, checkpointing: bool) -> int:
        """Peak of a micro-batch of `tokens` padded tokens, of which `positions` carry loss."""
        a = self.activations
        kept = a.checkpointed + a.layer if checkpointing else a.plain
        chunk = min(positions * self.logits, CHUNK_ELEMENTS * 4 * LOGIT_COPIES)
        return self.weights + self.optimizer + tokens * kept + chunk

    def writing(self, rows: int, length: int) -> int:
        """Peak of sampling `rows` responses, prompts and responses together `length` tokens long."""
        return self.weights + self.optimizer + self.merged + rows * length * self.cache

    def micro_batch(self, free: int, row: int, checkpointing: bool | None) -> tuple[int, bool]:
        """(padded tokens of a micro-batch, whether to checkpoint) for rows of `row` tokens in `free` bytes.

        Checkpointing, unless it is set, where less than `ENOUGH` tokens fit without it: it costs a third more time.
        """
        for choice in (False, True) if checkpointing is None else (checkpointing,):
            fixed = self.training(0, row, choice)
            tokens = int((free * SHARE - fixed) / (self.training(1, row, choice) - fixed))
            if tokens >= ENOUGH:
                break
        return max(row, min(tokens, ENOUGH)), choice

    def describe(self, free: int, tokens: int, checkpointing: bool, rows: int, length: int) -> str:
        """One sentence for people: what is held, against what there is, for rollouts of `rows` rows of `length` tokens."""
        gib = lambda size: f"{size / 2**30:.2f} GiB"  # noqa: E731
        train = self.training(tokens, tokens, checkpointing)
        return (
            f"Memory: weights {gib(self.weights)}, gradients and optimiser {gib(self.optimizer)}, "
            f"{gib(train - self.weights - self.optimizer)} for micro-batches of {tokens:,} tokens"
            f"{' with gradient checkpointing' if checkpointing else ''}, {gib(rows * length * self.cache)} for the caches of "
            f"{rows} rollouts; at most {gib(max(train, self.writing(rows, length)))} of {gib(free)}."
        )


def footprint(student: LM, teacher: LM) -> Footprint:
    """What a run with these models holds; they may be on the meta device."""
    trained = sum(4 * p.numel() for p in student.module.parameters() if p.requires_grad)
    linears = sum(
        _bytes(m.weight) for m in student.causal_lm.modules() if isinstance(m, nn.Linear) and not m.weight.requires_grad
    )
    return Footprint(
        weights=sum({p: _bytes(p) for lm in (student, teacher) for p in lm.module.parameters()}.values()),
        optimizer=3 * trained,
        merged=linears,
        cache=cache_bytes(student),
        logits=4 * LOGIT_COPIES * max(student.vocab_size, teacher.vocab_size),
        activations=activations(student),
    )


def available(device: torch.device) -> int:
    """Bytes free for this process: of the accelerator, or of the host's memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def cache_bytes(lm: LM) -> int:
    """Bytes of keys and values for each token."""
    config: Any = lm.causal_lm.config.get_text_config()  # type: ignore[union-attr,operator]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = torch.finfo(lm.autocast or next(lm.module.parameters()).dtype).bits // 8
    return int(2 * config.num_hidden_layers * heads * width * size)


def activations(lm: LM) -> Activations:
    """What a training forward pass of a model keeps for each token."""
    backbone = getattr(lm.causal_lm, backbone_name(lm.causal_lm))
    layers = max((len(m) for m in backbone.children() if isinstance(m, nn.ModuleList)), default=1)
    hidden: int = lm.causal_lm.config.get_text_config().hidden_size  # type: ignore[union-attr,operator]
    training, size = lm.module.training, torch.finfo(lm.autocast or next(lm.module.parameters()).dtype).bits // 8
    lm.module.train()
    try:
        plain = _per_token(lm, backbone)
    finally:
        lm.module.train(training)
    return Activations(plain, (layers + 1) * hidden * size, -(-plain // layers))


def _per_token(lm: LM, backbone: nn.Module) -> int:
    """Bytes kept for a token. What grows with the square of the length counts only if the model's own attention keeps it:
    on the meta device, which has no fused kernel, all attention would."""
    once, twice = _kept(lm, backbone, TOKENS) / TOKENS, _kept(lm, backbone, 2 * TOKENS) / (2 * TOKENS)
    eager = lm.causal_lm.config._attn_implementation == "eager"  # type: ignore[union-attr]
    return int(twice if eager else 2 * once - twice)


def _kept(lm: LM, backbone: nn.Module, length: int) -> int:
    """Bytes that a forward pass of one row of `length` tokens keeps, weights apart."""
    ids = torch.ones(1, length, dtype=torch.long, device=lm.device)
    # On the meta device transformers cannot look into positions to see that no mask is needed.
    mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=lm.device) if lm.device.type == "meta" else None
    weights = {t.untyped_storage()._cdata for t in (*lm.module.parameters(), *lm.module.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in weights:
            kept[key] = tensor
        return tensor

    if lm.dropout is not None:
        lm.dropout.tokens = torch.zeros(1, length, dtype=torch.int32, device=lm.device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), lm.running():
        backbone(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
