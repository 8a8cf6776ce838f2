"""What the student writes at each step, and where it stops."""

from typing import Literal, Self

from pydantic import Field, model_validator

from esr.config.section import ConfigSection, Urls, require_server

ESR_N = 100
FULL_ROLLOUT_CAP = 2048


class HorizonConfig(ConfigSection):
    """Which N a step's rollouts stop at (docs/horizons.md); `rollout.max_new_tokens` is the largest."""

    policy: Literal["fixed", "linear", "staircase", "share", "overlap", "low_divergence", "random"] = "fixed"
    """`linear`, `staircase`: growing. `share`, `overlap`, `low_divergence`: by earlier steps. `random`: `linear`'s control."""
    start: int = Field(25, ge=1)
    """Smallest N, in tokens; the first one of those that grow."""
    grow: int = Field(25, ge=1)
    """Tokens by which `staircase` and `overlap` change N."""
    every: int = Field(10, ge=2)
    """Steps between changes of `staircase`, and between full-length probes of `share` and `low_divergence`."""
    share: float = Field(0.45, gt=0, lt=1)
    """Part of the summed divergence that `share` keeps."""


class RolloutConfig(ConfigSection):
    """What the student writes at each step."""

    prompts_per_step: int = Field(16, ge=1)
    """Prompts in one optimiser step."""
    samples_per_prompt: int = Field(1, ge=1)
    """Responses to each prompt."""
    max_new_tokens: int = Field(ESR_N, ge=1)
    """N, the early-stop length. The paper's ESR is 100; its full rollouts are 2048 and more."""
    horizon: HorizonConfig = HorizonConfig()
    """Which N each step takes, up to `max_new_tokens`."""
    temperature: float = Field(0.7, ge=0, le=100)
    """Sampling temperature; 0 is greedy. The divergence is always taken at temperature 1."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus: the smallest set of tokens with this probability mass."""
    top_k: int = Field(0, ge=0)
    """Keep only the k most probable tokens; 0 keeps all."""

    engine: Literal["local", "vllm"] = "local"
    """Who writes: this process, or vLLM servers, which get the student's adapter at each step (docs/servers.md)."""
    server: Urls = []
    """Addresses of the servers of `engine: vllm`."""

    @model_validator(mode="after")
    def _served(self) -> Self:
        require_server(self.engine, self.server)
        return self

    @property
    def stops_at(self) -> str:
        """N in words: `100`, or `25 to 640 (linear)` where the horizon changes from step to step."""
        h = self.horizon
        return str(self.max_new_tokens) if h.policy == "fixed" else f"{h.start} to {self.max_new_tokens} ({h.policy})"
