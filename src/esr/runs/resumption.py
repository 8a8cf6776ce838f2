"""Where a run goes on: what its files must be for that, and what of them is dropped. No torch here."""

from esr.config import Config
from esr.errors import UserError
from esr.records.steps import step_name, step_of
from esr.runs.files import dumps, read_lines, write_text
from esr.runs.parts import discard, of_evaluation
from esr.runs.rundir import RunDir


def check(run: RunDir) -> int:
    """The step that training goes on after: that of the newest checkpoint, 0 without one.

    Raises `UserError` if the files here are not those of a run that came so far: rows of metrics that are not exactly
    1, 2, ... up to there, checkpoints that are gone, an evaluation that is damaged.
    """
    steps = [row.get("step") for row in run.metrics()]
    saved = run.checkpoints()
    done = step_of(saved[-1].name) or 0 if saved else 0
    if steps[:done] != list(range(1, done + 1)):
        have = next((i for i, step in enumerate(steps[:done]) if step != i + 1), min(len(steps), done))
        raise UserError(
            f"{run.metrics_file} is damaged: row {have + 1} is not that of step {have + 1}, but the checkpoint is of step "
            f"{done}. Put a copy in its place, or add --fresh to move this run aside and start anew."
        )
    if not saved and (lost := _saved_once(run, len(steps))):
        raise UserError(
            f"{run.path} was trained ({lost}), but its checkpoints are gone. Put them back, or add --fresh to move this "
            "run aside and start anew."
        )
    for evaluation in run.evaluations():
        run.responses(evaluation.name)
        discard(run, of_evaluation(evaluation.name))
    return done


def not_evaluated(run: RunDir, config: Config, done: int) -> str:
    """A sentence for evaluations that were due before step `done` and are not here; empty if there are none."""
    if config.eval is None:
        return ""
    due = range(0, done, config.eval.every) if config.eval.every else range(min(done, 1))
    lost = [step for step in due if not run.evaluation_file(step_name(step)).exists()]
    if not lost:
        return ""
    named = ", ".join(map(str, lost[:3])) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    return f"{run.path} has no evaluation after step {named}; `esr eval {run.path} --who {lost[0] or 'base'}` makes it."


def _saved_once(run: RunDir, rows: int) -> str:
    """What shows that there was a checkpoint once; empty if nothing does."""
    if any(step_of(f.stem.partition("@")[0]) for f in run.evaluation_files()):
        return "it was evaluated after training steps"
    config = run.config()
    every = [n for n in (config.run.checkpoint_every, config.eval.every if config.eval else 0) if n]
    return f"it has metrics of {rows} steps" if rows > min(every) else ""


def forget_after(run: RunDir, step: int) -> None:
    """Drop lines and evaluations of steps later than `step`, and torn lines: they will be made again."""
    for file in (run.metrics_file, run.rollouts_file):
        if file.exists():
            kept = [row for row in read_lines(file) if isinstance(row.get("step"), int) and row["step"] <= step]
            write_text(file, "".join(dumps(row) + "\n" for row in kept))
    for file in run.evaluation_files():
        if (step_of(file.stem.partition("@")[0]) or 0) > step:
            file.unlink()
            file.with_suffix(".jsonl").unlink(missing_ok=True)
