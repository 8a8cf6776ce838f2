"""The optimiser, its schedule, and when a run ends."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from esr.config.section import ConfigSection


class OptimConfig(ConfigSection):
    """AdamW and its schedule."""

    steps: int = Field(200, ge=1)
    """Optimiser steps; each uses fresh rollouts."""
    max_tokens: int | None = Field(None, ge=1)
    """End after the step in which the student has generated so many tokens, if that is sooner; the schedule shrinks to fit."""
    max_seconds: float | None = Field(None, gt=0)
    """The same for seconds of training (evaluations left out). Such a run cannot be repeated figure for figure."""
    lr: float | None = Field(None, gt=0, le=1)
    """Peak learning rate. Default: 5e-5 for LoRA, 5e-6 for full fine-tuning."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Shape after the warm-up."""
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the rate rises linearly from zero."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    micro_batch_tokens: int | None = Field(None, ge=1)
    """Padded tokens (prompt and response) in one forward pass; a step is split accordingly. The gradient does not depend
    on it. Default: what the memory plan allows, at most 4096. Halved when memory runs out."""
    gradient_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, about a third more time. Default: where the memory plan needs it."""

    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What happens at a step whose loss or gradient is not finite, with other attention kernels too: the run stops with the
    last good step saved, or the step is left out and counted (`optim/skipped`). What repeats it is kept in `nonfinite/`."""

    def progress(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """How much of a run is done after these rows of metrics.jsonl, in [0, 1].

        By steps, or by tokens or seconds where they are limited and further on.
        """
        parts = [len(rows) / self.steps]
        if self.max_tokens:
            parts.append(sum(row.get("tokens/generated", 0) for row in rows) / self.max_tokens)
        if self.max_seconds:
            parts.append(sum(row.get("time/step", 0) for row in rows) / self.max_seconds)
        return min(1.0, max(parts))

    @property
    def limited(self) -> bool:
        """Whether tokens or seconds may end the run before its steps do."""
        return self.max_tokens is not None or self.max_seconds is not None
