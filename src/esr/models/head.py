"""A model's own head, on hidden states that are known already: the next-token logits of any architecture."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from esr.models.lm import LM, backbone_name


class _Output(BaseModelOutputWithPast):
    """What heads read of a backbone's output: the hidden states; router logits, caches, attentions and the like are None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Given(nn.Module):
    """Stands in for a backbone whose last hidden states are known already; all else is asked of the real one."""

    def __init__(self, hidden: Tensor, backbone: nn.Module):
        super().__init__()
        self.hidden = hidden
        self.real = (backbone,)  # in a tuple: its parameters are not this module's

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return self if name == "decoder" else getattr(self.__dict__["real"][0], name)

    def forward(self, *args: object, **kwargs: object) -> _Output:
        return _Output(last_hidden_state=self.hidden)  # type: ignore[arg-type]


def head(lm: LM, hidden: Tensor) -> Tensor:
    """(M, V) logits of (M, D) hidden states, through the model's own head.

    The model's own forward runs with its backbone replaced by the given states, so soft-capping, logit scaling and the
    like are whatever the architecture does. A model on another device gets the states, and gives back the logits.
    """
    model, given = lm.causal_lm, hidden.to(lm.device)
    prefix = backbone_name(model)
    backbone: nn.Module = getattr(model, prefix)
    with lm.running():
        model._modules[prefix] = _Given(given[None], backbone)
        try:
            ids = given.new_zeros(1, given.shape[0], dtype=torch.long)
            # `forward`: the hooks of a split model belong to its own forward pass
            return model.forward(input_ids=ids, use_cache=False).logits[0].to(hidden.device)
        finally:
            model._modules[prefix] = backbone
