"""A tiny random model of any causal architecture that transformers knows, built from its own configuration class."""

import inspect

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.configuration_utils import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LAYERS = 2
LARGEST = 3_000_000
"""Weights that still count as tiny."""
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 16,
    "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 256, "n_inner": 64, "n_ctx": 256, "num_layers": LAYERS,
    "d_model": 32, "d_ff": 64, "n_layers": LAYERS, "n_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 32,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "qk_head_dim": 16, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_d_ssm": 64, "ssm_state_size": 8, "n_groups": 1, "state_size": 8,
    "time_step_rank": 4, "mamba_expand": 2, "mamba_dt_rank": 4, "conv_kernel": 4, "num_heads": 4, "expand": 2,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "rotary_dim": 8, "num_experts_per_token": 2, "attention_window_size": 16, "lru_width": 32, "per_layer_input_dim": 8,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "num_kv_shared_layers": 0, "block_size": 32,
    "laurel_rank": 8, "altup_num_inputs": 2, "embedding_size": 32, "projection_dim": 32, "num_global_key_value_heads": 2,
    "index_head_dim": 16, "index_n_heads": 2, "index_topk": 512, "decoder_layers": LAYERS, "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64, "num_codebooks": 1, "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "num_expert_groups": 1,
    "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_memory_blocks": 1,
}  # fmt: skip
"""Keys of transformers' configurations at tiny sizes; each class takes those that it knows."""
SHORTENED = {
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "block_types",
    "attention_layers",
    "mlp_only_layers",
}
"""Lists with one entry a layer, cut to the layers that are built."""


def tiny_config(model_type: str) -> PretrainedConfig:
    """The architecture's default configuration at tiny sizes. Raises what its class raises if there is none."""
    kind = CONFIG_MAPPING[model_type]
    return shrink(kind)


def shrink(kind: type[PretrainedConfig]) -> PretrainedConfig:
    """A tiny configuration of a class, its parts too if it is nested."""
    default = kind()
    known = vars(default).keys() | inspect.signature(kind).parameters.keys()
    options = {name: SMALL[name] for name in known & SMALL.keys() if isinstance(vars(default).get(name, 0), int | None)}
    if "head_dim" in known and "qk_rope_head_dim" not in known:
        options["head_dim"] = 8
    for name in SHORTENED & known:
        value = vars(default).get(name)
        if isinstance(value, (list, tuple)):
            options[name] = value[-LAYERS:] if name == "layer_types" else value[:LAYERS]
    for name in getattr(default, "sub_configs", {}):
        if isinstance(part := vars(default).get(name), PretrainedConfig):
            options[name] = shrink(type(part))
    return kind(**options)


def tiny_model(model_type: str, seed: int = 0) -> nn.Module:
    """A random model in evaluation mode, frozen. Raises `ValueError` if its class cannot be built small."""
    config = tiny_config(model_type)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} weights at the smallest sizes known here")
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)


CAUSAL = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Every architecture that `AutoModelForCausalLM` knows."""
