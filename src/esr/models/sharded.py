"""A model whose weights are split over the ranks (FSDP2), and made whole where they are needed.

Each layer is a unit that is gathered when it runs, forward and backward. All else (embeddings, norm, head) is one more unit:
the head is applied to as many chunks of positions as a rank happens to have, so that it cannot be gathered when it runs.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from esr.errors import UserError
from esr.models.lm import LM
from esr.ranks import here


def shard(lm: LM, device: torch.device) -> None:
    """Split the weights over the ranks, each part on its rank's `device`; whole they may be on the CPU before.

    Gradients become sums over the ranks, not means. Raises `UserError` if the model is no stack of layers.
    """
    model = lm.causal_lm
    stack = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=None)
    if stack is None or any(p.device.type == "meta" for p in model.parameters()):
        raise UserError(f"{lm.config.model}: it is no stack of layers, and cannot be split over processes.")
    mesh = init_device_mesh(device.type, (here().world,))
    for layer in stack:
        fully_shard(layer, mesh=mesh)
    root = fully_shard(model, mesh=mesh)
    for unit in _units(lm):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo cannot scale
    root._get_fsdp_state()._lazy_init()  # its forward is never called: layers and head are
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)


def _units(lm: LM) -> list[FSDPModule]:
    return [m for m in lm.causal_lm.modules() if isinstance(m, FSDPModule)]


def sharded(lm: LM) -> bool:
    """Whether its weights are split over the ranks."""
    return isinstance(lm.causal_lm, FSDPModule)


def with_ends(lm: LM) -> None:
    """Gather what is no layer, which stays whole until the model's next backward pass ends. All ranks do so together."""
    if isinstance(lm.causal_lm, FSDPModule):
        lm.causal_lm.unshard()


@contextlib.contextmanager
def gathered(lm: LM) -> Iterator[None]:
    """All weights are whole on every rank inside the block, in which ranks may run the model as often as they like."""
    units = _units(lm)
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not lm.causal_lm, recurse=False)
            unit.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor, gathered from all ranks if it is split."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """A split model's weights, gathered one by one; rank 0 keeps them, on the CPU. Shared ones have one name."""
    again = {n for n, _ in module.named_parameters(remove_duplicate=False)} - {n for n, _ in module.named_parameters()}
    kept = {}
    for name, tensor in module.state_dict().items():
        if name not in again:
            full = whole(tensor)
            if here().first:
                kept[name] = full.cpu().contiguous()
    return kept


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor placed, and split, as another one is."""
    if not isinstance(like, DTensor):
        return tensor.to(like)
    return distribute_tensor(tensor.to(like.device, like.dtype), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def load_whole(module: nn.Module, file: Path) -> None:
    """Put a file's whole weights into a split model. Raises `RuntimeError` unless they are its own."""
    own = dict(module.named_parameters(remove_duplicate=False))
    found = {name: tensor for name, tensor in load_file(file).items() if name in own}
    if {id(own[name]) for name in found} != {id(p) for p in own.values()}:
        raise RuntimeError("its weights are not this model's")
    for name, tensor in found.items():
        own[name].copy_(part_of(tensor, own[name]))
