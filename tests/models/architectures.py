"""A tiny random model of any causal architecture that transformers knows, put through all that a run does with a model.

python tests/models/architectures.py              # every architecture: exact, refused or not built; in Markdown
python tests/models/architectures.py qwen3 mixtral
"""

import inspect
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.configuration_utils import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from esr import probe, scoring
from esr.config import StudentConfig
from esr.errors import UserError
from esr.method.tensors import Prompts, Rollout
from esr.models import checkpoint
from esr.models.adapters import fresh_adapter
from esr.models.lm import LM, STUDENT
from esr.prompts import pad
from esr.sampling.loop import sample, write
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from tiny import make_tokenizer

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

ATTENDING = ("full_attention", "attention", "hybrid")
"""Kinds of layers that attend to everything."""
HYBRIDS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "zamba": {"layers_block_type": ["hybrid", "hybrid"]},
    "zamba2": {"hybrid_layer_ids": [1]},
}
"""Where the default configuration says nowhere in its first layers which of them attend."""


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
    if "kv_lora_rank" in known:
        options["num_key_value_heads"] = options["num_attention_heads"]
    for name in SHORTENED & known:
        value = vars(default).get(name)
        if isinstance(value, (list, tuple)):
            options[name] = kinds(value) if value and isinstance(value[0], str) else value[:LAYERS]
    for name in getattr(default, "sub_configs", {}):
        if isinstance(part := vars(default).get(name), PretrainedConfig):
            options[name] = shrink(type(part))
    return kind(**options | HYBRIDS.get(kind.model_type, {}))


def kinds(layers: Sequence[str]) -> list[str]:
    """As many layers as are built, one that attends to everything last: models read the length of their cache from it."""
    attending = [kind for kind in layers if kind in ATTENDING][:1]
    others = [kind for kind in dict.fromkeys(layers) if kind not in attending]
    return [*others, *layers][: LAYERS - len(attending)] + attending


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


def lm_of(module: nn.Module, adapter: str | None = None) -> LM:
    return LM(
        module.eval(), make_tokenizer(), StudentConfig(model="tiny", lora={"r": 4, "dropout": 0.0}), (2,), adapter
    )


def exercise(model_type: str, folder: Path) -> None:
    """The probe, a step, sampling against `generate`, an adapter's merge, checkpoint and export.

    Raises `UserError` if the architecture is refused, and `AssertionError` if something is not exact.
    """
    base = tiny_model(model_type)
    plain = lm_of(base)
    probe.require_own_name(base, plain.config)
    probe.check(plain)
    sampled_as_generated(plain)
    full_round_trip(model_type, folder)
    adapted = lm_of(fresh_adapter(base, plain.config, 0), STUDENT)
    step(adapted)
    probe.check(adapted)
    checkpoint.save_weights(adapted, folder / "lora")
    other = lm_of(fresh_adapter(tiny_model(model_type), plain.config, 1), STUDENT)
    checkpoint.load_weights(other, folder / "lora")
    own = probe.logits(adapted)
    assert torch.equal(own, probe.logits(other)), "an adapter's checkpoint gives another model"
    merged = adapted.module.merge_and_unload()
    assert probe.distance(own, probe.logits(lm_of(merged))) < 1e-5, "the merged model is another model"
    merged.save_pretrained(folder / "export")
    exported = AutoModelForCausalLM.from_pretrained(folder / "export", dtype=torch.float32)
    assert probe.distance(own, probe.logits(lm_of(exported.eval()))) < 1e-5, "the exported model is another model"


def step(lm: LM) -> None:
    """A few large updates by the reverse KL to uniform: every adapter that is trained must get a gradient."""
    trained = {name: p for name, p in lm.module.named_parameters() if p.requires_grad}
    prompts = Prompts(torch.arange(3, 9)[None], torch.ones(1, 6, dtype=torch.bool))
    response = torch.arange(20, 28)[None]
    rollout = Rollout(response, torch.ones_like(response, dtype=torch.bool), torch.zeros(1, dtype=torch.long))
    for _ in range(2):
        logits = scoring.head(lm, scoring.hidden_states(lm, prompts, rollout))
        (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean().backward()
        for p in trained.values():
            if p.grad is not None:
                p.data.sub_(0.05 * p.grad.sign())
                p.grad = None
    assert trained


def sampled_as_generated(lm: LM) -> None:
    """Greedy tokens of two padded prompts are those of transformers' `generate` on each alone."""
    rows = [[3, 9, 27, 17], [5, 8]]
    wanted = []
    lm.module.generation_config.forced_eos_token_id = None  # of encoders with decoders: an end that no model chose
    for row in rows:
        out = lm.module.generate(
            torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long), do_sample=False, max_new_tokens=8,
            eos_token_id=2, pad_token_id=0, use_cache=False,
        )  # fmt: skip
        wanted.append(out[0, len(row) :].tolist())
    sampler, noise = Sampler(8, (2,), temperature=0.0), Noise.of(0, ["a", "b"])
    for fixed in (False, True):
        got = sample(lm, pad(rows), sampler, noise, fixed=fixed).token_lists()
        assert got == wanted, f"sampled {got}, generated {wanted}, fixed cache {fixed}"
    one_by_one: dict[int, list[int]] = {}
    write(lm, rows[::-1], sampler, noise, 1, lambda r: one_by_one.update({r.index: r.ids.tolist()}))
    assert [one_by_one[1], one_by_one[0]] == wanted


def full_round_trip(model_type: str, folder: Path) -> None:
    """All weights, saved and loaded into a model of other weights."""
    one, two = lm_of(tiny_model(model_type, 1)), lm_of(tiny_model(model_type, 2))
    checkpoint.save_weights(one, folder / "full")
    checkpoint.load_weights(two, folder / "full")
    assert torch.equal(probe.logits(one), probe.logits(two)), "a full checkpoint gives another model"


def main() -> None:
    """Each architecture as it is tried, and then all of them by outcome: exact, refused with the reason, not built."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in sys.argv[1:] or CAUSAL:
        kind, _, reason = outcome(name).partition(": ")
        found.setdefault(kind, []).append((name, reason))
        print(f"{name}: {kind} {reason}", file=sys.stderr, flush=True)
    for kind, rows in sorted(found.items()):
        print(
            f"**{len(rows)} {kind}**" + ("" if rows[0][1] else ": " + ", ".join(f"`{name}`" for name, _ in rows)) + "\n"
        )
        if rows[0][1]:
            print("| architecture | why |\n|---|---|")
            print("".join(f"| `{name}` | {reason.removeprefix('tiny: ')} |\n" for name, reason in rows))


def outcome(model_type: str) -> str:
    """What became of one architecture, in a line."""
    try:
        tiny_model(model_type)(input_ids=torch.arange(3, 9)[None], use_cache=False)
    except Exception as error:
        return f"not built: {shortened(error)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            exercise(model_type, Path(folder))
        except UserError as error:
            return f"refused: {shortened(error)}"
        except Exception as error:
            return f"NOT EXACT: {type(error).__name__} {shortened(error)}"
    return "exact"


def shortened(error: Exception) -> str:
    """What it says, in a cell of a table."""
    return textwrap.shorten(str(error).replace("|", "/"), 160, placeholder=" ...")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    main()
