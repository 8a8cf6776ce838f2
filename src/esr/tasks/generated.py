"""Problems that a generator makes: reasoning-gym, by task name and parameters."""

import dataclasses
import difflib
from typing import Any, Literal

from esr.config import TaskConfig
from esr.errors import UserError
from esr.records.problem import Problem
from esr.tasks.rows import problem_id

SPAN = 2**30  # training prompts come from random states below it, evaluation problems from those after it


def problems(name: str, task: TaskConfig, purpose: Literal["train", "eval"]) -> list[Problem]:
    """`task.size` problems of the reasoning-gym task `name`, graded by its own verifier.

    The generator takes its i-th problem from the random state seed + i, so evaluation starts 2^30 further on: the same
    `seed` may stand in `data` and `eval`. A small task can still ask the same question twice (see `tasks.disjoint`).
    Raises `UserError` for a missing package, an unknown task, and parameters that the task does not take.
    """
    source = f"reasoning_gym:{name}"
    seed = task.seed % SPAN + (SPAN if purpose == "eval" else 0)
    generator = _generator(name, dict(task.params), seed, task.size)
    made: list[Problem] = []
    for i in range(task.size):
        try:
            entry = generator[i]
        except Exception as error:  # whatever a generator cannot do with its parameters
            trouble = _first_line(error)
            raise UserError(f"{source} failed at problem {i} ({trouble}); change `params` or `size`.") from None
        answer = entry.get("answer")
        data = {"task": name, "params": task.params, "entry": entry}
        made.append(
            Problem(
                id=problem_id(source, i, entry["question"]),
                question=entry["question"],
                answer=None if answer is None else str(answer),
                grader="gym",
                data=data,
            )
        )
    return made


def _generator(name: str, params: dict[str, Any], seed: int, size: int) -> Any:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError:
        raise UserError('Generated tasks need reasoning-gym: pip install "esr-distill[tasks]"') from None
    source = f"reasoning_gym:{name}"
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`reasoning_gym.factory.DATASETS` lists them."
        raise UserError(f"{source}: there is no such task; {hint}")
    known = [field.name for field in dataclasses.fields(DATASETS[name][1]) if field.name not in ("seed", "size")]
    unknown = [key for key in params if key not in known]
    if unknown:
        raise UserError(f"{source} has no parameter {', '.join(unknown)} in `params`; it has {', '.join(known)}.")
    try:
        return create_dataset(name, **params, seed=seed, size=size)
    except Exception as error:  # the checks of a task are assertions, or fail by type
        raise UserError(f"{source} does not accept its `params` {params}: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
