"""How a run's accuracy grew with what training cost, and runs side by side. No torch here."""

from collections.abc import Sequence

from esr.records.evaluation import Evaluation
from esr.records.study import CurvePoint
from esr.runs.rundir import RunDir


def training_evaluations(run: RunDir) -> list[Evaluation]:
    """The evaluations made while training (`step-NNNNNN`, without a mark of other settings), by step."""
    return [e for e in run.evaluations() if e.who == "student" and not e.variant]


def curve(run: RunDir, evaluations: Sequence[Evaluation]) -> list[CurvePoint]:
    """Accuracy by training seconds (`time/step`, evaluations left out) and generated tokens, both summed up to the step."""
    rows = run.metrics()
    points = []
    for e in evaluations:
        step = e.step or 0
        done = [r for r in rows if r["step"] <= step]
        if e.avg is not None and len(done) == step:
            seconds = sum(r["time/step"] for r in done)
            tokens = sum(r["tokens/generated"] for r in done)
            points.append(CurvePoint(step=step, seconds=seconds, tokens=int(tokens), avg=e.avg))
    return points


def run_names(runs: Sequence[RunDir]) -> list[str]:
    """The directories' names, or their whole paths if two have the same name."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]
