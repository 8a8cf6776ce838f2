"""What can be known of a student, a teacher and their data before any weights are loaded."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from esr.config import Config, ModelConfig
from esr.method.events import EventSpace, one_vocabulary
from esr.method.events.alignment import Alignment, align
from esr.models import template, terminators
from esr.models.load import check, load_tokenizer, read_config


@dataclass(frozen=True)
class Pair:
    """A student and a teacher that speak of the same tokens."""

    student_tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase
    student_terminators: tuple[int, ...]
    teacher_terminators: tuple[int, ...]
    alignment: Alignment

    @property
    def terminators(self) -> tuple[int, ...]:
        """Where rollouts stop: the terminators of either, ascending."""
        return tuple(sorted({*self.student_terminators, *self.teacher_terminators}))

    def events(self, merge: bool) -> EventSpace:
        """The event space of the divergence."""
        known = tuple(i for i in self.terminators if i < self.alignment.size)
        return one_vocabulary(self.alignment.size, known if merge else ())

    def describe(self) -> list[str]:
        """Lines for people: vocabulary, and how each side ends a turn."""
        ends = [
            ", ".join(tok.convert_ids_to_tokens(list(ids)))
            for tok, ids in (
                (self.student_tokenizer, self.student_terminators),
                (self.teacher_tokenizer, self.teacher_terminators),
            )
        ]
        return [self.alignment.describe(), f"The student ends a turn with {ends[0]}; the teacher with {ends[1]}."]


def open_pair(config: Config) -> Pair:
    """Check both models' configurations and tokenizers. Raises `UserError` if they do not fit. Takes seconds."""
    for side in (config.student, config.teacher):
        check(side)
    tokenizers = [load_tokenizer(side) for side in (config.student, config.teacher)]
    ends = []
    for tokenizer, side in zip(tokenizers, (config.student, config.teacher), strict=True):
        template.check(tokenizer, side)
        ends.append(terminators.of_model(tokenizer, side))
    sizes = [vocab_size(side, tok) for tok, side in zip(tokenizers, (config.student, config.teacher), strict=True)]
    return Pair(tokenizers[0], tokenizers[1], ends[0], ends[1], align(tokenizers[0], tokenizers[1], *sizes))


def vocab_size(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Columns of the logits by the model's configuration; for a GGUF file, the tokenizer's length."""
    if config.gguf_file:
        return len(tokenizer)
    return int(read_config(config).get_text_config().vocab_size)
