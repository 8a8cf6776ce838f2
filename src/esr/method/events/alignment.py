"""Whether two models speak of the same tokens, decided by their token-to-id maps, never by sizes."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Alignment:
    """Student and teacher have the same tokens at the same ids, as far as both have them."""

    size: int
    """Logit columns that are compared."""
    cut: int
    """Columns of the larger model that are left out (padding); its distribution is renormalised."""
    student_only: tuple[str, ...]
    """Tokens at the end of the vocabulary that only the student's tokenizer names."""
    teacher_only: tuple[str, ...]
    """Tokens at the end of the vocabulary that only the teacher's tokenizer names."""

    def describe(self) -> str:
        """One sentence for people."""
        text = f"Same vocabulary, {self.size:,} columns compared"
        if self.cut:
            text += f", {self.cut:,} padding columns of the larger model left out"
        extra = [*self.student_only, *self.teacher_only]
        if extra:
            text += f"; {len(extra)} tokens are named by one side only ({', '.join(extra[:4])}{', ...' if len(extra) > 4 else ''})"
        return text + "."


def align(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, student_size: int, teacher_size: int
) -> Alignment | None:
    """How ids of both correspond, if they mean the same for both; None for different tokenizers.

    Sizes are the numbers of logit columns. Tokens that one side alone names are allowed after all common ones (Qwen3 names
    ids that Qwen2.5 has as padding).
    """
    ours, theirs = ({i: token for token, i in t.get_vocab().items()} for t in (student, teacher))
    common = ours.keys() & theirs.keys()
    last = max(common, default=-1)
    only = [sorted(i for i in side.keys() - common) for side in (ours, theirs)]
    early = any(i < last for ids in only for i in ids)
    if early or not common or any(ours[i] != theirs[i] for i in common):
        return None
    size = min(student_size, teacher_size)
    names = [tuple(side[i] for i in ids if i < size) for side, ids in zip((ours, theirs), only, strict=True)]
    return Alignment(size, max(student_size, teacher_size) - size, names[0], names[1])
