"""The configuration of a run: frozen, every key documented, unknown keys refused. No torch here.

Precedence: defaults < YAML file < `section.key=value` overrides. The defaults are the recipe of arXiv:2605.27028, so an
ESR run and a full on-policy distillation run differ in one key, `rollout.max_new_tokens`.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

ESR_N = 100
FULL_ROLLOUT_CAP = 2048


def _home(path: str) -> str:
    """`~` and `~name` are home directories."""
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise ValueError("there is no such home directory")
    if len(os.fsencode(os.path.basename(full))) > 255:
        raise ValueError("a name may have 255 bytes")
    return full


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_home)]
"""A path, or what may be one."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A frozen group of keys. Values are what they look like: text is no number, and a number is finite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class ModelConfig(Section):
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
    """Weights' type. `auto`: bfloat16 on an accelerator (float16 on a T4 or V100), float32 on a CPU."""
    attention: str | None = None
    """Attention implementation by its transformers name (`sdpa`, `eager`, ...). Default: the model's own choice."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""
    system_prompt: str | None = None
    """System text. A chat template without a system role gets it at the head of the user turn."""
    chat_template_kwargs: dict[str, Any] = {}
    """Arguments for the chat template, such as `enable_thinking: false`."""


class LoraConfig(Section):
    """The low-rank adapter that the student trains."""

    r: int = Field(32, ge=1)
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


class TaskConfig(Section):
    """Where problems come from."""

    source: LocalPath
    """Hub data set id, data files (or a pattern, such as `data/*.jsonl`), `math500`, `gsm8k`, `aime24`, `aime25`, `humaneval`,
    `humaneval+`, `mbpp`, `mbpp+`, `reasoning_gym:TASK`, `bfcl:CATEGORY`, or `lab:TASK`."""
    subset: str | None = None
    """Configuration name of a hub data set."""
    split: str | None = None
    """Split of a hub data set; the default is `train` for training prompts and `test` for evaluation."""
    question: str = "question"
    """Column that holds the question."""
    answer: str = "answer"
    """Column that holds the reference answer (`a.b`: b inside a); only evaluation needs it."""
    grader: str | None = None
    """`answers` (mathematics, the default), `choice`, `text[:exact|contains|regex|numeric:0.01]`, `python:FILE.py:FUNCTION`."""
    params: dict[str, Any] = {}
    """Parameters of a generated task."""
    size: int = Field(1000, ge=1)
    """Number of problems of a generated task."""
    limit: int | None = Field(None, ge=1)
    """Use only this many problems, drawn with `seed`."""
    seed: Seed = 0
    """Seed of the generator and of the draw."""


class DataConfig(TaskConfig):
    """Training prompts."""

    max_prompt_tokens: int = Field(1024, ge=1)
    """Longer prompts are left out (and counted), never cut."""


class HorizonConfig(Section):
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


class RolloutConfig(Section):
    """What the student writes at each step."""

    prompts_per_step: int = Field(16, ge=1)
    """Prompts in one optimiser step."""
    samples_per_prompt: int = Field(1, ge=1)
    """Responses to each prompt."""
    max_new_tokens: int = Field(ESR_N, ge=1)
    """N, the early-stop length. The paper's ESR is 100; its full rollouts are 2048 and more."""
    horizon: HorizonConfig = HorizonConfig()
    """Which N each step takes, up to `max_new_tokens`."""
    temperature: float = Field(0.7, ge=0)
    """Sampling temperature; 0 is greedy. The divergence is always taken at temperature 1."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus: the smallest set of tokens with this probability mass."""
    top_k: int = Field(0, ge=0)
    """Keep only the k most probable tokens; 0 keeps all."""

    @property
    def stops_at(self) -> str:
        """N in words: `100`, or `25 to 640 (linear)` where the horizon changes from step to step."""
        h = self.horizon
        return str(self.max_new_tokens) if h.policy == "fixed" else f"{h.start} to {self.max_new_tokens} ({h.policy})"


SelectionKind = Literal[
    "all", "first", "last", "random", "top_kl", "top_student_entropy", "top_teacher_entropy",
    "top_kl_student_entropy", "top_student_teacher_entropy", "top_kl_student_teacher_entropy",
]  # fmt: skip


class SelectionConfig(Section):
    """Which response positions carry loss weight."""

    by: SelectionKind = "all"
    """`all`, or `k` positions of each response chosen by place, at random, or by the largest signal."""
    k: int = Field(ESR_N, ge=1)
    """Positions kept in each response (ignored by `all`)."""


class PositionWeightConfig(Section):
    """A soft stop: factors on the loss weights by position t (from 0)."""

    shape: Literal["flat", "linear", "exponential", "rising"] = "flat"
    """1; max(0, 1 - t / scale); exp(-t / scale); min(1, (t + 1) / scale)."""
    scale: int = Field(ESR_N, ge=1)
    """In tokens."""


class LossConfig(Section):
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


class OptimConfig(Section):
    """AdamW and its schedule."""

    steps: int = Field(200, ge=1)
    """Optimiser steps; each uses fresh rollouts."""
    max_tokens: int | None = Field(None, ge=1)
    """End after the step in which the student has generated so many tokens, if that is sooner; the schedule shrinks to fit."""
    max_seconds: float | None = Field(None, gt=0)
    """The same for seconds of training (evaluations left out). Such a run cannot be repeated figure for figure."""
    lr: float | None = Field(None, gt=0)
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


class EvalConfig(TaskConfig):
    """The evaluation before, during and after training."""

    samples: int = Field(4, ge=1)
    """Responses to each problem (k of avg@k)."""
    max_new_tokens: int = Field(2048, ge=1)
    """Length cap of evaluation responses. Nothing to do with `rollout.max_new_tokens`."""
    temperature: float = Field(0.7, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus mass."""
    every: int = Field(0, ge=0)
    """Also evaluate every so many steps; 0: only before and after."""
    batch_size: int = Field(32, ge=1)
    """Problems sampled together."""
    teacher: bool = True
    """Evaluate the teacher too, once."""
    unsafe_code: bool = Field(False, exclude=True)
    """Run generated code without a sandbox. Holds for one command line; a file may not say it, and no record keeps it."""

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, without what only says when and how fast."""
        return self.model_dump(exclude={"every", "batch_size", "teacher"})

    def mark(self) -> str:
        """A short part of a file name that tells evaluations with other settings apart."""
        dumped = self.model_dump_json(exclude={"every", "batch_size", "teacher"})
        source = re.sub(r"[^A-Za-z0-9.]+", "-", self.source).strip("-")[-40:]
        return f"{source}-{hashlib.sha256(dumped.encode()).hexdigest()[:6]}"


class RunConfig(Section):
    """Where and how a run runs."""

    dir: LocalPath | None = None
    """Run directory. Default: `runs/` and the config file's name."""
    seed: Seed = 42
    """Seed of the data order, the rollouts and the dropout."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ..."""
    threads: int | None = Field(None, ge=1)
    """Threads of computation on a CPU. Default: what torch chooses when the run begins, and the same when it goes on."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between checkpoints; one is always written at the end."""
    rollouts_every: int = Field(10, ge=1)
    """Steps between records of a few rollouts in `rollouts.jsonl`."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Where metrics go besides `metrics.jsonl`."""


class Config(Section):
    """Everything that determines a run."""

    student: StudentConfig
    """The model that writes and learns."""
    teacher: ModelConfig
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
