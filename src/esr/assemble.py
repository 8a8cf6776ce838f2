"""A run that is prepared gets its weights: both models loaded and tried out, their servers tested, memory planned, the optimiser."""

from typing import Any

import torch

from esr import budget, probe
from esr.budget import Budget, Placed
from esr.budget.footprint import footprint
from esr.config import Config
from esr.console import say
from esr.distill import Distiller
from esr.models.lm import LM, resolve_dtype
from esr.models.load import load_student
from esr.models.remote import open_teacher
from esr.models.sharded import shard, sharded, with_ends
from esr.prepare import Prepared
from esr.ranks import here
from esr.runs.rundir import RunDir
from esr.sampling.kept import Kept
from esr.sampling.sampler import Sampler
from esr.sampling.served import check_teacher, writing
from esr.scoring import padding_is_exact


def load_pair(plan: Prepared, device: torch.device, teacher: LM | None) -> tuple[LM, LM]:
    """The student, and the teacher unless it is here, tried out."""
    config, stops = plan.config, plan.pair.stops
    named = [
        f"{c.model} ({str(resolve_dtype(c, device)).removeprefix('torch.')})" for c in (config.student, config.teacher)
    ]
    say(f"Loading {named[0]} on {device}." if teacher else f"Loading {named[0]} and {named[1]} on {device}.")
    split = which_split(config)
    cpu = torch.device("cpu")
    student = load_student(config.student, cpu if split[0] else device, stops[0], config.run.seed)
    teacher = teacher or open_teacher(config.teacher, student, cpu if split[1] else device, stops[1])
    for lm in (student, teacher):
        if lm.scorer is None:
            probe.check(lm)
            padding_is_exact(lm)  # found out while weights are whole
    if here().first:
        check_teacher(teacher, [p.teacher_ids for p in plan.prompts], config.rollout.max_new_tokens)
    return student, teacher


def which_split(config: Config) -> tuple[bool, bool]:
    """Whether the weights of student and teacher are split over the processes."""
    placed = Placed.of(config, here().world)
    return placed.sharded, placed.teacher == "sharded"


def build(plan: Prepared, device: torch.device, teacher: LM | None = None, run: RunDir | None = None) -> Distiller:
    """Load the student, and the teacher unless it is here, test their servers, and set up the optimiser.

    `run` is needed where servers write.
    """
    config, pair = plan.config, plan.pair
    student, scoring = here().together(lambda: load_pair(plan, device, teacher))
    student, measured = here().together(lambda: written_by(plan, student, run))
    fitting = fit(plan, student, scoring, device)
    for lm, split in zip((student, scoring), which_split(config), strict=True):
        if split:
            shard(lm, device)
    with_ends(scoring)
    if fitting.checkpointing:
        model: Any = student.causal_lm
        name = "activation_checkpointing_enable"  # what transformers calls it from 5.23 on
        enable = getattr(model, name) if hasattr(model, name) else model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    trained = [p for p in student.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.optim.weight_decay)
    say(
        f"Training {sum(p.numel() for p in trained):,} of {sum(p.numel() for p in student.module.parameters()):,} weights."
    )
    rollout = config.rollout
    sampler = Sampler(rollout.max_new_tokens, pair.terminators, rollout.temperature, rollout.top_p, rollout.top_k)
    events = pair.events(config.loss.merge_terminators).to(device)
    baseline = pair.baseline(config.loss, device)
    stays = device.type == "cuda" and not sharded(
        student
    )  # weights in shards are gathered at other addresses each time
    kept, tokens = Kept() if stays else None, fitting.micro_batch_tokens
    return Distiller(config, student, scoring, events, sampler, optimizer, tokens, say, baseline, measured, kept)


def written_by(plan: Prepared, student: LM, run: RunDir | None) -> tuple[LM, LM]:
    """The student as it writes rollouts, and as it is evaluated: by this process or by servers, which are tested."""
    rollout, evaluation, texts = plan.config.rollout, plan.config.eval, [p.student_ids for p in plan.prompts]
    if run is None:
        return student, student
    served_student = writing(student, "rollout.server", rollout.server, run.adapters / "rollout", texts)
    urls = evaluation.server if evaluation else []
    if urls and urls == rollout.server:
        return served_student, served_student
    return served_student, writing(student, "eval.server", urls, run.adapters / "eval", texts)


def fit(plan: Prepared, student: LM, teacher: LM, device: torch.device) -> Budget:
    """The memory plan, now that the models are there; said if it could not be before. That of the rank with the least memory."""
    held = footprint(student, teacher, device)
    loaded = zip((student, teacher), (held.student, held.teacher), strict=True)
    memory = budget.available(device) + sum(
        own.weights for lm, own in loaded if next(lm.module.parameters()).device == device
    )
    placed = Placed.of(plan.config, here().world)
    found = budget.plan(plan.config, held, min(here().gather(memory)), *plan.longest, placed=placed)
    for line in () if plan.budget else found.describe():
        say(line)
    return found
