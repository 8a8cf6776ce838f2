"""Responses to an evaluation's problems: written, and graded or measured as soon as all of a problem's are there."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from esr import budget, grading, prompts
from esr.budget.footprint import held
from esr.config import EvalConfig
from esr.console import Advance, progress
from esr.evaluation.closeness import Reference
from esr.grading.find import repetitive
from esr.method.tensors import Rollout
from esr.models.lm import LM
from esr.ranks import here
from esr.records.evaluation import UNGRADED, Sample
from esr.records.problem import Problem
from esr.runs.parts import Parts
from esr.sampling.loop import Response, together
from esr.sampling.noise import Noise
from esr.sampling.respond import rendered, respond_each
from esr.sampling.sampler import Sampler
from esr.tasks.rows import UNGRADED as UNGRADED_TASK


def ungraded(problems: Sequence[Problem]) -> bool:
    """Whether a task has no references: its responses are measured against the teacher."""
    return bool(problems) and problems[0].grader == UNGRADED_TASK


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
                rollout = together(written, lm.device)
                samples = samples_of(lm, [problems[i] for i in owners], rollout, settings, against)
                (keep if alone else made.update)(by_owner(owners, samples))

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


def by_owner(owners: Sequence[int], samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Each one's samples, in their order."""
    found: dict[int, list[Sample]] = {}
    for owner, sample in zip(owners, samples, strict=True):
        found.setdefault(owner, []).append(sample)
    return found


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
