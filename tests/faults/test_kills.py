"""SIGKILL at any instant: the run that goes on is, file by file, the run that nothing befell."""

import os
import shutil
import time
from pathlib import Path

import pytest

from esr.console import interrupts
from esr.runs.rundir import RunDir
from forked import call, contents, kill_after, start, write_config
from tally import LONG, Tally

STUDY = "question: '?'\nbase: c.yaml\nreference: a\nseeds: [1]\narms: {a: {}, b: {rollout.max_new_tokens: 5}}\n"
COMMANDS = {
    "eval": ["eval", "run", "eval.samples=3"],
    "export": ["export", "run", "out"],
    "report": ["report", "run"],
    "lengths": ["analyze", "lengths", "run"],
    "profile": ["analyze", "profile", "run", "--problems", "2"],
}


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(whole, pair_dir, tmp_path):
    expected, duration = contents(whole[0] / "run"), whole[1]
    tally = Tally("killed runs", of="kills", short=3, long=50)
    for number, chance in tally:
        home, kills = tmp_path / f"run-{number}", 0
        write_config(home, pair_dir)
        for _ in range(chance.randint(1, 5)):
            kills += kill_after(["train", "c.yaml"], home, chance.uniform(0.05, 1.0) * duration)
        assert call(["train", "c.yaml"], home)[0] == 0
        assert contents(home / "run") == expected, f"seed {tally.seed}, run {number}"
        shutil.rmtree(home)
        tally.add(kills=kills, runs=1, files_compared=len(expected))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_half_made_behind(home, name):
    tally = Tally(f"killed {name}", of="kills", short=1, long=6)
    for _, chance in tally:
        shutil.rmtree(home / "out", ignore_errors=True)
        tally.add(kills=kill_after(COMMANDS[name], home, chance.uniform(0.05, 1.2)), commands=1)
    shutil.rmtree(home / "out", ignore_errors=True)
    assert call(COMMANDS[name], home)[0] == 0
    assert [p for p in home.rglob(".*") if p.name != ".lock"] == []


if LONG:

    def test_a_study_that_is_killed_ends_with_the_same_record(whole, tmp_path):
        """Its runs are processes of their own, and end with it."""
        expected = study(whole[0], tmp_path / "whole", [])[0]
        tally = Tally("killed studies", of="kills", short=0, long=10)
        for number, chance in tally:
            found, kills = study(whole[0], tmp_path / str(number), [chance.uniform(5, 40) for _ in range(2)])
            assert found == expected, f"seed {tally.seed}, study {number}"
            tally.add(kills=kills, studies=1, files_compared=sum(map(len, found)))

    def test_a_study_that_is_asked_to_end_has_its_runs_save_their_steps(whole, tmp_path):
        tally = Tally("studies asked to end", of="signals", short=0, long=3)
        for number, _ in tally:
            home = begun(whole[0], tmp_path / str(number))
            with open(os.devnull, "w") as nowhere:
                process = start(COMMAND, home, nowhere.fileno())
            runs, deadline = home / "runs" / "studies" / "s", time.monotonic() + 300
            while not [f for f in runs.glob("*-seed*/metrics.jsonl") if f.read_text()] and time.monotonic() < deadline:
                time.sleep(0.2)
            os.kill(process, interrupts.ENDING[number % len(interrupts.ENDING)])
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
            for file in runs.glob("*-seed*/metrics.jsonl"):
                steps = len(file.read_text().splitlines())
                assert RunDir(file.parent).find_checkpoint(steps), "what it trained is saved"
            tally.add(signals=1)


COMMAND = ["study", "s.yaml", "--parallel", "2"]


def begun(whole: Path, home: Path) -> Path:
    """A directory with a study of two runs to be done."""
    shutil.copytree(whole, home, ignore=shutil.ignore_patterns("run"))
    (home / "s.yaml").write_text(STUDY)
    return home


def study(whole: Path, home: Path, kills: list[float]) -> tuple[list[dict[str, object]], int]:
    """What the two runs of a study say that was killed after so many seconds each time, and how often it was."""
    begun(whole, home)
    done = sum(kill_after(COMMAND, home, seconds) for seconds in kills)
    assert call(COMMAND, home)[0] == 0
    runs = [contents(run) for run in sorted((home / "runs" / "studies" / "s").glob("*-seed*"))]
    assert len(runs) == 2
    shutil.rmtree(home)
    return [{k: v for k, v in run.items() if k not in ("train.log", "finished.json")} for run in runs], done
