"""What a run needs but the weights, and what can be said of it in seconds: the static part of `esr check`, and of `esr train`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from esr import budget, probe, prompts
from esr.budget import Budget, Placed
from esr.config import Config
from esr.console import say
from esr.distill import PromptPair
from esr.errors import UserError
from esr.evaluation.graded import ungraded
from esr.models import adapters
from esr.models.digests import data, models
from esr.models.lm import resolve_device
from esr.models.load import on_meta, read_config
from esr.pair import Pair, open_pair
from esr.ranks import Ranks, here
from esr.records.static import Static
from esr.records.tokenizers import TwoTokenizers
from esr.runs import trackers
from esr.runs.rundir import RunDir
from esr.tasks.problems import Chosen, PromptSide, apart, sides, training


@dataclass(frozen=True)
class Prepared:
    """All that a run needs but the weights: made in seconds, so that mistakes show before the long work."""

    config: Config
    pair: Pair
    prompts: list[PromptPair]
    measured: Chosen
    """Evaluation problems; none without an `eval` section."""
    tokenizers: TwoTokenizers | None
    """How well two tokenizers can be compared; None with one vocabulary."""
    inputs: dict[str, str]
    """Digests of the data and the local models, by key."""
    left_out: Counter[str]
    """Rows of the training data that are no prompts, by reason."""
    longest: tuple[int, int]
    """Tokens of the longest prompt in training, and in the evaluation (0 without one)."""
    budget: Budget | None
    """The memory plan by the models' shapes; None for an architecture that runs only with its weights."""

    def facts(self) -> Static:
        """All of it that a machine would read."""
        config, (student_ends, teacher_ends) = self.config, self.pair.ends
        return Static(
            student=config.student.model,
            teacher=config.teacher.model,
            student_ends=student_ends,
            teacher_ends=teacher_ends,
            tokenizers=self.tokenizers,
            prompts=len(self.prompts),
            left_out=dict(self.left_out),
            prompts_taken=config.prompts_taken,
            longest_prompt=self.longest[0],
            evaluation_problems=len(self.measured.problems),
            longest_evaluation_prompt=self.longest[1],
            memory=self.budget,
        )


def prepare(config: Config, memory: int | None = None) -> Prepared:
    """Check models, tokenizers and data, and plan the memory of an accelerator with `memory` bytes (None: of the device at hand).

    Raises `UserError` with one sentence if something does not fit together.
    """
    trackers.check(config)
    pair = open_pair(config)
    for side in (config.student, config.teacher):
        probe.before_loading(side)
    for line in pair.describe():
        say(line)
    trained = training(config, pair)
    tokenizers = pair.measure([p.conversation for p in trained.problems], config.loss.merge_terminators)
    for line in tokenizers.describe() if tokenizers else []:
        say(line)
    measured = apart(config.eval, trained.problems) if config.eval else Chosen([])
    both = sides(config, pair)
    rendered = [PromptPair(p, *(prompts.ask(t, c, p) for t, c in both)) for p in trained.problems]
    named = [(name, *side) for name, side in zip(("student", "teacher"), both, strict=True)]
    for line in prompts.describe(named, trained.problems):
        say(line)
    asked = [[prompts.of(t, c, p) for p in measured.problems] for t, c in both]
    require_room(config, rendered, asked, both)
    own = max(max(len(p.student_ids), len(p.teacher_ids)) for p in rendered)
    longest = own, max((len(ids) for side in asked for ids in side), default=0)
    for line in (*describe_data(config, trained, rendered), *describe_adapter(config)):
        say(line)
    inputs = {**models(config), **data(config, trained.problems, measured.problems)}
    planned = plan_memory(config, longest, memory)
    for line in planned.describe() if planned else ["The memory plan of these models needs their weights; it follows."]:
        say(line)
    return Prepared(config, pair, rendered, measured, tokenizers, inputs, trained.left_out, longest, planned)


def plan_memory(config: Config, longest: tuple[int, int], memory: int | None) -> Budget | None:
    """The memory plan by the models' shapes; None if they run only with their weights."""
    device = resolve_device(config.run.device)
    if memory is not None and config.run.device != "cpu":
        device = torch.device("meta")  # stands for an accelerator that is not here
    try:
        held = budget.without_weights(config, device)
    except (RuntimeError, ValueError, NotImplementedError):
        return None
    there, placed = memory or budget.available(device), Placed.of(config, here().world)
    found = budget.plan(config, held, there, *longest, placed=placed)
    return (
        found
        if found.fits
        else found.model_copy(update={"remedies": tuple(budget.remedies(config, held, there, *longest, placed=placed))})
    )


def require_room(
    config: Config, pairs: list[PromptPair], asked: Sequence[list[list[int]]], both: Sequence[PromptSide]
) -> None:
    """Raise `UserError` if a prompt and the response to it do not fit a model; `asked` are both sides' evaluation prompts."""
    rows = [[pair.student_ids for pair in pairs], [pair.teacher_ids for pair in pairs]]
    evaluated = (True, config.eval and config.eval.teacher)
    for (_, side), own, questions, wanted in zip(both, rows, asked, evaluated, strict=True):
        if side.gguf_file:
            continue
        settings = read_config(side)
        prompts.require_room(own, side.model, settings, config.rollout.max_new_tokens, "rollout.max_new_tokens")
        if config.eval and wanted:
            prompts.require_room(questions, side.model, settings, config.eval.max_new_tokens, "eval.max_new_tokens")


def describe_data(config: Config, trained: Chosen, kept: Sequence[PromptPair]) -> Iterator[str]:
    """Lines for people: how many prompts there are, how long, how often each is used, and how many are the same."""
    needed = config.prompts_taken
    lengths = sorted(len(pair.student_ids) for pair in kept)
    passes = f", so each is used {needed / len(kept):.1f} times" if needed > len(kept) else ""
    yield (
        f"{trained.total:,} training prompts ({trained.repeated:,} repeat another one's question), of {lengths[len(lengths) // 2]} tokens "
        f"in the middle and {lengths[-1]} at most; the steps take {needed:,}{passes}."
    )


def describe_adapter(config: Config) -> Iterator[str]:
    """A line for people: which layers of the student get an adapter. Raises `UserError` if they cannot have one."""
    student = config.student
    if student.train == "full" or student.adapter or student.gguf_file:
        return
    module = adapters.fresh_adapter(on_meta(student), student, config.run.seed)
    weights = sum(p.numel() for p in module.parameters() if p.requires_grad)
    layers = [name for name, part in module.named_modules() if hasattr(part, "lora_A")]
    kinds = sorted({name.rpartition(".")[2] for name in layers})
    yield f"LoRA of rank {student.lora.r} goes on {len(layers)} layers ({', '.join(kinds)}): {weights:,} weights are trained."


def conversations(config: Config) -> list[list[dict[str, Any]]]:
    """A run's training prompts in their order, as the student's messages: for tools that render them themselves."""
    system = config.student.system_prompt
    found = []
    for problem in training(config, open_pair(config)).problems:
        turns = [message.model_dump(exclude_defaults=True) for message in problem.context]
        own = bool(turns) and turns[0]["role"] == "system"
        head = [{"role": "system", "content": system}] if system and not own else []
        found.append([*head, *turns, {"role": "user", "content": problem.question}])
    return found


def require_ranks(plan: Prepared, ours: Ranks) -> None:
    """Raise `UserError`, on every rank, if a run cannot be divided among so many."""
    config = plan.config
    if config.rollout.prompts_per_step < ours.world:
        raise UserError(
            f"rollout.prompts_per_step is {config.rollout.prompts_per_step}, fewer than the {ours.world} processes; raise it, or "
            "start fewer."
        )
    if config.teacher.placement != "sharded":
        return
    if ours.world == 1:
        raise UserError(
            "teacher.placement is sharded, but there is one process; start several (docs/scale.md), or use offloaded."
        )
    if config.eval and (config.eval.teacher or ungraded(plan.measured.problems)):
        raise UserError(
            "A sharded teacher takes no part in evaluations; set eval.teacher=false, and evaluate graded tasks."
        )


def require_writing_teacher(config: Config, run: RunDir) -> None:
    """Raise `UserError` if the teacher is to be evaluated but its server does not write."""
    if config.eval and config.eval.teacher and config.teacher.placement == "server" and not run.evaluation("teacher"):
        raise UserError(
            "eval.teacher: the teacher's server scores and does not write; set eval.teacher=false. `esr eval CONFIG --who teacher "
            "eval.engine=vllm eval.server=ADDRESS` evaluates it on a server that writes."
        )
