"""What a run cost: seconds a step by phase, tokens, memory, and the training time to an accuracy that all runs reach.

Everything is read from run directories; no torch here.
"""

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from esr import intervals, tasks
from esr.analysis.subject import Subject
from esr.config import Config
from esr.errors import UserError
from esr.records.efficiency import Efficiency, EfficiencyRow, EfficiencySettings
from esr.records.evaluation import comparable
from esr.records.study import CurvePoint
from esr.runs.history import curve, run_names, training_evaluations
from esr.runs.rundir import RunDir

PHASES = ("sync", "generate", "score", "train", "step")
"""Keys of `EfficiencyRow.phases`: `time/...` in metrics.jsonl (docs/metrics.md)."""
WARM_UP = 1
"""First steps left out of `phases`, if a run has more than three."""


def compute(subject: Subject, settings: EfficiencySettings, others: Sequence[RunDir] = ()) -> Efficiency:
    """The costs of a run, which is the reference, and of others. Raises `UserError` if one has too few steps."""
    runs = [subject.directory, *others]
    start = time.perf_counter()
    configs = [run.config() for run in runs]
    machines = [run.environment() for run in runs]
    evaluations = [training_evaluations(run) for run in runs]
    curves = [curve(run, found) for run, found in zip(runs, evaluations, strict=True)]
    common = all(comparable(a, b) for a, b in pairwise(e for run in evaluations for e in run))
    target = min(max(p.avg.value for p in points) for points in curves) if common and all(curves) else None
    labels = run_names(runs)
    rows = [
        row(name, run, config, str(machine.get("device", "")), points, target)
        for name, run, config, machine, points in zip(labels, runs, configs, machines, curves, strict=True)
    ]
    last = evaluations[0][-1] if evaluations[0] else None
    devices = [str(machine.get("device", "unknown")) for machine in machines]
    return Efficiency(
        models={"student": configs[0].student.model, "teacher": configs[0].teacher.model},
        task=last.task if last else tasks.describe(configs[0].data),
        problems=last.problems if last else 0,
        settings=dependence(labels, runs, machines, target_rule(common, all(curves))),
        seconds=round(time.perf_counter() - start, 2),
        device=", ".join(dict.fromkeys(devices)),
        target=target,
        rows=rows,
    )


def target_rule(common: bool, evaluated: bool) -> str:
    """Where `Efficiency.target` comes from, or why there is none."""
    if not evaluated:
        return "none: a run has no evaluations"
    if not common:
        return "none: the runs' evaluations differ in task or settings"
    return "the lowest of the runs' best evaluations; point estimates, so about as uncertain as the evaluations are"


def dependence(labels: Sequence[str], runs: Sequence[RunDir], machines: Sequence[Any], target: str) -> dict[str, Any]:
    """What the numbers depend on, each run's machine included."""
    return {
        "runs": {name: str(run.path) for name, run in zip(labels, runs, strict=True)},
        "steps_left_out": {n: warm_up(len(run.metrics())) for n, run in zip(labels, runs, strict=True)},
        "steps_left_out_of": "seconds by phase; tokens, memory and training seconds are over all steps",
        "target": target,
        "machines": {
            n: {k: m.get(k) for k in ("device", "cpus", "platform")} for n, m in zip(labels, machines, strict=True)
        },
    }


def seconds_to_reach(points: Sequence[CurvePoint], target: float) -> float | None:
    """Training seconds at which the accuracy first reaches `target`, linear between points; None if it never does."""
    if points and points[0].avg.value >= target:
        return points[0].seconds
    for a, b in pairwise(points):
        if b.avg.value >= target:
            return a.seconds + (target - a.avg.value) / (b.avg.value - a.avg.value) * (b.seconds - a.seconds)
    return None


def warm_up(steps: int) -> int:
    """First steps that count as warm-up."""
    return WARM_UP if steps > 3 else 0


def row(
    name: str, run: RunDir, config: Config, device: str, points: list[CurvePoint], target: float | None
) -> EfficiencyRow:
    """One run's costs. Raises `UserError` if it has fewer than two steps."""
    rows = run.metrics()
    if len(rows) < 2:
        raise UserError(f"{run.path} has {len(rows)} finished training steps; costs need at least two (`esr train`).")
    kept = rows[warm_up(len(rows)) :]

    def a_step(key: str) -> float:
        """Mean over the steps that have it; one that was skipped has trained on nothing."""
        return statistics.fmean([r[key] for r in rows if key in r] or [0.0])

    kind: Literal["device", "process"] = "process" if device.startswith("cpu") else "device"
    return EfficiencyRow(
        run=name,
        n=config.rollout.max_new_tokens,
        steps=len(rows),
        responses_per_step=config.rollout.prompts_per_step * config.rollout.samples_per_prompt,
        phases={phase: intervals.mean([r[f"time/{phase}"] for r in kept]) for phase in PHASES},
        tokens_generated=a_step("tokens/generated"),
        tokens_scored=a_step("tokens/scored"),
        tokens_trained=a_step("tokens/trained"),
        peak_memory_gib=max(r["memory/peak_gib"] for r in rows),
        memory_kind=kind,
        curve=points,
        seconds_to_reach=None if target is None else seconds_to_reach(points, target),
    )
