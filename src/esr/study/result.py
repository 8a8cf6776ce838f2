"""The record of a study from its run directories: pooled accuracies, paired differences, marks by stated rules, costs."""

from esr import intervals
from esr.config.keys import flatten
from esr.errors import UserError
from esr.records.base import Estimate
from esr.records.evaluation import Evaluation, Sample, grades
from esr.records.steps import BEFORE, step_name
from esr.records.study import NOT_RUN, Arm, ArmSeed, Study
from esr.runs.environment import Machine, environment
from esr.runs.history import curve, training_evaluations
from esr.runs.metrics import lengths
from esr.runs.rundir import RunDir
from esr.study import work
from esr.study.plan import Plan, PlannedRun

Means = dict[str, float]
"""Mean grade by problem."""
LOST = 0.05
"""Accuracy that a run must have lost since its own best evaluation to count as collapsed."""
RULES = {
    "exceeds teacher": "the pooled accuracy is above the teacher's, and the paired 95% interval excludes zero",
    "worse than untrained": "the pooled accuracy is below the untrained student's, and the paired 95% interval excludes zero",
    "collapsed": f"in at least half of the seeds, accuracy at the end is more than {LOST:.0%} below the same run's best earlier "
    "evaluation, certainly (paired 95% interval), or fewer than half of the responses finish",
}


def record(plan: Plan, failed: dict[str, str], command: str) -> Study:
    """The study as far as it has come. Raises `UserError` if no run is finished."""
    done = [run for run in plan.runs if work.finished(run.directory)]
    if not done:
        reasons = "; ".join(failed.values()) or "none has been started"
        raise UserError(f"{plan.file}: no run of this study has finished ({reasons}).")
    first = final(done[0].directory)
    arms = [arm(plan, name, failed) for name in plan.study.arms]
    unique = {run.directory.path: run.directory for run in done}.values()
    return Study(
        name=plan.name,
        question=plan.study.question,
        rule=plan.study.rule,
        reference=plan.study.references,
        task=first.task,
        problems=first.problems,
        samples=first.samples,
        seeds=plan.study.seeds,
        base=flatten(plan.base.model_dump()),
        rules=RULES,
        arms=arms,
        environment=environment(Machine(plan.base.run.device)),
        command=command,
        seconds=round(sum(work.seconds(d) for d in unique), 1),
    )


def final(directory: RunDir) -> Evaluation:
    """The evaluation after a run's last step."""
    found = directory.last(directory.config())
    assert found is not None
    return found


def means(samples: list[Sample]) -> Means:
    """Mean grade of each problem."""
    return {key: sum(values) / len(values) for key, values in grades(samples).items()}


def graded(plan: Plan, name: str, who: str = "last") -> dict[int, Means]:
    """Grades by seed of an arm's finished runs: after its last step, or of `BEFORE` or `teacher` as evaluated there."""
    out = {}
    for run in plan.of(name):
        if work.finished(run.directory):
            evaluation = final(run.directory).name if who == "last" else who
            if run.directory.evaluation(evaluation) is not None:
                out[run.seed] = means(run.directory.responses(evaluation))
    return {seed: found for seed, found in out.items() if found}


def difference(a: dict[int, Means], b: dict[int, Means]) -> Estimate | None:
    """a minus b, paired by problem and training seed; None without a problem that both graded."""
    gaps = [{k: a[s][k] - b[s][k] for k in a[s] if k in b[s]} for s in a if s in b]
    gaps = [gap for gap in gaps if gap]
    return intervals.pooled(gaps) if gaps else None


def accuracy(by_seed: dict[int, Means]) -> Estimate | None:
    """Pooled accuracy, its interval kept within [0, 1]."""
    if not by_seed:
        return None
    e = intervals.pooled(list(by_seed.values()))
    return e.model_copy(update={"low": max(0.0, e.low), "high": min(1.0, e.high)})


def arm(plan: Plan, name: str, failed: dict[str, str]) -> Arm:
    """One arm over its seeds."""
    runs = plan.of(name)
    seeds = [seed_result(run, failed) for run in runs]
    ours, before, teacher = (graded(plan, name, who) for who in ("last", BEFORE, "teacher"))
    good = [s for s in seeds if s.error is None]

    def average(field: str) -> float | None:
        return sum(getattr(s, field) for s in good) / len(good) if good else None

    config, reference = runs[0].config, plan.study.reference_of(name)
    gain, to_teacher = difference(ours, before), difference(ours, teacher)
    steps, spent = average("steps"), average("seconds")
    return Arm(
        name=name,
        role=plan.study.roles.get(name),
        overrides=plan.study.arms[name],
        n=config.rollout.max_new_tokens,
        mean_n=average("mean_n"),
        student=config.student.model,
        teacher_model=config.teacher.model,
        seeds=seeds,
        avg=accuracy(ours),
        gain=gain,
        reference=reference,
        difference=difference(ours, graded(plan, reference)) if reference else None,
        to_teacher=to_teacher,
        before=accuracy(before),
        teacher=accuracy(teacher),
        marks=marks(good, runs, gain, to_teacher),
        steps=steps,
        seconds=spent,
        seconds_per_step=spent / steps if spent is not None and steps else None,
        generated=average("generated"),
        peak_memory_gib=max((s.peak_memory_gib for s in good if s.peak_memory_gib is not None), default=None),
    )


def seed_result(run: PlannedRun, failed: dict[str, str]) -> ArmSeed:
    """The numbers of one run."""
    folder = run.directory
    if not work.finished(folder):
        why = failed.get(folder.path.name, NOT_RUN)
        return ArmSeed(seed=run.seed, run=folder.path.name, error=why)
    rows, last = folder.metrics(), final(folder)
    before, teacher = folder.evaluation(BEFORE), folder.evaluation("teacher")
    return ArmSeed(
        seed=run.seed,
        run=folder.path.name,
        error=None,
        avg=last.avg,
        before=before.avg if before else None,
        teacher=teacher.avg if teacher else None,
        finish_rate=last.finish_rate,
        avg_first=last.avg_first,
        avg_any=last.avg_any,
        repetition_rate=last.repetition_rate,
        strategy_rate=last.strategy_rate,
        tokens=last.tokens,
        steps=len(rows),
        mean_n=sum(lengths(rows, run.config.rollout.max_new_tokens)) / len(rows),
        seconds=sum(r["time/step"] for r in rows),
        generated=int(sum(r["tokens/generated"] for r in rows)),
        peak_memory_gib=max(r["memory/peak_gib"] for r in rows),
        curve=curve(folder, training_evaluations(folder)),
    )


def marks(
    seeds: list[ArmSeed], runs: list[PlannedRun], gain: Estimate | None, to_teacher: Estimate | None
) -> list[str]:
    """What is to be said of an arm, by `RULES`."""
    found = []
    if to_teacher and to_teacher.low > 0:
        found.append("exceeds teacher")
    if gain and gain.high < 0:
        found.append("worse than untrained")
    folders = {run.directory.path.name: run.directory for run in runs}
    fallen = sum(collapsed(s, folders[s.run]) for s in seeds)
    if seeds and 2 * fallen >= len(seeds):
        found.append("collapsed")
    return found


def collapsed(seed: ArmSeed, folder: RunDir) -> bool:
    """Whether one run has collapsed, by `RULES`."""
    if seed.finish_rate and seed.finish_rate.value < 0.5:
        return True
    earlier = [p for p in seed.curve if 0 < p.step < (seed.steps or 0)]
    best = max(earlier, key=lambda p: p.avg.value, default=None)
    if best is None or seed.steps is None:
        return False
    end, peak = (grades(folder.responses(step_name(step))) for step in (seed.steps, best.step))
    if not end.keys() & peak.keys():
        return False
    fall = intervals.paired_difference(end, peak)
    return fall.high < 0 and fall.value < -LOST
