"""Student and teacher: where they come from, how they are prompted, what is trained."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from esr.config.section import ConfigSection, LocalPath, Urls

Placement = Literal["same", "device", "sharded", "offloaded", "server"]
"""Where the teacher lies: beside the student, on a device of its own, in shards over the ranks, in the host's memory and
moved layer by layer, or behind a server that sends its last hidden states."""


class ModelConfig(ConfigSection):
    """Where a model comes from, and how it is prompted."""

    model: LocalPath
    """Hub id, local directory, or `lab:NAME`."""
    revision: str | None = None
    """Hub revision (branch, tag or commit)."""
    gguf_file: str | None = None
    """Name of a GGUF file inside `model`; it is dequantised when loaded."""
    adapter: LocalPath | None = None
    """A PEFT adapter (hub id or directory) that is put on top of `model`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type. `auto`: bfloat16 on an accelerator (float16 on a T4 or V100) and on a CPU with AVX512-BF16 or AMX,
    float32 on other CPUs and for the lab's models."""
    attention: str | None = None
    """Attention implementation by its transformers name (`sdpa`, `eager`, ...). Default: the model's own choice."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""
    system_prompt: str | None = None
    """System text. A chat template without a system role gets it at the head of the user turn."""
    chat_template_kwargs: dict[str, Any] = {}
    """Arguments for the chat template, such as `enable_thinking: false`."""


class LoraConfig(ConfigSection):
    """The low-rank adapter that the student trains."""

    r: int = Field(32, ge=1, le=65_536)
    """Rank."""
    alpha: float = Field(64, gt=0)
    """Scale; the update is multiplied by `alpha / r`."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapter's input while training."""
    target_modules: str | list[str] = "all-linear"
    """Module names that get an adapter; `all-linear` is every linear layer but the head."""


class StudentConfig(ModelConfig):
    """The student: a model, and what of it is trained."""

    train: Literal["lora", "full"] = "lora"
    """Train a LoRA adapter, or every weight."""
    lora: LoraConfig = LoraConfig()
    """Settings of the adapter (`train: lora`)."""


class TeacherConfig(ModelConfig):
    """The teacher: a frozen model, where it is kept, and what it is asked (docs/scale.md)."""

    placement: Placement = "same"
    """Where its weights are. `same`: on the student's device. `device`: on `teacher.device`. `sharded`: split over the processes
    of a run. `offloaded`: in the host's memory (on a CPU: in their files), read layer by layer. `server`: in another program."""
    device: str | None = None
    """The device of `placement: device`, such as `cuda:1`."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Round its weights when they are loaded, with bitsandbytes. Its distributions change with them."""
    server: Urls = []
    """Addresses of the servers of `placement: server`, such as `http://127.0.0.1:8000` (docs/servers.md)."""
    server_scores: Literal["hidden", "top_k"] = "hidden"
    """What servers give. `hidden`: hidden states, so that the divergence is exact. `top_k`: log-probabilities of the most probable
    tokens; the others count as one event, an approximation whose divergence is never above the exact one."""
    server_top_k: int = Field(64, ge=1)
    """Tokens at each position of `server_scores: top_k`."""
    prompt: str | None = None
    """What it is asked in training in place of `{question}`, such as `"{question}\n\nReference: {answer}"`: a privileged teacher."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """A device belongs to its placement; only whole weights on one device can be rounded; a prompt holds the question."""
        if (self.placement == "device") != (self.device is not None):
            raise ValueError("placement: device and device: NAME go together; give both or neither")
        if (self.placement == "server") != bool(self.server):
            raise ValueError("placement: server and server: ADDRESS go together; give both or neither")
        if self.placement == "server" and (self.adapter or self.gguf_file):
            raise ValueError(
                "a server gives the model as its directory holds it; export an adapter or GGUF file as a whole model first"
            )
        if self.quantization != "none" and self.placement not in ("same", "device"):
            raise ValueError(f"quantization does not go with placement: {self.placement}; use same or device")
        if self.adapter and self.placement in ("offloaded", "sharded"):
            raise ValueError(f"an adapter does not go with placement: {self.placement}; merge it into the model first")
        if self.prompt is not None and "{question}" not in self.prompt:
            raise ValueError("prompt does not contain {question}, so the teacher would not see the problem")
        return self
