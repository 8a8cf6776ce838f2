"""Dropout of the adapters' inputs, as a function of the row and not of the batch.

Whether an element is dropped depends on the row's seed, the token's place in its prompt or response, the layer and the
feature: a counter is hashed, no generator is drawn from. So micro-batches, gradient checkpointing, a step done again and
the device change no gradient, and all samples of a prompt drop the same of it.
"""

import hashlib
from collections.abc import Sequence

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from esr.method.layout import Layout

GOLDEN = -1640531527
"""2^32 over the golden ratio, as a signed 32-bit number: successive multiples are spread evenly."""


def seeds(seed: int, keys: Sequence[str], samples: int = 1) -> Tensor:
    """(B, 2) int32: a seed for the prompt and one for the response of each of `samples` rows of each key, side by side."""
    rows = [[_digest(f"{seed}:{key}"), _digest(f"{seed}:{key}:{i}")] for key in keys for i in range(samples)]
    return torch.tensor(rows, dtype=torch.int32)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big", signed=True)


class Codes:
    """What the dropout modules of one student have in common: (R, L) int32, one number for each token of the last forward
    pass. They stay for its backward pass, in which checkpointed layers run again."""

    tokens: Tensor | None = None

    def set(self, seeds: Tensor, layout: Layout) -> None:
        """Number the tokens of a forward pass by (B, 2) `seeds` and their place."""
        seed = seeds[layout.row, layout.in_response.long()]
        self.tokens = _mix(seed + (layout.place + 1).int() * GOLDEN)


class RowDropout(nn.Module):
    """Dropout with probability `p` of (R, L, D) inputs while training; `p` counts in steps of 2^-16."""

    def __init__(self, p: float, layer: int, codes: Codes):
        super().__init__()
        self.p, self.layer, self.codes = p, layer, codes

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.codes.tokens
        if not self.training or tokens is None or tokens.numel() * x.shape[-1] != x.numel():
            return x
        return _Drop.apply(x, tokens.view(x.shape[:-1]), self.layer, self.p)  # type: ignore[no-any-return]


class _Drop(torch.autograd.Function):
    """Keeps one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, tokens: Tensor, layer: int, p: float) -> Tensor:  # type: ignore[no-untyped-def,override]
        drop = dropped(tokens, x.shape[-1], layer, p)
        ctx.save_for_backward(drop)
        ctx.scale = 1 / (1 - p)
        return (x * ctx.scale).masked_fill_(drop, 0)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def,override]
        return (grad * ctx.scale).masked_fill_(ctx.saved_tensors[0], 0), None, None, None


def dropped(tokens: Tensor, features: int, layer: int, p: float) -> Tensor:
    """(..., features) bool, True with probability `p`, of (...) int32 token codes in layer number `layer`."""
    pairs = torch.arange(-(-features // 2), dtype=torch.int32, device=tokens.device)
    columns = _mix(pairs * GOLDEN + _digest(f"layer {layer}"))
    sixteen_bits = _mix(tokens[..., None] ^ columns).view(torch.int16)
    return sixteen_bits[..., :features] < round(p * 2**16) - 2**15


def _mix(x: Tensor) -> Tensor:
    """int32 numbers scrambled so that each bit depends on all (the constants are MurmurHash3's); a new tensor.

    Shifts are logical, hence the bits that are cut off after them: PyTorch's keep the sign.
    """
    x = (x ^ (x >> 16).bitwise_and_(0xFFFF)) * -2048144789
    x.bitwise_xor_((x >> 13).bitwise_and_(0x7FFFF)).mul_(-1028477379)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def install(module: nn.Module) -> Codes | None:
    """Let a student's adapters drop by row; returns what `Codes` tells them, None if none of them drops anything.

    An adapter on the head has no dropout, as the head runs on chunks of positions; dropout of the model's own, which
    would be drawn by micro-batch, is off.
    """
    codes, head = Codes(), module.get_output_embeddings()  # type: ignore[operator]
    ours: set[nn.Module] = set()
    for number, layer in enumerate(m for m in module.modules() if isinstance(m, LoraLayer)):
        for name, dropout in layer.lora_dropout.items():
            if isinstance(dropout, nn.Dropout) and dropout.p > 0:
                replaced = nn.Identity() if layer is head else RowDropout(dropout.p, number, codes)
                layer.lora_dropout[name] = replaced
                ours.add(replaced)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]
    return codes if any(isinstance(m, RowDropout) for m in ours) else None
