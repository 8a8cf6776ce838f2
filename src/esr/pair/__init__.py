"""What can be known of a student, a teacher and their data before any weights are loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from esr.config import Config, LossConfig, ModelConfig
from esr.errors import UserError
from esr.method import divergence
from esr.method.divergence import Divergence
from esr.method.events import EventSpace, one_vocabulary
from esr.method.events.alignment import Alignment, align
from esr.models import template, terminators
from esr.models.load import check, load_tokenizer, read_config
from esr.models.spelling import carry, read_spelling
from esr.pair.crossing import Crossing
from esr.records.tokenizers import TwoTokenizers

Who = Literal["student", "teacher"]


@dataclass(frozen=True)
class Pair:
    """A student and a teacher, and how what they say is compared."""

    student_tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase
    student_terminators: tuple[int, ...]
    teacher_terminators: tuple[int, ...]
    alignment: Alignment | Crossing
    """One vocabulary, or two tokenizers."""

    @property
    def stops(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where rollouts of student and teacher stop, ascending. With one vocabulary: at the terminators of either."""
        ours, theirs = self.student_terminators, self.teacher_terminators
        if isinstance(self.alignment, Crossing):
            return ours, theirs
        either = tuple(sorted({*ours, *theirs}))
        return either, either

    @property
    def ends(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tokens that end a turn of student and teacher."""
        ours, theirs = self.student_tokenizer, self.teacher_tokenizer
        return (
            tuple(ours.convert_ids_to_tokens(list(self.student_terminators))),
            tuple(theirs.convert_ids_to_tokens(list(self.teacher_terminators))),
        )

    @property
    def terminators(self) -> tuple[int, ...]:
        """Where the student's rollouts stop."""
        return self.stops[0]

    def events(self, merge: bool) -> EventSpace:
        """The event space of the divergence."""
        if isinstance(self.alignment, Crossing):
            return self.alignment.events(merge)
        known = tuple(i for i in self.terminators if i < self.alignment.size)
        return one_vocabulary(self.alignment.size, known if merge else ())

    def carry(self, writer: Who, reader: Who) -> Callable[[list[int]], list[int]]:
        """How tokens of one side pass to the other: as they are; between different tokenizers, by their bytes."""
        if writer == reader or not isinstance(self.alignment, Crossing):
            return list
        sides = {"student": self.alignment.student, "teacher": self.alignment.teacher}
        return lambda ids: carry(ids, sides[writer], sides[reader])

    def baseline(self, loss: LossConfig, device: torch.device) -> Divergence | None:
        """The divergence of two models' logits that a baseline of `loss.cross` trains on; None: that over `events`."""
        if loss.cross == "classes":
            return None
        if loss.cross == "uld":
            return divergence.uld
        assert isinstance(self.alignment, Crossing)
        events = self.alignment.events(loss.merge_terminators, loss.cross).to(device)
        measure = divergence.by_name(loss.divergence, loss.beta)
        return lambda s, t: measure(events.student.log_probs(s), events.teacher.log_probs(t))

    def measure(self, texts: Sequence[str], merge: bool) -> TwoTokenizers | None:
        """How well two tokenizers can be compared, on the run's own texts; None for one vocabulary.

        Raises `UserError` if that is too little, or if a tokenizer does not keep text as it is.
        """
        return self.alignment.measure(texts, merge) if isinstance(self.alignment, Crossing) else None

    def describe(self) -> list[str]:
        """Lines for people: vocabulary, and how each side ends a turn."""
        ends = [", ".join(tokens) for tokens in self.ends]
        how = [] if isinstance(self.alignment, Crossing) else [self.alignment.describe()]
        return [*how, f"The student ends a turn with {ends[0]}; the teacher with {ends[1]}."]


def open_pair(config: Config) -> Pair:
    """Check both models' configurations and tokenizers. Raises `UserError` if they do not fit. Takes seconds."""
    sides: tuple[ModelConfig, ModelConfig] = (config.student, config.teacher)
    for side in sides:
        check(side)
    tokenizers = [load_tokenizer(side) for side in sides]
    ends = []
    for tokenizer, side in zip(tokenizers, sides, strict=True):
        template.check(tokenizer, side)
        ends.append(terminators.of_model(tokenizer, side))
    sizes = [vocab_size(side, tok) for tok, side in zip(tokenizers, sides, strict=True)]
    alignment: Alignment | Crossing | None = align(tokenizers[0], tokenizers[1], *sizes)
    if alignment is not None and config.loss.cross != "classes":
        raise UserError(
            f"loss.cross is {config.loss.cross}, but student and teacher have one vocabulary; leave it out."
        )
    if alignment is None:
        names = [side.model for side in sides]
        spellings = [read_spelling(*each) for each in zip(tokenizers, sizes, ends, names, strict=True)]
        alignment = Crossing(spellings[0], spellings[1], (ends[0], ends[1]))
    return Pair(tokenizers[0], tokenizers[1], ends[0], ends[1], alignment)


def vocab_size(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Columns of the logits by the model's configuration; for a GGUF file, the tokenizer's length."""
    if config.gguf_file:
        return len(tokenizer)
    return int(read_config(config).get_text_config().vocab_size)
