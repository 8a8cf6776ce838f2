"""Problems from data sets on the Hugging Face hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from esr.config import TaskConfig
from esr.errors import UserError
from esr.models import hub
from esr.tasks.files import Wanted, from_dataset
from esr.tasks.rows import LazyProblems, Row, batched, to_problems


@dataclass(frozen=True)
class Source:
    """Where a data set lies on the hub, and how its columns are called."""

    id: str
    subset: str | None
    train: str | None
    """Split with training prompts, if it has one."""
    test: str
    question: str
    answer: str


NAMED = {
    "math500": Source("HuggingFaceH4/MATH-500", None, None, "test", "problem", "answer"),
    "gsm8k": Source("openai/gsm8k", "main", "train", "test", "question", "answer"),
    "aime24": Source("HuggingFaceH4/aime_2024", None, None, "train", "problem", "answer"),
    "aime25": Source("math-ai/aime25", None, None, "test", "problem", "answer"),
}
"""The named tasks. The only split of aime24 is called train; it is the whole test."""


def problems(task: TaskConfig, purpose: Literal["train", "eval"], need_answer: bool) -> LazyProblems:
    """The problems of a split; the task's `subset` and `split` go before the defaults of a named task.

    Raises `UserError`, within seconds, for a hub that cannot be reached where there is no cached copy, and for an
    unknown data set, subset, split or column.
    """
    source = NAMED.get(task.source) or Source(task.source, None, "train", "test", task.question, task.answer)
    split = task.split or (source.train if purpose == "train" else source.test)
    if split is None:
        raise UserError(f"{task.source} is a test set without training prompts; set `data.source` to another data set.")
    table = rows(
        source.id, task.subset or source.subset, split, (source.question, source.answer if need_answer else None)
    )
    named = task.model_copy(update={"question": source.question, "answer": source.answer})
    return to_problems(table, f"{source.id} (split {split})", task.source, named, need_answer)


def rows(name: str, subset: str | None, split: str, wanted: Wanted | None = None) -> Iterator[Row]:
    """The rows of a split, from the hub or, where it cannot be reached, from the local cache."""
    import datasets

    trouble = hub.trouble("dataset", name)
    try:
        with hub.patient(trouble):
            table = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # the library raises many kinds
        if trouble:
            raise UserError(
                f"Data set {name} cannot be reached on the hub ({trouble}) and is not in the local cache;"
                " check the connection, or set the task's `source` to a local .jsonl or .parquet file."
            ) from None
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"Data set {name} cannot be loaded: {reason}. Check the task's `subset` and `split`.") from None
    return from_dataset(table, wanted) if wanted else batched(table)
