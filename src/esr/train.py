"""The loop around `distill.step`: prepare, evaluate, step, log, save; resume exactly; stop cleanly."""

import math
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from esr import prompts
from esr.assemble import build
from esr.config import Config, OptimConfig
from esr.console import interrupts, progress, say
from esr.console.interrupts import Interrupts
from esr.distill import Distiller, PromptPair, StepReport, step
from esr.errors import RunStopped
from esr.evaluation import evaluate
from esr.evaluation.closeness import Reference
from esr.evaluation.graded import ungraded
from esr.grading.find import repetitive
from esr.method.horizon import Horizon
from esr.models import checkpoint
from esr.models.lm import LM, resolve_device
from esr.models.machine import machine, threads
from esr.models.server import ServerLost
from esr.nonfinite import NotFinite
from esr.prepare import Prepared, prepare, require_ranks, require_writing_teacher
from esr.ranks import here
from esr.records.evaluation import Evaluated
from esr.records.steps import step_name
from esr.runs import checked
from esr.runs.environment import note_left_out
from esr.runs.files import check_room
from esr.runs.resumption import check, forget_after, not_evaluated
from esr.runs.rundir import RunDir
from esr.runs.trackers import Log, trackers
from esr.sampling.served import published, require_servers

SAMPLES_KEPT = 2
"""Rollouts recorded in `rollouts.jsonl` at a recorded step."""


def train(config: Config, run: RunDir, fresh: bool = False) -> None:
    """Train to the last step, resuming what is there. Raises `UserError`, or `RunStopped` when interrupted."""
    carry_out(here().together(lambda: prepare(config)), run, fresh)


def carry_out(plan: Prepared, run: RunDir, fresh: bool = False, teacher: LM | None = None) -> None:
    """`train`, for a run that is prepared; `teacher` is one that is loaded already."""
    config, ours = plan.config, here()
    ours.together(lambda: require_ranks(plan, ours))
    device = resolve_device(config.run.device)
    with ExitStack() as stack:
        ours.together(lambda: stack.enter_context(run.locked() if ours.first else nullcontext()))
        stack.enter_context(threads(config.run.threads or (None if fresh else run.threads())))
        done = ours.of_first(ours.together(lambda: begin(plan, run, fresh, device) if ours.first else None))
        if done is None:
            return
        signals = stack.enter_context(interrupts.collected())
        distiller = build(plan, device, teacher, run)
        ours.together(lambda: resume(run, distiller, done))
        if done == 0 or evaluation_due(config, done):
            evaluate_now(plan, run, distiller, done, signals)
        loop(plan, run, distiller, done, signals)


def begin(plan: Prepared, run: RunDir, fresh: bool, device: torch.device) -> int | None:
    """Make or open the run's directory; returns the step that training goes on after, None if all is done."""
    config = plan.config
    if not run.complete(config):
        require_servers(config)
    run.open_or_create(config, machine(device), fresh, plan.inputs)
    checked.bring(run, config)
    done = check(run)
    if lost := not_evaluated(run, config, done):
        say(lost)
    if run.complete(config):
        say(f"{run.path} is complete ({config.optim.steps} steps); nothing to do.")
        return None
    check_room(run.path)
    require_writing_teacher(config, run)
    note_left_out(run.environment_file, plan.left_out)
    if plan.tokenizers:
        run.save_tokenizers(plan.tokenizers)
    return done


def resume(run: RunDir, distiller: Distiller, done: int) -> None:
    """Restore the checkpoint of step `done`, if that is not 0. What is of later steps is dropped."""
    if done:
        checkpoint.load(distiller.student, distiller.optimizer, run.checkpoint(done))
    if not here().first:
        return
    if done:
        say(f"Resuming {run.path} after step {done}.")
        changed = run.note_resumption(machine(distiller.student.device), done)
        if changed:
            say(f"Not exactly the numbers of a run without a break: {changed}.")
    forget_after(run, done)


def evaluation_due(config: Config, number: int) -> bool:
    """Whether the student is to be evaluated after step `number`, were it not the last."""
    return bool(number and config.eval and config.eval.every and number % config.eval.every == 0)


def loop(plan: Prepared, run: RunDir, distiller: Distiller, done: int, signals: Interrupts) -> None:
    """Steps `done` to the end."""
    config, total, ours = plan.config, plan.config.optim.steps, here()
    rows, horizon = ours.of_first(run.metrics()), horizon_of(config)
    sent = trackers(config, run) if ours.first else nullcontext(lambda metrics, step: None)
    with sent as log, progress("Training", total, "step", done) as advance:
        while (part := config.optim.progress(rows)) < 1:
            index = len(rows)
            distiller.sampler = replace(distiller.sampler, max_new_tokens=horizon.at(index, rows))
            report = step_or_save(run, distiller, batch_of(plan, index), index, lr_at(part * total, config.optim))
            write = partial(record, run, distiller.student, report, index + 1, config.run.rollouts_every, log)
            rows.append(ours.of_first(write() if ours.first else None))
            limited = f", {config.optim.progress(rows):.0%} of the budget" if config.optim.limited else ""
            advance(note=f"loss {report.metrics['loss']:.3f}, {report.metrics['length/mean']:.0f} tokens{limited}")
            last, stop = config.optim.progress(rows) >= 1, ours.vote(signals.received)
            due = evaluation_due(config, index + 1) and not last
            if last or stop or due or (index + 1) % config.run.checkpoint_every == 0:
                checkpoint.save(run, distiller.student, distiller.optimizer, index + 1)
            if stop and not last:
                raise RunStopped(
                    f"Stopped after step {index + 1}, saved in {run.path}; run the same command again to go on."
                )
            if due:
                evaluate_now(plan, run, distiller, index + 1, signals)
    if left_out := sum(row.get("optim/skipped", 0) > 0 for row in rows):
        say(
            f"{left_out} of {len(rows)} steps were skipped, as their loss or gradient was not finite (see {run.nonfinite_folder})."
        )
    evaluate_now(plan, run, distiller, len(rows), signals)


def horizon_of(config: Config) -> Horizon:
    """The policy that gives each step its N."""
    h, cap = config.rollout.horizon, config.rollout.max_new_tokens
    return Horizon(h.policy, h.start, cap, config.optim.steps, h.grow, h.every, h.share, config.run.seed)


def step_or_save(run: RunDir, distiller: Distiller, pairs: list[PromptPair], index: int, lr: float) -> StepReport:
    """A step. One whose loss or gradient is not finite is kept in the run's directory; if the run ends there, or a server is
    lost, the state before it is saved first, so that nothing is lost but the step."""
    try:
        report = step(distiller, pairs, index, lr)
    except (NotFinite, ServerLost) as error:
        if index and not any(p.name == step_name(index) for p in run.checkpoints()):
            checkpoint.save(run, distiller.student, distiller.optimizer, index)
        if isinstance(error, ServerLost):
            raise RunStopped(
                f"{error} Saved after step {index} in {run.path}; the same command then goes on."
            ) from None
        raise RunStopped(
            f"{error} Saved before it; {kept(error, run)} repeats it, optim.on_nonfinite=skip goes on without it."
        ) from None
    if report.skipped:
        say(f"{report.skipped} The step is skipped; {kept(report.skipped, run)} repeats it.")
    return report


def kept(error: NotFinite, run: RunDir) -> str:
    """The file that repeats a step, which rank 0 writes."""
    ours = here()
    return ours.of_first(ours.together(lambda: str(error.keep(run.nonfinite_file(error.step))) if ours.first else ""))


def batch_of(plan: Prepared, index: int) -> list[PromptPair]:
    """The prompts of step `index`: the data in a new order in each pass, as a function of seed and step alone."""
    size, count = plan.config.rollout.prompts_per_step, len(plan.prompts)
    places = range(index * size, (index + 1) * size)
    orders = {
        turn: np.random.default_rng((plan.config.run.seed, turn)).permutation(count)
        for turn in {place // count for place in places}
    }
    return [plan.prompts[orders[place // count][place % count]] for place in places]


def lr_at(index: float, optim: OptimConfig) -> float:
    """Learning rate of step `index` (from 0): linear warm-up that reaches the peak at its last step, then cosine to zero.

    Under a limit of tokens or seconds, `index` is the share of it that is used up, times `optim.steps`.
    """
    assert optim.lr is not None
    warmup = math.ceil(optim.warmup_ratio * optim.steps)
    if index < warmup:
        return optim.lr * min(1.0, (index + 1) / warmup)
    if optim.schedule == "constant":
        return optim.lr
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (index - warmup) / max(1, optim.steps - warmup)))


def record(run: RunDir, student: LM, report: StepReport, number: int, rollouts_every: int, log: Log) -> dict[str, Any]:
    """Write a step's metrics, and now and then some of its rollouts; returns the row of metrics."""
    rows = report.rollout.token_lists()
    texts = prompts.decode(student.tokenizer, rows)
    metrics = {**report.metrics, "response/repetitive": sum(map(repetitive, texts)) / len(texts)}
    if (number % rollouts_every == 0 or number == 1) and not report.skipped:
        for i in range(min(SAMPLES_KEPT, len(texts))):
            kl = [round(v, 4) for v in report.kl[i, : len(rows[i])].tolist()]
            shown = {
                "step": number,
                "problem": report.keys[i],
                "text": texts[i],
                "token_ids": rows[i],
                "reverse_kl": kl,
            }
            run.append(run.rollouts_file, shown)
    row = {"step": number, **metrics}
    run.append(run.metrics_file, row)
    log(metrics, number)
    return row


def evaluate_now(plan: Prepared, run: RunDir, distiller: Distiller, number: int, signals: Interrupts) -> None:
    """Evaluate the student after `number` steps (0: before), and the teacher once, unless that is done already.

    A signal ends it at once: problems that were graded are kept, and it goes on after them.
    """
    config = plan.config
    if config.eval is None:
        return
    student = distiller.measured or distiller.student
    if run.evaluation(step_name(number)) is None:
        published(student, number)
    who = [(Evaluated(who="student", step=number), student)]
    if config.eval.teacher:
        who.append((Evaluated(who="teacher"), distiller.teacher))
    for evaluated, lm in who:
        measured = lm is student and ungraded(plan.measured.problems)
        against = Reference(distiller.teacher, distiller.events) if measured else None
        try:
            with signals.at_once():
                evaluate.keep(run, config, evaluated, lm, plan.measured, lm.terminators, against)
        except KeyboardInterrupt:
            raise RunStopped(
                f"Stopped while evaluating {evaluated.label}; training up to there and graded problems are kept in {run.path}. "
                "Run the same command again to go on."
            ) from None
