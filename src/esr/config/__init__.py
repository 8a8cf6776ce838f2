"""The configuration of a run: frozen, every key documented, unknown keys refused. No torch here.

Precedence: defaults < YAML file < `section.key=value` overrides. The defaults are the recipe of arXiv:2605.27028, so an
ESR run and a full on-policy distillation run differ in one key, `rollout.max_new_tokens`.
"""

from typing import Self

from pydantic import model_validator

from esr.config.loss import LossConfig, PositionWeightConfig, SelectionConfig, SelectionKind
from esr.config.models import LoraConfig, ModelConfig, Placement, StudentConfig, TeacherConfig
from esr.config.optim import OptimConfig
from esr.config.rollout import ESR_N, FULL_ROLLOUT_CAP, HorizonConfig, RolloutConfig
from esr.config.run import RunConfig
from esr.config.section import ConfigSection, LocalPath, Seed
from esr.config.tasks import DataConfig, EvalConfig, TaskConfig

__all__ = [
    "ESR_N", "FULL_ROLLOUT_CAP", "Config", "ConfigSection", "DataConfig", "EvalConfig", "HorizonConfig", "LocalPath", "LoraConfig",
    "LossConfig", "ModelConfig", "OptimConfig", "Placement", "PositionWeightConfig", "RolloutConfig", "RunConfig", "Seed",
    "SelectionConfig", "SelectionKind", "StudentConfig", "TaskConfig", "TeacherConfig",
]  # fmt: skip


class Config(ConfigSection):
    """Everything that determines a run."""

    student: StudentConfig
    """The model that writes and learns."""
    teacher: TeacherConfig
    """The frozen model that scores."""
    data: DataConfig
    """Training prompts."""
    rollout: RolloutConfig = RolloutConfig()
    """What the student writes."""
    loss: LossConfig = LossConfig()
    """What it is trained on."""
    optim: OptimConfig = OptimConfig()
    """How it is trained."""
    eval: EvalConfig | None = None
    """How it is measured; absent: not at all."""
    run: RunConfig = RunConfig()
    """Where it is kept."""

    @model_validator(mode="after")
    def _settle(self) -> Self:
        """Fill in the learning rate, which depends on what is trained."""
        if self.optim.lr is None:
            rate = 5e-5 if self.student.train == "lora" else 5e-6
            object.__setattr__(self, "optim", self.optim.model_copy(update={"lr": rate}))
        return self

    @model_validator(mode="after")
    def _horizon_fits(self) -> Self:
        """A horizon that changes starts below its end."""
        h, cap = self.rollout.horizon, self.rollout.max_new_tokens
        if h.policy != "fixed" and h.start > cap:
            raise ValueError(f"rollout.horizon.start is {h.start}, above rollout.max_new_tokens ({cap}), the largest N")
        return self

    @property
    def lr(self) -> float:
        """Peak learning rate, settled."""
        assert self.optim.lr is not None
        return self.optim.lr

    @property
    def prompts_taken(self) -> int:
        """By all steps together; more than there are: each is used several times."""
        return self.optim.steps * self.rollout.prompts_per_step
