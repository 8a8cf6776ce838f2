"""How two distributions become one number, and which positions count."""

from typing import Literal

from pydantic import Field

from esr.config.rollout import ESR_N
from esr.config.section import ConfigSection

SelectionKind = Literal[
    "all", "first", "last", "random", "top_kl", "top_student_entropy", "top_teacher_entropy",
    "top_kl_student_entropy", "top_student_teacher_entropy", "top_kl_student_teacher_entropy",
]  # fmt: skip


class SelectionConfig(ConfigSection):
    """Which response positions carry loss weight."""

    by: SelectionKind = "all"
    """`all`, or `k` positions of each response chosen by place, at random, or by the largest signal."""
    k: int = Field(ESR_N, ge=1)
    """Positions kept in each response (ignored by `all`)."""


class PositionWeightConfig(ConfigSection):
    """A soft stop: factors on the loss weights by position t (from 0)."""

    shape: Literal["flat", "linear", "exponential", "rising"] = "flat"
    """1; max(0, 1 - t / scale); exp(-t / scale); min(1, (t + 1) / scale)."""
    scale: int = Field(ESR_N, ge=1)
    """In tokens."""


class LossConfig(ConfigSection):
    """How two distributions become one number."""

    divergence: Literal["reverse_kl", "forward_kl", "jsd"] = "reverse_kl"
    """`reverse_kl` is KL(student || teacher); `jsd` is the generalised Jensen-Shannon divergence."""
    beta: float = Field(0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture of `jsd`."""
    aggregation: Literal["sequence_mean", "token_mean", "token_sum"] = "sequence_mean"
    """Mean over positions and then over responses; over all positions; or the paper's printed sum, averaged over responses."""
    merge_terminators: bool = True
    """Treat all tokens that end a turn, for the student or the teacher, as one event."""
    cross: Literal["classes", "shared_plus_rest", "uld"] = "classes"
    """What is compared when student and teacher have different tokenizers. `classes`: first-piece event classes.
    Baselines: `shared_plus_rest`, tokens that both spell alike and one event for all others; `uld`, the distance of the
    sorted probabilities, instead of `divergence`."""
    chunk_rest: Literal["k2", "none"] = "k2"
    """With different tokenizers: what a stretch of text carries that is longer than one token for either, beyond the
    divergence at its start. `k2`: half the squared log-ratio of its probabilities given its first class."""
    selection: SelectionConfig = SelectionConfig()
    """Positions that carry loss weight."""
    position_weight: PositionWeightConfig = PositionWeightConfig()
    """How much weight they carry, by place."""
