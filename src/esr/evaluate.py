"""Evaluation: sample k responses to each problem, grade them, summarise with intervals clustered by problem."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from esr import budget, grading, intervals, probe, prompts, tasks
from esr.closeness import Reference
from esr.config import Config, EvalConfig
from esr.console import Advance, progress, say
from esr.errors import UserError
from esr.footprint import held
from esr.grading.find import repetitive
from esr.method.tensors import Rollout
from esr.models.checkpoint import load_trained
from esr.models.lm import LM, resolve_device
from esr.models.load import load_model, load_tokenizer
from esr.models.machine import machine
from esr.models.sharded import gathered
from esr.pair import Pair, open_pair
from esr.problems import Chosen, apart, training
from esr.ranks import here
from esr.records.base import Estimate
from esr.records.evaluation import UNGRADED, Difference, Evaluated, Evaluation, Grade, Sample, grades
from esr.records.problem import Problem
from esr.runs.comparing import closer, measured
from esr.runs.files import check_room
from esr.runs.parts import Parts, discard, of_evaluation
from esr.runs.rundir import RunDir
from esr.sampling.loop import Response, together
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond_each
from esr.sampling.sampler import Sampler
from esr.served import push_adapter, unloaded
from esr.tasks.rows import UNGRADED as UNGRADED_TASK


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


def ungraded(problems: Sequence[Problem]) -> bool:
    """Whether a task has no references: its responses are measured against the teacher."""
    return bool(problems) and problems[0].grader == UNGRADED_TASK


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


def graded_responses(
    lm: LM,
    problems: Sequence[Problem],
    settings: EvalConfig,
    terminators: tuple[int, ...],
    seed: int,
    title: str,
    done: Parts | None = None,
    against: Reference | None = None,
) -> list[Sample]:
    """k responses to each problem, in the order of the problems: graded, or measured `against` a teacher.

    Each rank makes its part of a batch; all get all.
    """
    sampler = Sampler(settings.max_new_tokens, terminators, settings.temperature, settings.top_p)
    rows = rendered(lm, problems)
    window = lm.causal_lm.config
    prompts.require_room(rows, lm.config.model, window, settings.max_new_tokens, "eval.max_new_tokens")  # type: ignore
    ours = here()
    size = min(ours.gather(settings.batch_size or problems_together(lm, settings, max(map(len, rows))))) * ours.world
    before = ours.of_first(done.done if done is not None else {})
    kept = {i: before.get(p.id) for i, p in enumerate(problems)}
    graded = {i: [Sample.model_validate(s) for s in found] for i, found in kept.items() if found}
    waiting = sorted((i for i in kept if i not in graded), key=lambda i: len(rows[i]))
    alone = ours.world == 1 and against is None and lm.writer is None
    with progress(title, len(problems), "problem", len(graded)) as advance:

        def keep(found: dict[int, list[Sample]]) -> None:
            graded.update(found)
            for i, samples in found.items():
                if done is not None:
                    done.put(problems[i].id, [s.model_dump() for s in samples])
            advance(len(found))

        def own(mine: Sequence[int]) -> dict[int, list[Sample]]:
            """What is graded as soon as it is written, or, of several ranks, when all of a part is; the latter is returned."""
            made: dict[int, list[Sample]] = {}
            if not mine:
                return made

            def judged(written: list[Response]) -> None:
                owners = [mine[r.index // settings.samples] for r in written]
                rollout, found = together(written, lm.device), dict[int, list[Sample]]()
                for i, sample in zip(
                    owners, samples_of(lm, [problems[i] for i in owners], rollout, settings, against), strict=True
                ):
                    found.setdefault(i, []).append(sample)
                (keep if alone else made.update)(found)

            desk = _Desk(judged, settings.samples, size if alone else None)
            noise = Noise.of(seed, [problems[i].id for i in mine], settings.samples)
            width = -(-size // ours.world) * settings.samples
            respond_each(lm, [rows[i] for i in mine], sampler, noise, width, desk.take, _Note(advance))
            desk.grade()
            return made

        # Ranks speak to each other after each part, servers answer a part, and a model that measures waits until none is writing.
        at_once = max(1, len(waiting)) if alone else size
        for start in range(0, len(waiting), at_once):
            mine = ours.share(waiting[start : start + at_once])
            for found in ours.gather(ours.together(partial(own, mine))):
                keep(found)
    return [s for i in range(len(problems)) for s in graded[i]]


def problems_together(lm: LM, settings: EvalConfig, prompt: int) -> int:
    """Problems that fit into the memory that is free now, after prompts of at most `prompt` tokens."""
    free = int(budget.available(lm.device) * budget.SHARE)
    return budget.together(held(lm, lm.device), free, prompt + settings.max_new_tokens, settings.samples)


def samples_of(
    lm: LM, problems: Sequence[Problem], rollout: Rollout, settings: EvalConfig, against: Reference | None
) -> list[Sample]:
    """Responses as records: row i of the rollout answers `problems[i]`, and as many rows each as there are samples the same."""
    rows = rollout.token_lists()
    texts = [cut(text, settings.stop) for text in prompts.decode(lm.tokenizer, rows)]
    keys = [(p.id, number % settings.samples) for number, p in enumerate(problems)]
    if ungraded(problems):
        judged = [UNGRADED] * len(rows)
        measured = against.measure(lm, problems, keys, rollout) if against else [{}] * len(rows)
    else:
        judged, measured = grading.grade(problems, texts), [{}] * len(rows)
    kept = against is not None and against.common is None
    written = zip(keys, texts, rows, rollout.finished.tolist(), judged, measured, strict=True)
    return [
        Sample(
            problem=problem,
            sample=number,
            text=text,
            tokens=len(row),
            finished=finished,
            repetitive=repetitive(text),
            grade=grade,
            closeness=values,
            token_ids=row if kept else None,
        )
        for (problem, number), text, row, finished, grade, values in written
    ]


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of `stops`."""
    return text[: min((i for stop in stops if (i := text.find(stop)) >= 0), default=len(text))]


class _Desk:
    """Takes responses as they end, and grades problems all of whose responses have: so many at a time, and the rest."""

    def __init__(self, judged: Callable[[list[Response]], None], samples: int, size: int | None):
        self.judged, self.samples, self.size = judged, samples, size
        self.written: dict[int, list[Response]] = defaultdict(list)
        self.whole: list[int] = []
        """Places of problems all of whose responses have ended."""

    def take(self, response: Response) -> None:
        place = response.index // self.samples
        self.written[place].append(response)
        if len(self.written[place]) == self.samples:
            self.whole.append(place)
        if len(self.whole) == self.size:
            self.grade()

    def grade(self) -> None:
        """Grade what is whole."""
        if self.whole:
            self.judged([r for place in self.whole for r in sorted(self.written.pop(place), key=lambda r: r.index)])
            self.whole.clear()


class _Note:
    """Shows now and then how many responses are being written."""

    def __init__(self, advance: Advance):
        self.advance, self.told = advance, 0

    def __call__(self, live: int) -> None:
        self.told += 1
        if self.told % 16 == 0:
            self.advance(0, note=f"{live} responses at once")


def summarise(
    samples: Sequence[Sample], who: Evaluated, model: str, task: str, settings: dict[str, object], seconds: float
) -> Evaluation:
    """The record of an evaluation from its graded responses.

    Those without a verdict are counted by reason and left out of the accuracies. As a response that keeps its checker from a
    verdict could raise them so, the accuracy with each of those wrong stands beside.
    """
    by_id: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        by_id[s.problem].append(s)
    groups = list(by_id.values())

    def rate(pick: Callable[[Sample], float | None]) -> Estimate | None:
        """Over the responses for which `pick` is known; None if it is for none."""
        values = [[float(v) for s in group if (v := pick(s)) is not None] for group in groups]
        return intervals.accuracy(values) if any(values) else None

    judged = [[s.grade for s in group] for group in groups if any(s.grade.last is not None for s in group)]
    failures = Counter(_reason(s.grade) for s in samples if s.grade.last is None and s.grade != UNGRADED)
    lengths = np.array([s.tokens for s in samples])
    return Evaluation(
        who=who.who,
        step=who.step,
        variant=who.variant,
        model=model,
        task=task,
        settings=settings,
        problems=len(groups),
        samples=max(map(len, groups)),
        avg=rate(lambda s: None if s.grade.last is None else s.grade.points),
        maj=intervals.accuracy([[grading.majority(group)] for group in judged]) if judged else None,
        pass_at_k=intervals.accuracy([[float(any(g.last for g in group))] for group in judged]) if judged else None,
        pass_at=passes([[bool(g.last) for g in group if g.last is not None] for group in judged]),
        avg_first=rate(lambda s: s.grade.first),
        avg_any=rate(lambda s: s.grade.any),
        finish_rate=intervals.accuracy([[float(s.finished) for s in group] for group in groups]),
        avg_given_finish=intervals.ratio(
            [sum(bool(s.grade.last) for s in group if s.finished) for group in groups],
            [sum(s.grade.last is not None for s in group if s.finished) for group in groups],
        ),
        repetition_rate=intervals.accuracy([[float(s.repetitive) for s in group] for group in groups]),
        strategy_rate=rate(lambda s: s.grade.strategy),
        tokens={f"p{q}": float(np.quantile(lengths, q / 100)) for q in (10, 50, 90)} | {"mean": float(lengths.mean())},
        grader_failures=failures.total(),
        failures=dict(failures.most_common()),
        avg_at_least=rate(lambda s: s.grade.points) if failures and judged else None,
        closeness=measured(samples),
        seconds=round(seconds, 2),
    )


def passes(groups: Sequence[Sequence[bool]]) -> dict[str, Estimate]:
    """pass@j by j, for every j up to the largest group."""
    found = {str(j): intervals.pass_at(groups, j) for j in range(1, max(map(len, groups), default=0) + 1)}
    return {j: chance for j, chance in found.items() if chance}


def _reason(grade: Grade) -> str:
    """Why there is no verdict, without the particulars of the response."""
    return (grade.note or "no reason given").partition(":")[0]


def difference(samples: Sequence[Sample], reference: Sequence[Sample], name: str, reference_name: str) -> Difference:
    """avg@k minus the reference's avg@k, paired by problem."""
    ours, theirs = grades(samples), grades(reference)
    change = intervals.paired_difference(ours, theirs) if ours.keys() & theirs.keys() else None
    return Difference(name=name, reference=reference_name, avg=change, closeness=closer(samples, reference))
