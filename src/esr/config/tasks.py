"""Where problems come from, for training and for evaluation, and how an evaluation is made."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from esr.config.protocols import PROTOCOLS, Protocol
from esr.config.section import ConfigSection, LocalPath, Seed, Urls, require_server


class TaskConfig(ConfigSection):
    """Where problems come from."""

    source: LocalPath
    """Hub data set id, data files (or a pattern, such as `data/*.jsonl`), `math500`, `gsm8k`, `aime24`, `aime25`, `humaneval`,
    `humaneval+`, `mbpp`, `mbpp+`, `reasoning_gym:TASK`, `bfcl:CATEGORY`, or `lab:TASK`."""
    subset: str | None = None
    """Configuration name of a hub data set."""
    split: str | None = None
    """Split of a hub data set; the default is `train` for training prompts and `test` for evaluation."""
    question: str = "question"
    """Column that holds the question, or the conversation as a list of messages. Rows without a column `question` are read in the
    form that their columns show: messages, `prompt`, ShareGPT, Alpaca, glaive, NuminaMath, CodeUltraFeedback."""
    answer: str = "answer"
    """Column that holds the reference answer (`a.b`: b inside a); only evaluation needs it. Without such a column and a grader, the
    student is evaluated by its divergence from the teacher."""
    tools: Literal["template", "prompt"] = "template"
    """How functions that may be called are offered: by the chat template, or in words at the head of the question."""
    grader: str | None = None
    """`answers` (mathematics, the default), `choice`, `text[:exact|contains|regex|numeric:0.01|last]`,
    `python:FILE.py:FUNCTION`, or `none`: nobody judges, the divergence from the teacher is measured."""
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


ASIDE = ("every", "batch_size", "teacher", "server")
"""Keys that say when, where and how fast an evaluation is made, not what of."""


class EvalConfig(TaskConfig):
    """The evaluation before, during and after training."""

    protocol: Protocol | None = None
    """Prompt, sampling and extraction as others have them for `math500`, `gsm8k`, `aime24` and `aime25`: `article`, `lighteval` or
    `lm-eval`. Keys that are given go before it."""
    prompt: str | None = None
    """The user's turn, with `{question}` in it; by default the question alone. Training does not see it."""
    system_prompt: str | None = None
    """System text of evaluation prompts, instead of each model's own; "" for none."""
    stop: list[str] = []
    """A response is graded only up to the first of these texts."""
    samples: int = Field(4, ge=1)
    """Responses to each problem (k of avg@k)."""
    max_new_tokens: int = Field(2048, ge=1)
    """Length cap of evaluation responses. Nothing to do with `rollout.max_new_tokens`."""
    temperature: float = Field(0.7, ge=0, le=100)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus mass."""
    every: int = Field(0, ge=0)
    """Also evaluate every so many steps; 0: only before and after."""
    batch_size: int | None = Field(None, ge=1)
    """Problems sampled together. Default: what the memory plan allows, at most 256 responses. Halved when memory runs out."""
    teacher: bool = True
    """Evaluate the teacher too, once."""
    engine: Literal["local", "vllm"] = "local"
    """Who writes: this process, or vLLM servers (docs/servers.md)."""
    server: Urls = []
    """Addresses of the servers of `engine: vllm`."""
    unsafe_code: bool = Field(False, exclude=True)
    """Run generated code without a sandbox. Holds for one command line; a file may not say it, and no record keeps it."""

    @model_validator(mode="before")
    @classmethod
    def _as_others_do(cls, given: Any) -> Any:
        """Fill in what the protocol says of the keys that are not given."""
        if not isinstance(given, dict) or given.get("protocol") is None:
            return given
        name, source = given["protocol"], given.get("source")
        known = sorted(task for protocol, task in PROTOCOLS if protocol == name)
        if known and source not in known:
            raise ValueError(
                f"protocol {name} is about {', '.join(known)}, not about {source}; leave eval.protocol out"
            )
        return {**PROTOCOLS.get((str(name), str(source)), {}), **given}

    @field_validator("prompt")
    @classmethod
    def _holds_the_question(cls, prompt: str | None) -> str | None:
        if prompt is not None and "{question}" not in prompt:
            raise ValueError("it must hold {question}, where the question goes")
        return prompt

    @property
    def batch(self) -> int:
        """Problems sampled together where no memory plan chooses: in analyses, whose parts are kept by batch."""
        return self.batch_size or 32

    @model_validator(mode="after")
    def _served(self) -> Self:
        require_server(self.engine, self.server)
        return self

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, without what only says when, where and how fast."""
        return self.model_dump(exclude={*ASIDE, *(["engine"] if self.engine == "local" else [])})
