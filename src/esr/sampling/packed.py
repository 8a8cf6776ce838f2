"""Weights laid out for decoding: adapters merged in, and on a CPU packed for small-batch products.

Decoding one token at a time multiplies small batches with every weight of the model. An unmerged adapter then triples
the number of products, and the CPU's general matrix product stays far from the memory bandwidth; oneDNN's packed layout
is two to three times faster. Neither touches the model's own weights: each linear layer gets a stand-in for the time of
a `with` block, so that nothing has to be subtracted again and no rounding error builds up in the base.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.models.lm import LM
from esr.sampling.kept import Kept


@contextlib.contextmanager
def decoding(lm: LM, kept: Kept | None = None) -> Iterator[None]:
    """Run `lm`'s linear layers from merged, packed weights inside the block. No gradients in there.

    Weights that are not packed are those of `kept`, at the same addresses each time: graphs that read them stay valid.
    Where servers write for `lm`, nothing is to be done. Raises `UserError` if its weights are on servers that do not write.
    """
    if lm.writer is not None:
        yield
        return
    if lm.scorer is not None:
        raise UserError(
            f"{lm.config.model} is on a server that scores and does not write; set teacher.placement=same, or leave out what it "
            "is to write (eval.teacher=false)."
        )
    replaced: list[nn.Module] = []
    with torch.no_grad(), lm.running():
        try:
            for layer, stand_in in _stand_ins(lm, kept or Kept()):
                layer.forward = stand_in  # type: ignore[method-assign]
                replaced.append(layer)
            yield
        finally:
            for layer in replaced:
                del layer.forward


def _stand_ins(lm: LM, kept: Kept) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """Each linear layer that decodes faster from other weights, with its replacement forward."""
    inside_adapters: set[nn.Module] = set()
    for layer in lm.module.modules():
        if isinstance(layer, BaseTunerLayer):
            inside_adapters.update(layer.modules())
            weight = merged(layer)
            if weight is not None:
                weight = weight.to(lm.autocast or weight.dtype)
                yield layer, product(weight if packable(weight) else kept.hold(layer, weight), layer.base_layer.bias)
        elif type(layer) is nn.Linear and layer not in inside_adapters:
            weight = layer.weight.to(lm.autocast or layer.weight.dtype)
            if packable(weight):
                yield layer, product(weight, layer.bias)
            elif lm.autocast:
                yield layer, product(kept.hold(layer, weight), layer.bias)


def merged(layer: BaseTunerLayer) -> Tensor | None:
    """(out, in) base weight plus the active adapters' updates, summed in float32.

    None if that is not all that the layer does, so that it must run as it is: a quantised base, an adapter that is no
    plain LoRA (DoRA and other variants, biases, other methods), or one that is wrapped around another.
    """
    if not isinstance(layer, LoraLinear) or type(layer.base_layer) is not nn.Linear:
        return None
    base = layer.base_layer.weight
    active = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    if any(name in layer.lora_variant or layer.lora_bias[name] for name in active):
        return None
    weight = base.float()
    for name in active:
        update = layer.lora_B[name].weight.float() @ layer.lora_A[name].weight.float()
        weight = weight.add(update.T if layer.fan_in_fan_out else update, alpha=layer.scaling[name])
    return weight.to(base.dtype)


def packable(weight: Tensor) -> bool:
    """Whether oneDNN can pack this weight: on a CPU, in float32, or in bfloat16 where the processor has the instructions."""
    ops = torch.ops.mkldnn
    usable = (
        torch.backends.mkldnn.is_available()
        and hasattr(ops, "_linear_pointwise")
        and hasattr(ops, "_reorder_linear_weight")
    )
    types = {torch.float32: True, torch.bfloat16: usable and ops._is_mkldnn_bf16_supported()}
    return usable and weight.device.type == "cpu" and types.get(weight.dtype, False)


def product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """x -> x W^T + b, from packed weights where possible."""
    if not packable(weight):
        return lambda x: F.linear(x, weight, bias)
    dtype = weight.dtype  # all that is kept of it: the packed weights are a copy
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    bias = None if bias is None else bias.to(dtype)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")
