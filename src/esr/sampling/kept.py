"""What stays on a device from one step's rollouts to the next's, so that captured graphs stay valid."""

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from esr import memory
from esr.sampling.sampler import Sampler
from esr.sampling.slots import Slots


@dataclass(eq=False)
class Kept:
    """A copy of the merged weights, and slots with their cache and graphs. It is given up when memory runs out."""

    slots: Slots | None = None
    weights: dict[nn.Module, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        memory.SPARE.add(self)

    def drop(self) -> None:
        """Give everything up; it is made again when it is next needed."""
        self.slots = None
        self.weights.clear()

    def hold(self, layer: nn.Module, weight: Tensor) -> Tensor:
        """`weight` at the address where this layer's was before."""
        own = self.weights.get(layer)
        if own is None or own.shape != weight.shape or own.dtype != weight.dtype:
            self.slots = None
            own = self.weights[layer] = weight.clone()
        else:
            own.copy_(weight)
        return own

    def fitting(self, rows: int, columns: int, sampler: Sampler) -> Slots | None:
        """The slots, if they are large enough and sample in the same way."""
        own = self.slots
        if own is None or replace(own.sampler, max_new_tokens=0) != replace(sampler, max_new_tokens=0):
            return None
        room = own.whole["ids"].shape
        return own if room[0] >= rows and room[1] >= sampler.max_new_tokens and own.capacity >= columns else None
