"""The lab's tokenizers: one character a token for the family, merged strings in another order for the other family."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from esr.tasks.lab import LEVELS, render, stream_problems

Family = Literal["characters", "merges"]
Format = Literal["chat", "text"]

PAD, UNKNOWN, END_OF_TEXT, END_OF_TURN = "<|pad|>", "<|unknown|>", "<|endoftext|>", "<|im_end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (PAD, UNKNOWN, END_OF_TEXT, END_OF_TURN, *ROLES)
ALPHABET = "\n" + "".join(sorted(string.printable[:95]))
TERMINATORS: dict[Format, str] = {"chat": END_OF_TURN, "text": END_OF_TEXT}

TEMPLATES: dict[Format, str] = {
    "chat": (
        "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "text": (  # a base model knows documents, not turns
        "{% for message in messages %}"
        "{% if message.role == 'assistant' %}{{ message.content }}<|endoftext|>"
        "{% elif message.role == 'user' %}Problem: {{ message.content }}\nSolution:\n"
        "{% else %}{{ message.content }}\n{% endif %}{% endfor %}"
    ),
}

MERGED_VOCABULARY = 224  # tokens of the other family
WORDS = Regex(r" ?[A-Za-z]+|\d|[^A-Za-z\d]")  # merges stay inside words and never join digits


def make_tokenizer(family: Family = "characters", chat_format: Format = "chat") -> PreTrainedTokenizerFast:
    """A tokenizer of a family (its vocabulary), in a format (its template and terminator)."""
    core = _characters() if family == "characters" else _merges()
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=TERMINATORS[chat_format],
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, UNKNOWN, TERMINATORS[chat_format])],
        chat_template=TEMPLATES[chat_format],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def _characters() -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *ALPHABET])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.add_special_tokens(list(SPECIAL))
    return core


def _merges() -> Tokenizer:
    words = pre_tokenizers.Split(WORDS, "isolated")
    learned = Tokenizer(models.BPE(unk_token=UNKNOWN))
    learned.pre_tokenizer = words
    learned.train_from_iterator(
        _corpus(),
        trainers.BpeTrainer(
            vocab_size=MERGED_VOCABULARY,
            initial_alphabet=list(ALPHABET),
            special_tokens=list(SPECIAL),
            show_progress=False,
        ),
    )
    model = json.loads(learned.to_str())["model"]
    last = len(model["vocab"]) - 1
    backwards = {token: last - index for token, index in model["vocab"].items()}  # not the family's order of ids
    core = Tokenizer(models.BPE(vocab=backwards, merges=[tuple(pair) for pair in model["merges"]], unk_token=UNKNOWN))
    core.pre_tokenizer = words
    core.add_special_tokens(list(SPECIAL))
    return core


def _corpus() -> Iterator[str]:
    """A few hundred solutions of every kind, the text from which the merges are learned."""
    rng = random.Random("merges")
    for level in LEVELS:
        problems = stream_problems(level=level, seed=0)
        for _ in range(100):
            for style in ("concise", "verbose"):
                yield render(next(problems), strategy=rng.choice(("right", "wrong")), style=style, rng=rng)
