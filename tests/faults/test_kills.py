"""SIGKILL at any instant: the run that goes on is, file by file, the run that nothing befell."""

import random
import shutil

import pytest

from forked import LONG, SEED, call, contents, count, kill_after, write_config

STUDY = "question: '?'\nbase: c.yaml\nreference: a\nseeds: [1]\narms: {a: {}, b: {rollout.max_new_tokens: 5}}\n"


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(whole, pair_dir, tmp_path):
    expected, duration = contents(whole[0] / "run"), whole[1]
    chance, kills, runs = random.Random(SEED), 0, 0
    while kills < count(3, 50):
        home = tmp_path / f"run-{runs}"
        write_config(home, pair_dir)
        for _ in range(chance.randint(1, 5)):
            kills += kill_after(["train", "c.yaml"], home, chance.uniform(0.05, 1.0) * duration)
        assert call(["train", "c.yaml"], home)[0] == 0
        assert contents(home / "run") == expected, f"seed {SEED}, run {runs}"
        shutil.rmtree(home)
        runs += 1
    print(f"\n{kills} kills of {runs} runs: {runs} equal the uninterrupted run, file by file")


@pytest.mark.parametrize(
    "command",
    [["eval", "run", "eval.samples=3"], ["export", "run", "out"], ["report", "run"], ["analyze", "lengths", "run"]],
    ids=lambda c: c[0] if c[0] != "analyze" else c[1],
)
def test_a_killed_command_leaves_nothing_half_made_behind(home, command):
    chance = random.Random(SEED)
    for _ in range(count(1, 6)):
        kill_after(command, home, chance.uniform(0.05, 1.2))
    if command[0] != "export" or not (home / "out").exists():
        assert call(command, home)[0] == 0
    assert [p for p in home.rglob(".*") if p.name != ".lock"] == []


if LONG:

    def test_a_study_that_is_killed_ends_with_the_same_record(whole, tmp_path):
        """Its runs are processes of their own, and end with it."""
        chance, records, kills = random.Random(SEED), [], 0
        for number in range(6):
            home = tmp_path / f"study-{number}"
            shutil.copytree(whole[0], home, ignore=shutil.ignore_patterns("run"))
            (home / "s.yaml").write_text(STUDY)
            for _ in range(2 if number else 0):
                kills += kill_after(["study", "s.yaml", "--parallel", "2"], home, chance.uniform(5, 40))
            assert call(["study", "s.yaml", "--parallel", "2"], home)[0] == 0
            runs = sorted((home / "runs" / "studies" / "s").glob("*-seed*"))
            records.append([contents(run) for run in runs])
            for content in records[-1]:
                for name in ("train.log", "finished.json"):
                    content.pop(name)
            assert len(records[-1]) == 2
            assert records[-1] == records[0]
        print(f"\n{kills} kills of 5 studies: the runs of each equal the uninterrupted ones, file by file")
