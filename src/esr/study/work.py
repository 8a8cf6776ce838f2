"""Running a study: every run in a process of its own, several at once if asked, resumed or skipped when started again."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from esr.config import Config
from esr.console import progress, say
from esr.errors import UserError
from esr.records.steps import BEFORE
from esr.runs.files import new_directory, read_json, write_json
from esr.runs.rundir import RunDir
from esr.study.plan import Plan, PlannedRun

TRUSTED = "--trust-remote-code"
"""For a run whose configuration is what the study's file says, as has been seen to just before."""
POLL = 0.2
"""Seconds between looks at the running processes."""


@dataclass
class Child:
    """A run in progress."""

    run: PlannedRun
    process: subprocess.Popen[bytes]
    cores: list[int]
    start: float


def carry_out(plan: Plan, parallel: int, keep: Callable[[dict[str, str]], object]) -> dict[str, str]:
    """Run whatever is not finished; returns one sentence for each run (by directory name) that failed.

    `keep` is called with what has failed so far whenever a run has finished.
    """
    waiting = [run for run in plan.runs if not finished(run.directory)]
    unique = list({run.directory.path: run for run in waiting}.values())
    done = len(plan.runs) - len(waiting)
    slots = shares(parallel)
    failed: dict[str, str] = {}
    running: list[Child] = []
    with progress(f"Study {plan.name}", len(unique) + done, "run", done) as advance:
        try:
            while unique or running:
                while unique and slots:
                    running.append(start(unique.pop(0), slots.pop()))
                time.sleep(POLL)
                advance(0, note="; ".join(now(job) for job in running))
                for job in [j for j in running if j.process.poll() is not None]:
                    running.remove(job)
                    slots.append(job.cores)
                    trouble = settle(job)
                    if trouble:
                        failed[job.run.directory.path.name] = trouble
                        say(f"{job.run.arm}, seed {job.run.seed}: {trouble}")
                    else:
                        keep(failed)
                    advance()
        finally:
            for job in running:
                job.process.send_signal(signal.SIGTERM)
            for job in running:
                job.process.wait()
    return failed


def shares(parallel: int) -> list[list[int]]:
    """The processor cores that this process may use, dealt out to `parallel` runs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return [cores[i::parallel] or cores for i in range(parallel)]


def start(run: PlannedRun, cores: list[int]) -> Child:
    """Begin or resume a run in its own process, on its own cores; its messages go to its `train.log`."""
    run.directory.open_or_create(run.config)
    borrow_evaluations(run)
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores)), "MKL_NUM_THREADS": str(len(cores))}
    with open(run.directory.log_file, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "esr.cli.main", TRUSTED, "train", str(run.directory.config_file), "--json"],
            stdout=subprocess.DEVNULL,
            stderr=out,
            env=environment,
            preexec_fn=lambda: confine(cores),
            start_new_session=True,  # or Ctrl-C would reach it as well as the signal below: two signals end it unsaved
        )
    return Child(run, process, cores, time.monotonic())


def now(job: Child) -> str:
    """What a run is doing: the last line of its log."""
    log = job.run.directory.log_file
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return f"{job.run.arm}, seed {job.run.seed}: {lines[-1].strip() if lines else 'starting'}"


def confine(cores: list[int]) -> None:
    """In a child process: keep to these cores, and end when the study's process ends, however that ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def settle(job: Child) -> str | None:
    """After a run's process has ended: note that it is finished, or say in one sentence why not."""
    directory = job.run.directory
    if job.process.returncode == 0:
        write_json(directory.finished_file, {"seconds": round(time.monotonic() - job.start, 1)})
        return None
    log = directory.log_file
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "no message"
    return f"ended with code {job.process.returncode}: {last} (all of it: {log})"


def finished(directory: RunDir) -> bool:
    """Whether a run has been carried out to the end, and nothing of it was removed since."""
    return directory.finished_file.exists() and directory.complete(directory.config())


def seconds(directory: RunDir) -> float:
    """Wall-clock of a finished run's last process."""
    found = read_json(directory.finished_file).get("seconds")
    if not isinstance(found, (int, float)):
        raise UserError(
            f"{directory.finished_file}: damaged, it states no seconds; remove it, and give the command again."
        )
    return float(found)


def borrow_evaluations(run: PlannedRun) -> None:
    """Copy the evaluations of the untrained models from another run of the pool that has the very same ones."""
    target, pool = run.directory.evaluations_folder, run.directory.path.parent
    if target.exists():
        return
    for other in (RunDir(path) for path in sorted(pool.iterdir())):
        files = [f(name) for name in (BEFORE, "teacher") for f in (other.responses_file, other.evaluation_file)]
        if all(file.exists() for file in files) and _same_start(other.config(), run.config):
            with new_directory(target) as whole:
                for file in files:
                    shutil.copyfile(file, whole / file.name)
            return


def _same_start(a: Config, b: Config) -> bool:
    def key(config: Config) -> str:
        parts = [config.student.model_dump(exclude={"train", "lora"}), config.teacher.model_dump(), config.run.device]
        settings = config.eval.model_dump(exclude={"every"}) if config.eval else None
        return json.dumps([*parts, settings, config.run.seed, config.data.model_dump()], sort_keys=True)

    return key(a) == key(b)
