"""Where a teacher's weights are kept, and how they are rounded (`teacher.placement`, `teacher.quantization`)."""

import functools
import importlib.util
import logging
import tempfile
from typing import Any

import torch
import transformers
from accelerate import cpu_offload
from torch import nn

from esr.config import ModelConfig, TeacherConfig
from esr.errors import UserError
from esr.models.lm import resolve_device


@functools.cache
def converted() -> tempfile.TemporaryDirectory[str]:
    """Where transformers puts weights that it has to convert; all others are read from the model's own files."""
    return tempfile.TemporaryDirectory(prefix="esr-offloaded-")


def placement(config: ModelConfig) -> str:
    """Where the configuration wants a model; a student is where the run computes."""
    return config.placement if isinstance(config, TeacherConfig) else "same"


def rounded(config: ModelConfig) -> bool:
    """Whether a model's weights are rounded when they are loaded."""
    return isinstance(config, TeacherConfig) and config.quantization != "none"


def check(config: ModelConfig) -> None:
    """Raise `UserError` if the place or the rounding is not to be had here. Loads nothing."""
    if not isinstance(config, TeacherConfig):
        return
    if config.device is not None:
        resolve_device(config.device, "teacher.device")
    if rounded(config) and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"teacher.quantization is {config.quantization}, which needs bitsandbytes; pip install 'esr-distill[quantization]'."
        )


def device_of(config: ModelConfig, device: torch.device) -> torch.device:
    """Where a model computes in a run on `device`."""
    named = config.device if isinstance(config, TeacherConfig) else None
    return device if named is None else resolve_device(named, "teacher.device")


def options(config: ModelConfig, device: torch.device, dtype: torch.dtype | str) -> dict[str, Any]:
    """What transformers is told about it when it loads a model that computes on `device`."""
    if isinstance(config, TeacherConfig) and rounded(config):
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of each product that it casts
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        rounding = transformers.BitsAndBytesConfig(
            **(four if config.quantization == "4bit" else {"load_in_8bit": True})
        )
        return {"quantization_config": rounding, "device_map": {"": device}}
    if placement(config) == "offloaded" and device.type == "cpu":
        return {"device_map": {"": "disk"}, "offload_folder": converted().name}
    return {}


def put(model: nn.Module, config: ModelConfig, device: torch.device) -> nn.Module:
    """The loaded model where it is to be. An offloaded one computes on `device`, to which each layer is copied when it runs."""
    if getattr(model, "hf_device_map", None) or getattr(model, "hf_quantizer", None):
        return model
    if placement(config) == "offloaded":
        return cpu_offload(model, execution_device=device)  # type: ignore[no-any-return]
    return model.to(device)
