"""The prompts that a run trains on, and the problems that measure it: the same for training, `esr eval` and analyses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from esr import prompts, tasks
from esr.config import Config, EvalConfig, ModelConfig, TaskConfig
from esr.console import say
from esr.errors import UserError
from esr.grading.check import check
from esr.pair import Pair
from esr.records.evaluation import Evaluation
from esr.records.problem import Message, Problem
from esr.tasks.rows import MOST_LEFT_OUT, UNGRADED

IN_TRAINING = "the question is a training prompt"


PromptSide = tuple[PreTrainedTokenizerBase, ModelConfig]


@dataclass(frozen=True)
class Chosen:
    """Problems that are used, and the rows and problems that are not, by reason."""

    problems: list[Problem]
    left_out: Counter[str] = field(default_factory=Counter)
    total: int = 0
    """Problems that the source has."""
    repeated: int = 0
    """Those of them whose question had occurred before."""


def sides(config: Config, pair: Pair) -> list[PromptSide]:
    """Both models' tokenizers, with how each is prompted."""
    return [(pair.student_tokenizer, config.student), (pair.teacher_tokenizer, config.teacher)]


def training(config: Config, pair: Pair) -> Chosen:
    """The prompts of a run, in the order of its seed: no more than its steps need, none longer than it allows."""
    loaded = tasks.load(config.data, "train", need_answer="{answer}" in (config.teacher.prompt or ""))
    if "{answer}" in (config.teacher.prompt or "") and loaded.problems[0].answer is None:
        raise UserError("teacher.prompt shows {answer}, but the training data has no answers; set data.answer.")
    order = np.random.default_rng(config.run.seed).permutation(len(loaded.problems))
    limit = config.data.max_prompt_tokens
    kept, left_out = prompts.keep_short(
        (loaded.problems[i] for i in order), sides(config, pair), limit, config.prompts_taken
    )
    for reason, count in left_out.items():
        say(f"{count:,} prompts are left out: {reason}")
    left_out += loaded.left_out
    return Chosen(kept, left_out, len(loaded.problems), loaded.repeated)


def apart(
    task: TaskConfig, trained: Sequence[Problem], need_answer: bool = True, evaluated: Sequence[Problem] = ()
) -> Chosen:
    """The problems of a task that are no training prompts (`trained`) and whose reference can be graded.

    What is left out is said, but for problems that the final evaluation keeps for itself (`evaluated`). Raises `UserError` if
    nothing, or less than half of the references, is left.
    """
    loaded = tasks.load(task, "eval", need_answer)
    problems, shared = tasks.disjoint(trained, loaded.problems)
    if shared:
        say(f"{shared} evaluation problems also occur among the training prompts and are left out.")
    problems, _ = tasks.disjoint(evaluated, problems)
    if not problems:
        raise UserError(
            "Every evaluation problem occurs among the training prompts; choose another eval.source or eval.split."
        )
    left_out = loaded.left_out + Counter({IN_TRAINING: shared} if shared else {})
    if not need_answer:
        return Chosen(problems, left_out)
    if isinstance(task, EvalConfig):
        problems = [posed(problem, task) for problem in problems]
    if problems[0].grader == UNGRADED:
        say(f"{tasks.describe(task)} has no references: responses are measured by their divergence from the teacher.")
        return Chosen(problems, left_out)
    return _gradable(task, problems, left_out)


def asked(config: Config, evaluation: Evaluation) -> dict[str, Problem]:
    """The problems of a run's evaluation by id, as it asked them; none, and a word, if they cannot be had any more."""
    assert config.eval is not None
    known = {k: v for k, v in evaluation.settings.items() if k in EvalConfig.model_fields}
    task = EvalConfig.model_validate(known) if evaluation.variant else config.eval
    try:
        return {p.id: posed(p, task) for p in tasks.load(task, "eval", need_answer=True).problems}
    except UserError as error:
        say(f"{evaluation.name}: prompts and references are left out ({error})")
        return {}


def posed(problem: Problem, task: EvalConfig) -> Problem:
    """The problem as the evaluation asks it: with its own prompt and system text, where it has them."""
    question = problem.question if task.prompt is None else task.prompt.replace("{question}", problem.question)
    context = problem.context
    if task.system_prompt is not None:
        said = context[1:] if context and context[0].role == "system" else context
        context = (Message(role="system", content=task.system_prompt), *said)
    return problem.model_copy(update={"question": question, "context": context})


def _gradable(task: TaskConfig, problems: list[Problem], left_out: Counter[str]) -> Chosen:
    checked, name = check(problems), tasks.describe(task)
    faults = "; ".join(f"{reason}: {count:,}" for reason, count in checked.left_out.most_common())
    if checked.left_out.total() >= MOST_LEFT_OUT * len(problems):
        raise UserError(
            f"{name}: {checked.left_out.total():,} of {len(problems):,} problems cannot be graded ({faults});"
            " check the task's `answer` and `grader`."
        )
    if faults:
        say(f"{name}: problems that cannot be graded are left out ({faults}).")
    if checked.unchecked:
        say(f"{name}: {checked.unchecked:,} of its references were not checked against their grader.")
    return Chosen(checked.problems, left_out + checked.left_out)
