"""A tokenizer as a map between bytes and ids, proven on texts before anything rests on it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from esr.errors import UserError
from esr.method.events.spelling import Kind, Pieces, pieces

STRAY = re.compile("([\udc80-\udcff])")
"""A byte that belongs to no character, as `surrogateescape` decodes it."""
UNWRITABLE = -1
"""In place of the id of a byte that a tokenizer has no token for."""

SWEEP = (
    "Hello world", " leading space", "  doubled  spaces   here ", "a\nb\r\nc\td\n\n\n    e", "1234567890 3.14 1,000 007",
    "for (int i = 0; i < n; ++i) { x[i] += 'a' ? \"b\" : $c; }  // \\o/ @#%^&*_~`|", "CamelCase mIxEd UPPER",
    "naïve café Straße œuvre", "e\u0301 a\u0308o\u0302 \u1e9b\u0323", "ﬁ ① Å ½ ㎏ ﾊﾝ",
    "Привет, мир", "Γειά σου", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "你好,世界", "こんにちは", "안녕하세요",
    "🙂 👩‍👩‍👧 🇩🇪 👍🏽", "∑ ∫ √ ≤ ≠ → ∞ ℝ", "“quotes” ‘single’ — dash … ‰", "\u00a0nbsp\u2009thin\u200bzero",
)  # fmt: skip
"""Scripts, emoji, combining marks, compatibility characters, line ends, spaces, digits, code."""


@dataclass(frozen=True)
class Spelling:
    """What a tokenizer's ids spell, and how it writes bytes."""

    name: str
    pieces: Pieces
    special: dict[str, int]
    """Special tokens: they stand for no text."""
    unknown: int | None
    """The id for text that the vocabulary cannot write."""
    key: str
    """Tells two spellings apart."""
    plain: Tokenizer
    """The tokenizer without template, without a space before the text, and blind to special tokens in it."""

    def encode(self, texts: Sequence[bytes]) -> list[list[int]]:
        """The ids of each text. Bytes that make no character are written singly, as `UNWRITABLE` if that is impossible."""
        split = [STRAY.split(text.decode("utf-8", "surrogateescape")) for text in texts]
        stretches = [part for parts in split for part in parts[::2] if part]
        written = iter(self.plain.encode_batch_fast(stretches, add_special_tokens=False))
        out = []
        for parts in split:
            ids: list[int] = []
            for place, part in enumerate(parts):
                if place % 2:
                    ids.append(self.single.get(part.encode("utf-8", "surrogateescape"), UNWRITABLE))
                elif part:
                    ids += next(written).ids
            out.append(ids)
        return out

    @cached_property
    def single(self) -> dict[bytes, int]:
        """Tokens of one byte."""
        return {piece: i for i, piece in enumerate(self.pieces) if piece is not None and len(piece) == 1}

    def spelled(self, ids: Iterable[int]) -> bytes | None:
        """The bytes of some ids; None if one of them spells nothing."""
        found = [self.pieces[i] if i >= 0 else None for i in ids]
        return None if None in found else b"".join(found)  # type: ignore[arg-type]


def read_spelling(tokenizer: PreTrainedTokenizerBase, size: int, silent: Sequence[int], name: str) -> Spelling:
    """The spelling of a tokenizer whose model has `size` columns of logits; the ids in `silent` spell nothing.

    Raises `UserError` if it cannot be read.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"{name}: its tokenizer runs in Python only; pairs with two tokenizers need one that is saved as tokenizer.json."
        )
    tree = json.loads(backend.to_str())
    added = {t["id"]: None if t["special"] else t["content"] for t in tree["added_tokens"]}
    special = {t["content"]: t["id"] for t in tree["added_tokens"] if t["special"]}
    model = tree["model"]
    unknown = model["unk_id"] if "unk_id" in model else backend.token_to_id(model.get("unk_token") or "")
    vocabulary = {t: i for t, i in backend.get_vocab(with_added_tokens=False).items() if i not in added}
    kind: Kind = "bytes" if "ByteLevel" in _types(tree) else "sentencepiece" if "\u2581" in _words(tree) else "text"
    spelled = list(pieces(vocabulary, added, size, kind))
    for i in [*silent] if unknown is None else [unknown, *silent]:
        spelled[i] = None
    key = hashlib.sha256(json.dumps([tree, size, list(silent)]).encode()).hexdigest()
    return Spelling(name, tuple(spelled), special, unknown, key, _plain(tree))


def carry(ids: Sequence[int], writer: Spelling, reader: Spelling) -> list[int]:
    """Tokens of one spelling as another writes their bytes; what spells nothing for either is left out."""
    written = reader.encode([b"".join(writer.pieces[i] or b"" for i in ids)])[0]
    return [i for i in written if i >= 0 and reader.pieces[i] is not None]


def prove(spelling: Spelling, texts: Sequence[str]) -> None:
    """Raise `UserError`, with the text that shows it, unless the ids of every text spell exactly that text.

    `texts` are the run's own, all of which must be writable; of the `SWEEP`, what the vocabulary has no tokens for is
    passed over.
    """
    written = spelling.encode([text.encode() for text in (*texts, *SWEEP)])
    for place, (text, ids) in enumerate(zip((*texts, *SWEEP), written, strict=True)):
        passed_over = place >= len(texts) and spelling.unknown in ids
        if spelling.spelled(ids) != text.encode() and not passed_over:
            raise UserError(
                f"{spelling.name}: its tokenizer does not keep text as it is: {_change(spelling, text, ids)}. Student and "
                "teacher with different tokenizers are compared by bytes, so every byte must come back."
            )


def _change(spelling: Spelling, text: str, ids: Sequence[int]) -> str:
    """What became of a text, from shortly before the place where it changed."""
    back = b"".join(spelling.pieces[i] or b"\xef\xbf\xbd" for i in ids if i >= 0).decode(errors="replace")
    at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    before, after = (repr(t[max(0, at - 8) : at + 16]) for t in (text, back))
    return f"{before} comes back as {after}"


def _plain(tree: dict[str, Any]) -> Tokenizer:
    """The tokenizer that adds nothing to a text: no template, no space before it, no composed characters."""
    tree = {**tree, "post_processor": None, "truncation": None, "padding": None}
    tree["normalizer"] = _without_prefix(tree["normalizer"])
    tree["pre_tokenizer"] = _without_prefix(tree["pre_tokenizer"])
    plain = Tokenizer.from_str(json.dumps(tree))
    plain.encode_special_tokens = True
    return plain


def _without_prefix(part: Any) -> Any:
    """A normaliser or pre-tokeniser that puts no space before a text and leaves canonically equal characters (NFC) be."""
    if not isinstance(part, dict):
        return part
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            inner = [kept for p in part[name] if (kept := _without_prefix(p)) is not None]
            return {**part, name: inner} if inner else None
    if part["type"] in ("Prepend", "NFC"):
        return None
    changes = {"prepend_scheme": "never", "add_prefix_space": False}
    return {key: changes.get(key, value) for key, value in part.items()}


def _types(tree: Any) -> set[str]:
    """The types of all components but the model."""
    return {value for key, value in _leaves(tree) if key == "type"}


def _words(tree: Any) -> set[str]:
    """All strings in the components but the model."""
    return {value for _, value in _leaves(tree) if isinstance(value, str)}


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name not in ("model", "added_tokens"):
                yield from _leaves(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, key)
    else:
        yield key, tree
