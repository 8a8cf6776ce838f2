"""Tiny models and tokenizers built on the spot; nothing is downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from tokenizers.normalizers import Normalizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esr.config import ModelConfig
from esr.models.lm import LM

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<pad>", "<|endoftext|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,+-*=?:-_\\{}\n"


def make_tokenizer(
    eos: str = "<|im_end|>",
    template: str | None = TEMPLATE,
    letters: Iterable[str] = LETTERS,
    normalizer: Normalizer | None = None,
) -> PreTrainedTokenizerFast:
    """A character tokenizer with a chat template; longer strings among the letters are tokens too."""
    vocab = {token: i for i, token in enumerate([*SPECIALS, *dict.fromkeys(letters)])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    longest_first = "|".join(re.escape(t) for t in sorted(letters, key=len, reverse=True) if len(t) > 1)
    core.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{longest_first}|[\s\S]") if longest_first else "", "isolated")
    if normalizer is not None:
        core.normalizer = normalizer
    core.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": [s for s in SPECIALS if s not in ("<pad>", eos)]})
    tokenizer.chat_template = template
    return tokenizer


def make_model(seed: int, vocab: int = 64, layers: int = 2, hidden: int = 32, **options) -> LlamaForCausalLM:
    """A small random Llama with confident, varied predictions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.2, bos_token_id=None, eos_token_id=2, pad_token_id=0,
        **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def make_lm(seed: int, terminators: tuple[int, ...] = (2,), **options) -> LM:
    return LM(make_model(seed, **options), make_tokenizer(), ModelConfig(model=f"tiny-{seed}"), terminators)


def save_model(path: Path, seed: int, tokenizer: PreTrainedTokenizerFast | None = None, **options) -> Path:
    """A model directory as transformers writes it."""
    make_model(seed, **options).save_pretrained(path)
    (tokenizer or make_tokenizer()).save_pretrained(path)
    return path
