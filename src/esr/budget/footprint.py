"""What two models hold in memory: weights, optimiser, activations, caches, logits. `esr.budget` plans a run with it.

The same functions take loaded models or models on the meta device, which have no weights: all that counts is shapes.
Activations and caches are not guessed from a formula: a forward pass of a few tokens is run, and what it keeps is added
up, so that each architecture, adapter and attention counts as it is.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import DynamicCache

from esr.models.lm import LM, backbone_name
from esr.scoring import CHUNK_ELEMENTS

TOKENS = 32
"""Length of the rows whose activations are added up."""
LOGIT_COPIES = 9
"""Tensors of the size of a chunk's logits that live at once in a divergence and its backward pass."""
SAMPLED_COPIES = 4
"""The same while tokens are sampled."""


@dataclass(frozen=True)
class Activations:
    """Bytes that a training forward pass keeps for each token."""

    plain: int
    checkpointed: int
    """With gradient checkpointing: the inputs of the layers."""
    layer: int
    """What the largest layer keeps while it is computed again."""
    fixed: int = 0
    """Of a pass, not of a token: weights in the type of autocast."""


@dataclass(frozen=True)
class Held:
    """Bytes that one model holds."""

    weights: int
    copies: int
    """Merged or packed copies of its linear layers while it writes."""
    layer: int
    """Weights of its largest layer."""
    head: int
    """Weights of its head."""
    cache: int
    """Keys and values of each token of a response that it writes."""
    state: int
    """What its cache holds of a response whatever its length."""
    logits: int
    """Logits at one position, in float32."""

    def writing(self, rows: int, length: int) -> int:
        """Sampling `rows` responses, prompt and response together `length` tokens long, beside the weights."""
        return self.copies + rows * self.each(length)

    def each(self, length: int) -> int:
        """One more response that is sampled."""
        return length * self.cache + self.state + SAMPLED_COPIES * self.logits


@dataclass(frozen=True)
class Footprint:
    """Bytes that a student and a teacher hold in training."""

    student: Held
    teacher: Held
    """Weights that it shares with the student are not counted again."""
    trained: int
    """Weights that are trained, in float32: as much as their gradients, and as each of AdamW's two moments."""
    activations: Activations

    @property
    def optimizer(self) -> int:
        """Gradients and AdamW's two moments."""
        return 3 * self.trained

    def micro_batch(self, tokens: int, positions: int, checkpointing: bool) -> int:
        """A micro-batch of `tokens` padded tokens, of which `positions` carry loss, beside weights and optimiser."""
        a = self.activations
        kept = a.checkpointed + a.layer if checkpointing else a.plain
        logits = LOGIT_COPIES * max(self.student.logits, self.teacher.logits)
        return a.fixed + tokens * kept + min(positions * logits, CHUNK_ELEMENTS * 4 * LOGIT_COPIES)


def footprint(student: LM, teacher: LM, device: torch.device) -> Footprint:
    """What a run with these models on `device` holds; they may be on the meta device."""
    ours = set(student.module.parameters())
    return Footprint(
        student=held(student, device),
        teacher=held(teacher, device, shared=ours),
        trained=sum(4 * p.numel() for p in ours if p.requires_grad),
        activations=activations(student),
    )


def held(lm: LM, device: torch.device, shared: Set[nn.Parameter] = frozenset()) -> Held:
    """What one model on `device` holds; weights among the `shared` ones are another's."""
    model, cache = lm.causal_lm, cache_bytes(lm)
    layers = [sum(map(_bytes, m.parameters())) for block in _blocks(_backbone(lm)) for m in block]
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
    return Held(
        weights=sum(_bytes(p) for p in lm.module.parameters() if p not in shared),
        copies=sum(m.weight.numel() * (lm.autocast or m.weight.dtype).itemsize for m in _copied(lm, device)),
        layer=max(layers, default=0),
        head=sum(map(_bytes, head.parameters())) if head is not None else 0,
        cache=cache[0],
        state=cache[1],
        logits=4 * lm.vocab_size,
    )


def _copied(lm: LM, device: torch.device) -> Iterator[nn.Linear]:
    """Linear layers of which decoding makes a copy: those with an adapter; on a CPU, or in another type, the others too."""
    inside: set[nn.Module] = set()
    for part in lm.module.modules():
        if isinstance(part, BaseTunerLayer):
            inside.update(part.modules())
            if isinstance(part.base_layer, nn.Linear):
                yield part.base_layer
        elif isinstance(part, nn.Linear) and part not in inside and (lm.autocast or device.type == "cpu"):
            yield part


def cache_bytes(lm: LM) -> tuple[int, int]:
    """Bytes that the cache of a response holds: for each token, and whatever the length (recurrent states).

    Layers with a sliding window count for each token too: windows are long against responses.
    """
    try:
        once, twice = _cached(lm, TOKENS), _cached(lm, 2 * TOKENS)
    except Exception:  # an architecture that runs only with its weights
        return _by_shape(lm), 0
    return (twice - once) // TOKENS, max(0, 2 * once - twice)


def _cached(lm: LM, length: int) -> int:
    """Bytes of the cache of one row of `length` tokens."""
    cache = DynamicCache(config=lm.causal_lm.config)  # type: ignore[arg-type]
    with torch.no_grad(), lm.running():
        _forward(lm, length, past_key_values=cache, use_cache=True)
    found = (value for layer in cache.layers for value in vars(layer).values() if isinstance(value, Tensor))
    return sum(map(_bytes, found))


def _by_shape(lm: LM) -> int:
    """Bytes of keys and values for each token, by what is usual."""
    config: Any = lm.causal_lm.config.get_text_config()  # type: ignore[union-attr,operator]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * _element(lm))


def activations(lm: LM) -> Activations:
    """What a training forward pass of a model keeps for each token."""
    layers = max(map(len, _blocks(_backbone(lm))), default=1)
    hidden: int = lm.causal_lm.config.get_text_config().hidden_size  # type: ignore[union-attr,operator]
    training = lm.module.training
    lm.module.train()
    try:
        fixed, plain = _of_a_pass(lm)
    finally:
        lm.module.train(training)
    return Activations(plain, (layers + 1) * hidden * _element(lm), -(-plain // layers), fixed)


def _of_a_pass(lm: LM) -> tuple[int, int]:
    """Bytes kept whatever the length, which only autocast does, and for each token. What grows with the square of the length
    counts only if the model's own attention keeps it: on the meta device, which has no fused kernel, all attention would."""
    powers = (0, 1, 2) if lm.autocast else (1, 2)
    lengths = [TOKENS * (i + 1) for i in range(len(powers))]
    kept = [_kept(lm, length) for length in lengths]
    *fixed, each, square = np.linalg.solve([[length**p for p in powers] for length in lengths], kept)
    eager = lm.causal_lm.config._attn_implementation == "eager"  # type: ignore[union-attr]
    return round(sum(fixed)), int(each + 2 * TOKENS * square * eager)


def _kept(lm: LM, length: int) -> int:
    """Bytes that a forward pass of one row of `length` tokens keeps, weights apart."""
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
        _forward(lm, length, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _forward(lm: LM, length: int, **options: Any) -> None:
    """One row of `length` tokens through the model without its head."""
    ids, mask = torch.ones(1, length, dtype=torch.long, device=lm.device), None
    if lm.device.type == "meta":  # there transformers cannot look into positions to see that no mask is needed
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=lm.device)
    _backbone(lm)(input_ids=ids, attention_mask=mask, **options)


def _backbone(lm: LM) -> nn.Module:
    return getattr(lm.causal_lm, backbone_name(lm.causal_lm))  # type: ignore[no-any-return]


def _blocks(module: nn.Module) -> Iterator[nn.ModuleList]:
    """Lists of layers; not lists inside a layer, such as experts."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _blocks(child)


def _element(lm: LM) -> int:
    """Bytes of a number in its forward pass."""
    return torch.finfo(lm.autocast or next(lm.module.parameters()).dtype).bits // 8


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
