"""Tokenizers of every kind as maps between bytes and ids: trained on the spot, proven, or refused with the text that broke."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from byte_pairs import CASES
from esr.errors import UserError
from esr.models.spelling import SWEEP, UNWRITABLE, Spelling, carry, prove, read_spelling

CORPUS = [*SWEEP, "the cat sat on the mat and then the other cat sat too", "12 + 34 = 46, 7 * 8 = 56"] * 3
SPECIAL = ["<pad>", "<unk>", "<eos>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def tokenizer(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def spelling(core: Tokenizer) -> Spelling:
    whole = tokenizer(core)
    return read_spelling(whole, len(whole), (whole.eos_token_id,), "m")


def byte_level(prefix: bool = False) -> Tokenizer:
    """As GPT-2 and its descendants."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return core


def byte_fallback(prefix: bool = False) -> Tokenizer:
    """As Llama 2 and Gemma: spaces are `\u2581`, and what has no token is written in bytes."""
    steps = [normalizers.Replace(" ", "\u2581")]
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), *steps] if prefix else steps)
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[*SPECIAL, *BYTES], limit_alphabet=60, show_progress=False
    )
    core.train_from_iterator(CORPUS[-2:], trainer)
    tree = json.loads(core.to_str())  # the trainer makes the bytes special; Llama's are ordinary tokens
    tree["added_tokens"] = [token for token in tree["added_tokens"] if token["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(tree))


def unigram(prefix: str = "never") -> Tokenizer:
    """As T5 and XLM-R, but without their normaliser."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    core.decoder = decoders.Metaspace(prepend_scheme=prefix)
    core.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    )
    return core


KINDS = {
    "byte level": byte_level, "byte level, space first": lambda: byte_level(True),
    "byte fallback": byte_fallback, "byte fallback, space first": lambda: byte_fallback(True),
    "unigram": unigram, "unigram, space first": lambda: unigram("always"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cores() -> dict[str, Tokenizer]:
    return {name: make() for name, make in KINDS.items()}


@pytest.fixture(scope="module")
def spellings(cores) -> dict[str, Spelling]:
    return {name: spelling(core) for name, core in cores.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back_byte_for_byte(spellings, kind):
    prove(spellings[kind], [*CORPUS[-2:], " a space first", ""])
    for text in ("the cat", " the cat"):
        (ids,) = spellings[kind].encode([text.encode()])
        assert spellings[kind].spelled(ids) == text.encode(), "no space is put before a text, and none taken away"


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_any_bytes_come_back_even_where_they_are_no_characters(spellings, kind):
    side = spellings[kind]

    @settings(max_examples=CASES)
    @given(st.binary(max_size=24))
    def comes_back(text):
        (ids,) = side.encode([text])
        assert UNWRITABLE not in ids
        assert side.spelled(ids) == text

    comes_back()


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_what_the_model_would_read(cores, spellings, kind):
    """The ids of plain text are those that the tokenizer itself gives, but for the space that some put first."""
    whole = tokenizer(cores[kind])
    for text in ("the cat sat", "12 + 34", "a\nb"):
        own = whole(text, add_special_tokens=False)["input_ids"]
        first = " " if "space first" in kind else ""
        assert spellings[kind].encode([f"{first}{text}".encode()]) == [own]


def test_one_kind_carries_its_tokens_to_another(spellings):
    text = "the cat sat on 12 mats"
    for one in spellings.values():
        for other in spellings.values():
            (ids,) = one.encode([text.encode()])
            assert other.spelled(carry(ids, one, other)) == text.encode()


def test_special_tokens_spell_nothing_and_their_text_is_text(spellings):
    side = spellings["byte level"]
    assert all(side.pieces[i] is None for i in range(len(SPECIAL)))
    (ids,) = side.encode([b"a<eos>b"])
    assert side.special["<eos>"] not in ids and side.spelled(ids) == b"a<eos>b"


@pytest.mark.parametrize("normalizer", [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()])
def test_a_normaliser_that_changes_text_is_refused_with_the_text(normalizer):
    core = byte_level()
    core.normalizer = normalizer
    with pytest.raises(UserError, match="does not keep text as it is: .* comes back as "):
        prove(spelling(core), [])


def test_a_tokenizer_that_composes_characters_is_asked_not_to():
    core = byte_level()
    core.normalizer = normalizers.NFC()
    prove(spelling(core), ["e\u0301"])


def test_the_runs_own_text_must_be_writable(spellings):
    """A unigram model without bytes fuses what it does not know into one token: the sweep may hold that, the data may not."""
    prove(spellings["unigram"], [])
    with pytest.raises(UserError, match="'ཨོཾ' comes back as"):
        prove(spellings["unigram"], ["ཨོཾ"])
    prove(spellings["byte level"], ["ཨོཾ"])


def test_word_pieces_are_refused():
    """`##` glues words together; the spaces between them are in no token."""
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "cat": 2, "##s": 3, "<eos>": 4, "<pad>": 5, "<unk>": 6}))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="does not keep text as it is"):
        prove(spelling(core), ["the cats"])
