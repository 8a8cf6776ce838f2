"""What a run needs but the weights, and what can be said of it in seconds: the static part of `esr check`, and of `esr train`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esr import probe, prompts, trackers
from esr.config import Config
from esr.console import say
from esr.distill import PromptPair
from esr.models import adapters
from esr.models.digests import data, models
from esr.models.load import on_meta, read_config
from esr.pair import Pair, open_pair
from esr.problems import Chosen, Side, apart, sides, training
from esr.records.problem import Problem
from esr.records.tokenizers import TwoTokenizers


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


def prepare(config: Config) -> Prepared:
    """Check models, tokenizers and data. Raises `UserError` with one sentence if something does not fit."""
    trackers.check(config)
    pair = open_pair(config)
    for side in (config.student, config.teacher):
        probe.before_loading(side)
    for line in pair.describe():
        say(line)
    trained = training(config, pair)
    tokenizers = pair.measure([p.question for p in trained.problems], config.loss.merge_terminators)
    for line in tokenizers.describe() if tokenizers else []:
        say(line)
    measured = apart(config.eval, trained.problems) if config.eval else Chosen([])
    both = sides(config, pair)
    rendered = [PromptPair(p, *(prompts.ask(t, c, p) for t, c in both)) for p in trained.problems]
    for line in prompts.describe([(name, *side) for name, side in zip(("student", "teacher"), both, strict=True)]):
        say(line)
    require_room(config, rendered, measured.problems, both)
    for line in (*describe_data(config, trained, rendered), *describe_adapter(config)):
        say(line)
    inputs = {**models(config), **data(config, trained.problems, measured.problems)}
    return Prepared(config, pair, rendered, measured, tokenizers, inputs, trained.left_out)


def require_room(config: Config, pairs: list[PromptPair], problems: list[Problem], both: Sequence[Side]) -> None:
    """Raise `UserError` if a prompt and the response to it do not fit a model."""
    rows = [[pair.student_ids for pair in pairs], [pair.teacher_ids for pair in pairs]]
    for (tokenizer, side), own, evaluated in zip(both, rows, (True, config.eval and config.eval.teacher), strict=True):
        if side.gguf_file:
            continue
        settings = read_config(side)
        prompts.require_room(own, side.model, settings, config.rollout.max_new_tokens, "rollout.max_new_tokens")
        if config.eval and evaluated:
            asked = [prompts.render(tokenizer, side, p.question) for p in problems]
            prompts.require_room(asked, side.model, settings, config.eval.max_new_tokens, "eval.max_new_tokens")


def describe_data(config: Config, trained: Chosen, kept: Sequence[PromptPair]) -> Iterator[str]:
    """Lines for people: how many prompts there are, how long, how often each is used, and how many are the same."""
    needed = config.optim.steps * config.rollout.prompts_per_step
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
