"""How well a pair with two tokenizers can be compared: `tokenizers.json` of a run."""

from esr.records.base import FORMAT_VERSION, Record


class TwoTokenizers(Record):
    """Measured before the first step: on the vocabularies, and on the data's text as each side's tokenizer writes it."""

    format_version: int = FORMAT_VERSION
    student_tokens: int
    teacher_tokens: int
    """Tokens that spell some text."""
    shared: int
    """Spellings that both have."""
    classes: int
    largest: int
    """Tokens of both sides in the largest class."""
    text_bytes: int
    positions: int
    """Tokens of the text for the student."""
    common: float
    """Share of them at which the teacher starts a token too: where there is a divergence."""
    disagreement: float
    """Share of the common starts at which the two tokenizers write the same text with tokens of different classes."""
    chunk_rest: float
    """Share of the common starts whose chunk is longer than one token for either side; its rest carries k2."""

    def describe(self) -> list[str]:
        """Lines for people."""
        return [
            f"Different tokenizers: {self.shared:,} tokens are spelled alike ({self.student_tokens:,} the student's, "
            f"{self.teacher_tokens:,} the teacher's); {self.classes:,} event classes, the largest of {self.largest:,} tokens.",
            f"On {self.text_bytes:,} bytes of the data the teacher starts a token at {self.common:.1%} of the student's; even a "
            f"perfect student disagrees at {self.disagreement:.1%} of these; at {self.chunk_rest:.1%} more than one token follows.",
        ]
