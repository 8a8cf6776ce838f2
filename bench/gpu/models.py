"""Models of true shapes with random weights, made where they are needed."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "query_pre_attn_scalar": 16,
}  # fmt: skip
CONFIDENCE = 11.0
"""Added to the weights of the last norm, so that a nucleus has a few tokens and not the whole vocabulary."""


def shape(name: str, tiny: bool) -> dict[str, Any]:
    """The settings in bench/gpu/shapes, or small ones of the same architecture."""
    true = json.loads((Path(__file__).parent / "shapes" / f"{name}.json").read_text())
    small = {key: value for key, value in SMALL.items() if key in true}
    return true | small | {"vocab_size": true["vocab_size"] // 256} if tiny else true


def make(name: str, device: torch.device, dtype: torch.dtype, tiny: bool) -> nn.Module:
    """The model, frozen and in evaluation mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape(name, tiny))
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    model.model.norm.weight.add_(CONFIDENCE)
    return model
