"""Evaluation: sample k responses to each problem, grade them, summarise with intervals clustered by problem."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from esr import probe, prompts, tasks
from esr.config import Config, EvalConfig
from esr.console import say
from esr.errors import UserError
from esr.evaluation.closeness import Reference
from esr.evaluation.graded import graded_responses, ungraded
from esr.evaluation.summarise import summarise
from esr.models.checkpoint import load_trained
from esr.models.lm import LM, resolve_device
from esr.models.load import load_model, load_tokenizer
from esr.models.machine import machine
from esr.models.sharded import gathered
from esr.pair import Pair, open_pair
from esr.ranks import here
from esr.records.evaluation import Evaluated, Evaluation, Sample
from esr.records.problem import Problem
from esr.runs.files import check_room
from esr.runs.parts import Parts, discard, of_evaluation
from esr.runs.rundir import RunDir
from esr.sampling.served import push_adapter, unloaded
from esr.tasks.problems import Chosen, apart, training


def of_run(run: RunDir, own: Config, asked: Config, who: Evaluated) -> Evaluation:
    """The evaluation of `who` that a run keeps; if it has none, it is made now, with the one model that it needs.

    `own` is the run's configuration, kept there if the run is new; `asked` is the same but for `eval` and the device.
    Raises `UserError` without an `eval` section, a problem or the student's checkpoint.
    """
    if asked.eval is None:
        raise UserError("There is no evaluation task; add eval.source=TASK (for example eval.source=math500).")
    ours = here()
    found = ours.of_first(run.evaluation(who.name))
    if found is not None:
        discard(run, of_evaluation(who.name))
        return found
    pair = open_pair(asked)
    chosen = apart(asked.eval, training(asked, pair).problems)
    side, tokenizer = (
        (asked.teacher, pair.teacher_tokenizer) if who.step is None else (asked.student, pair.student_tokenizer)
    )
    for problem in chosen.problems:
        prompts.of(tokenizer, side, problem)  # what a template refuses shows before any weights are loaded
    device = resolve_device(asked.run.device)
    needs_teacher = who.step is not None and ungraded(chosen.problems)
    with ExitStack() as stack:

        def begin() -> tuple[LM, Reference | None]:
            if ours.first:
                stack.enter_context(run.locked())
                run.open_or_create(own, machine(device))
                check_room(run.path)
            lm = load_one(run, asked, who, device, pair, chosen)
            teacher = load_model(asked.teacher, device, pair.stops[1]) if needs_teacher else None
            for loaded in (lm, teacher):
                if loaded is not None and loaded.writer is None:
                    probe.check(loaded)
            events = pair.events(asked.loss.merge_terminators)
            return lm, Reference(teacher, events.to(device)) if teacher else None

        lm, against = ours.together(begin)
        return keep(run, asked, who, lm, chosen, lm.terminators, against)


def load_one(run: RunDir, asked: Config, who: Evaluated, device: torch.device, pair: Pair, chosen: Chosen) -> LM:
    """The model that is evaluated."""
    if asked.eval is not None and asked.eval.engine == "vllm":
        return on_servers(run, asked, who, pair.stops[who.step is None], chosen)
    if who.step is None:
        return load_model(asked.teacher, device, pair.stops[1])
    if who.step == 0:
        return load_model(asked.student, device, pair.stops[0])
    return load_trained(asked, run.find_checkpoint(who.step), device, pair.stops[0])


def on_servers(run: RunDir, asked: Config, who: Evaluated, terminators: tuple[int, ...], chosen: Chosen) -> LM:
    """The model of `who` as the servers of `eval.server` have it, with the adapter of the student's checkpoint pushed to them.

    Raises `UserError` if they serve something else, or if the run trained all weights.
    """
    assert asked.eval is not None
    config = asked.teacher if who.step is None else asked.student
    row = prompts.render(load_tokenizer(config), config, chosen.problems[0].question)
    lm = unloaded(config, terminators, asked.eval.server, run.adapters / "eval", row)
    adapter = Path(config.adapter) if config.adapter else None
    if who.step:
        adapter = run.find_checkpoint(who.step) / "adapter"
        if not adapter.exists():
            raise UserError(
                f"{run.path} trained all weights: `esr export` it, serve that, and set student.model to it."
            )
    if adapter is not None:
        push_adapter(lm, adapter)
    return lm


def keep(
    run: RunDir,
    config: Config,
    who: Evaluated,
    lm: LM,
    chosen: Chosen,
    terminators: tuple[int, ...],
    against: Reference | None = None,
) -> Evaluation:
    """The evaluation of `who`, who is `lm`, that a run keeps; made now if it has none.

    One that was interrupted goes on after the problems that were graded. Responses without a reference are measured against a
    teacher (`against`), and on the responses of the untrained student if the run has them.
    """
    ours = here()
    found = ours.of_first(run.evaluation(who.name))
    if found is not None:
        return found
    assert config.eval is not None
    store, settings = of_evaluation(who.name), config.eval.settings()
    asked = {"problems": [p.id for p in chosen.problems], "settings": settings, "seed": config.run.seed}
    about = {**asked, "model": lm.config.model_dump(), "terminators": terminators}
    done = Parts(run, store, about) if ours.first else None
    if against is not None:
        against = replace(against, common=common(run, who))
    evaluation, responses = evaluate(lm, chosen.problems, config.eval, terminators, config.run.seed, who, done, against)
    evaluation = evaluation.model_copy(update={"left_out": dict(chosen.left_out)})
    if ours.first:
        run.save_evaluation(evaluation, responses)
        discard(run, store)
    return ours.of_first(evaluation)


def common(run: RunDir, who: Evaluated) -> dict[tuple[str, int], list[int]] | None:
    """The untrained student's responses that a run has to a task without references; None where it is `who`."""
    if who.step == 0:
        return None
    base = Evaluated(who="student", step=0, variant=who.variant).name
    if run.evaluation(base) is None:
        say("The untrained student was not evaluated, so there are no common responses; `--who base` does it.")
        return {}
    return {(s.problem, s.sample): s.token_ids for s in run.responses(base) if s.token_ids}


def evaluate(
    lm: LM,
    problems: Sequence[Problem],
    settings: EvalConfig,
    terminators: tuple[int, ...],
    seed: int,
    who: Evaluated,
    done: Parts | None = None,
    against: Reference | None = None,
) -> tuple[Evaluation, list[Sample]]:
    """Evaluate one model. Equal problems and seed give paired responses for every model: the same random numbers.

    Problems that are among the parts `done` are taken from there, and others put there.
    """
    start = time.perf_counter()
    with gathered(lm):
        samples = graded_responses(lm, problems, settings, terminators, seed, f"Evaluating {who.label}", done, against)
    writer = {} if lm.writer is None else {"writer": "vllm"}
    record = {**tasks.settings(settings.model_copy(update={"engine": "local"})), "seed_sampling": seed, **writer}
    seconds = time.perf_counter() - start
    return summarise(samples, who, lm.config.model, tasks.describe(settings), record, seconds), samples
