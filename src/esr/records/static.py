"""What is known of a run before any weights are loaded: `esr check --static --json`."""

from pydantic import computed_field

from esr.records.base import Record
from esr.records.tokenizers import TwoTokenizers


class MemoryPlan(Record):
    """Bytes on each device that trains, and the sizes that follow."""

    memory: int
    """What there is for the run."""
    student: int
    """Its weights."""
    teacher: int
    """The teacher's weights that lie beside them."""
    optimizer: int
    """Gradients and the optimiser's state."""
    micro_batch_tokens: int
    checkpointing: bool
    problems: int | None
    """Problems that are evaluated together; None where this process evaluates none."""
    training: int
    """Peak while gradients are accumulated."""
    writing: int
    """Peak while the student writes a step's rollouts; 0 where servers do."""
    evaluating: int
    """Peak of an evaluation."""
    remedies: tuple[str, ...] = ()
    """Where it does not fit: changes of which each alone would do."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peak(self) -> int:
        return max(self.training, self.writing, self.evaluating)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fits(self) -> bool:
        return self.peak <= self.memory


class Static(Record):
    """Student, teacher, data and memory."""

    student: str
    teacher: str
    student_ends: tuple[str, ...]
    """Tokens that end a turn of the student."""
    teacher_ends: tuple[str, ...]
    tokenizers: TwoTokenizers | None
    """How well two tokenizers can be compared; None with one vocabulary."""
    prompts: int
    """For training."""
    left_out: dict[str, int]
    """Rows of the data that are no prompts, by reason."""
    prompts_taken: int
    """Prompts that all steps take; more than there are: each is used several times."""
    longest_prompt: int
    """Tokens of the longest one in training, on either side."""
    evaluation_problems: int
    longest_evaluation_prompt: int
    memory: MemoryPlan | None
    """None for an architecture whose memory can be told only with its weights."""
