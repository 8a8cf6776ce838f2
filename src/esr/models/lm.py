"""A causal language model with its tokenizer, and how to run it."""

import contextlib
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import peft
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import (
    PreTrainedTokenizerBase,
)

from esr.config import ModelConfig
from esr.errors import UserError
from esr.method.tensors import Prompts, Rollout
from esr.models.dropout import Codes
from esr.models.machine import auto_dtype

# cuDNN's attention gives NaN gradients under some masks (pytorch#196678). Scoring has no mask; decoding has one.
torch.backends.cuda.enable_cudnn_sdp(False)

STUDENT = "default"
TEACHER = "teacher"


class Scorer(Protocol):
    """What a server says of the tokens of responses; questions with different `turn` may go to different servers."""

    def __call__(self, prompts: Prompts, rollout: Rollout, turn: int = 0) -> Tensor:
        """(M, ...) of the M response tokens."""
        ...


class Writer(Protocol):
    """Servers that write with a model (`sampling.server`)."""

    def __call__(self, rows: Sequence[Sequence[int]], sampler: Any, noise: Any) -> Iterator[tuple[list[int], bool]]:
        """Each response's token ids and whether a terminator ended it, in the order of `noise`."""
        ...


@dataclass(frozen=True)
class LM:
    """A causal language model, its tokenizer, and how to run it.

    Student and teacher may be two adapters on one `module`; `running` switches to the right one.
    """

    module: nn.Module
    """A transformers model, or a PEFT model around one."""
    tokenizer: PreTrainedTokenizerBase
    config: ModelConfig
    terminators: tuple[int, ...]
    """Ids of the tokens at which its responses end, ascending: its own, and those of the other model of its pair."""
    adapter: str | None = None
    """Name of the adapter to run with; None: the bare model."""
    autocast: torch.dtype | None = None
    """Run the forward pass under autocast (float32 master weights)."""
    dropout: Codes | None = None
    """Tells the adapter's dropout which rows it sees; None: nothing is dropped."""
    at: torch.device | None = None
    """Where it computes, if its weights are elsewhere until a layer needs them; None: where they are."""

    scorer: Scorer | None = None
    """The servers that compute its hidden states; `module` then has weights in its head alone. None: this process."""
    writer: Writer | None = None
    """The servers that write its responses. None: this process."""

    @property
    def causal_lm(self) -> nn.Module:
        """The transformers model, adapters injected."""
        return self.module.get_base_model() if isinstance(self.module, peft.PeftModel) else self.module

    @property
    def device(self) -> torch.device:
        """Where its weights are; of a model that is partly elsewhere, those that are here."""
        devices = (p.device for p in self.module.parameters() if p.device.type != "meta")
        return self.at or next(devices, torch.device("meta"))

    @property
    def vocab_size(self) -> int:
        """Columns of the logits, padding included."""
        head = self.causal_lm.get_output_embeddings()  # type: ignore[operator]
        return int(head.weight.shape[0]) if head is not None else int(self.causal_lm.config.vocab_size)  # type: ignore

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run with this model's own adapter (or none), under its autocast."""
        with contextlib.ExitStack() as stack:
            if isinstance(self.module, peft.PeftModel):
                stack.enter_context(_adapter(self.module, self.adapter))
            if self.autocast is not None:
                kind = self.device.type
                stack.enter_context(Cast(self.autocast) if kind == "meta" else torch.autocast(kind, self.autocast))
            yield


class Cast(TorchFunctionMode):
    """What autocast does with products, for the meta device, which has no autocast."""

    PRODUCTS = frozenset({F.linear, F.scaled_dot_product_attention, torch.matmul, Tensor.matmul, torch.bmm})

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.PRODUCTS:
            args = [a.to(self.dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _adapter(module: peft.PeftModel, name: str | None) -> Iterator[None]:
    """Activate one adapter, or none, and go back to the student's afterwards."""
    if name is None:
        with module.disable_adapter():
            yield
    elif name == module.active_adapter:
        yield
    else:
        before = module.active_adapter
        module.set_adapter(name, inference_mode=True)
        try:
            yield
        finally:
            module.set_adapter(before)


def backbone_name(model: nn.Module) -> str:
    """The attribute that holds the model without its head. Raises `AttributeError` if there is none."""
    for name in (str(model.base_model_prefix), "model", "transformer"):
        if name in model._modules:
            return name
    raise AttributeError(f"{type(model).__name__} holds none")


def resolve_device(name: str, key: str = "run.device") -> torch.device:
    """The device that a key of the configuration names; `auto` takes an accelerator if there is one.

    Each of several processes on a machine has a card of its own.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        name = accelerator.type if accelerator else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = textwrap.shorten(str(error).splitlines()[0], 100, placeholder=" ...")
        raise UserError(f"{key} is {name!r}, which is not available here ({why}); auto takes what there is.") from None
    if device.type == "meta":
        raise UserError(f"{key} is {name!r}, which holds no numbers; auto takes what there is.")
    return device


def resolve_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The type that a model's `dtype` names. `auto` is `auto_dtype`, but float32 for the lab's models: the same everywhere."""
    if config.dtype == "auto":
        return torch.float32 if config.model.startswith("lab:") else auto_dtype(device)
    dtype = getattr(torch, config.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype
