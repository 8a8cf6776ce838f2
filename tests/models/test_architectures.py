"""Many architectures: probe, step, sampling, adapter, checkpoint and export are exact."""

import pytest

import architectures

EXACT = [
    "llama", "qwen2", "qwen3", "qwen3_5_text", "mistral", "phi", "phi3", "gemma", "gemma2", "gemma3_text", "gemma3", "gemma4",
    "gpt2", "gpt_neox", "opt", "smollm3", "olmo2", "olmo3", "cohere2", "granite", "stablelm", "starcoder2", "glm4", "exaone4",
    "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3", "falcon_h1", "lfm2",
]  # fmt: skip


@pytest.mark.parametrize("model_type", EXACT)
def test_an_architecture_is_exact_on_all_paths(model_type, tmp_path):
    architectures.exercise(model_type, tmp_path)
