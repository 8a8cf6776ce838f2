"""Where problems come from, for training and for evaluation, and how an evaluation is made."""

from typing import Any, Literal

from pydantic import Field

from esr.config.section import LocalPath, Section, Seed


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
    """Column that holds the question, or the conversation as a list of messages. Rows without a column `question` are read in the
    form that their columns show: messages, `prompt`, ShareGPT, Alpaca, glaive, NuminaMath, CodeUltraFeedback."""
    answer: str = "answer"
    """Column that holds the reference answer (`a.b`: b inside a); only evaluation needs it. Without such a column and a grader, the
    student is evaluated by its divergence from the teacher."""
    tools: Literal["template", "prompt"] = "template"
    """How functions that may be called are offered: by the chat template, or in words at the head of the question."""
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
    batch_size: int | None = Field(None, ge=1)
    """Problems sampled together. Default: what the memory plan allows, at most 256 responses. Halved when memory runs out."""
    teacher: bool = True
    """Evaluate the teacher too, once."""
    unsafe_code: bool = Field(False, exclude=True)
    """Run generated code without a sandbox. Holds for one command line; a file may not say it, and no record keeps it."""

    @property
    def batch(self) -> int:
        """Problems sampled together where no memory plan chooses: in analyses, whose parts are kept by batch."""
        return self.batch_size or 32

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, without what only says when and how fast."""
        return self.model_dump(exclude={"every", "batch_size", "teacher"})
