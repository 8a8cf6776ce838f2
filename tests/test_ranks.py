"""Several processes of one run give what one gives, and none of them hangs whatever happens to another."""

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import esr.analysis.continuation
import esr.analysis.fit.measure
import esr.analysis.responses
import esr.distill
import esr.train
from esr.records.fit import FitSettings
from esr.runs.rundir import RunDir
from forked import call, write_config
from ranked import Crew

EVALUATED = ["train", "c.yaml", "rollout.samples_per_prompt=2", "student.dtype=float32", "teacher.dtype=float32"]
ARGUMENTS = [*EVALUATED, "eval=null"]
SINGLE = ["rollout.samples_per_prompt=1", "rollout.prompts_per_step=6"]
"""As many rows, none of which share a prompt: split models score rows alone, one process would not."""
FULL = ["student.train=full", "optim.lr=0.001"]
SHARDED = ["teacher.placement=sharded"]
ANALYSES = {
    "decay": ["--lengths", "4,8", "--samples", "2"],
    "prefix-swap": ["--n", "4", "--samples", "2"],
    "profile": ["--max-new-tokens", "12"],
    "selection": ["--max-new-tokens", "12", "--k", "4"],
    "submode": ["--max-new-tokens", "12"],
    "rollouts": ["--max-new-tokens", "12", "--count", "6"],
}


def trained(run: Path) -> dict[str, torch.Tensor]:
    (file,) = RunDir(run).checkpoints()[-1].glob("*/*model.safetensors")
    return load_file(file)


def steady(row: dict) -> dict:
    """A row of metrics without what depends on how the work was divided."""
    return {k: v for k, v in row.items() if not k.startswith(("time/", "memory/", "optim/micro"))}


def same_run(run: Path, other: Path) -> None:
    """The same rollouts, and the same numbers and weights to rounding."""
    rows = [[steady(row) for row in RunDir(path).metrics()] for path in (run, other)]
    assert len(rows[0]) == len(rows[1]) > 0
    for ours, theirs in zip(*rows):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    weights = trained(run), trained(other)
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(pair_dir, tmp_path_factory) -> Path:
    """Where one process has trained."""
    home = tmp_path_factory.mktemp("ranks")
    write_config(home, pair_dir)
    assert call(EVALUATED, home)[0] == 0
    return home


@pytest.fixture
def home(pair_dir, tmp_path) -> Path:
    write_config(tmp_path, pair_dir)
    return tmp_path


def slowly(rank: int) -> None:
    """Steps that leave time to be interrupted."""
    real = esr.train.step

    def step(*arguments):
        time.sleep(0.2)
        return real(*arguments)

    esr.train.step = step


def after_steps(run: Path, count: int) -> None:
    """Wait until a run has taken so many steps."""
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or len(RunDir(run).metrics()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_train_what_one_trains_and_evaluate_what_one_evaluates(alone, home):
    crew = Crew(EVALUATED, home)
    assert crew.wait() == [0, 0], crew.said()
    same_run(home / "run", alone / "run")
    texts = [[(s.problem, s.text, s.grade) for s in RunDir(h / "run").responses("teacher")] for h in (alone, home)]
    assert texts[0] == texts[1]
    assert crew.said()[1] == ""


@pytest.mark.parametrize("changes", [[], FULL, SHARDED], ids=["adapter", "all weights", "sharded teacher"])
def test_a_rank_without_a_position_to_train_on_changes_no_gradient(changes, pair_dir, home):
    """Responses of uneven length; those that rank 1 scores carry no loss."""

    def masked(rank: int = 0) -> None:
        real = esr.distill.rollouts

        def rollouts(*arguments):
            batch = real(*arguments)
            order = torch.argsort(batch.rollout.lengths, descending=True, stable=True)
            starts = batch.positions.student_starts.clone()
            starts[order[1::2]] = False
            return replace(batch, positions=replace(batch.positions, student_starts=starts, teacher_starts=starts))

        esr.distill.rollouts = rollouts

    arguments = [*ARGUMENTS, *SINGLE, "optim.steps=5", "optim.micro_batch_tokens=60", *changes]
    write_config(home / "one", pair_dir)
    assert call([a for a in arguments if a not in SHARDED], home / "one", masked)[0] == 0
    crew = Crew(arguments, home, prepare=masked)
    assert crew.wait() == [0, 0], crew.said()
    same_run(home / "run", home / "one" / "run")


def test_all_weights_split_over_two_processes_go_on_in_one(pair_dir, home):
    write_config(home / "one", pair_dir)
    assert call([*ARGUMENTS, *SINGLE, *FULL], home / "one")[0] == 0
    crew = Crew([*ARGUMENTS, *SINGLE, *FULL], home, prepare=slowly)
    after_steps(home / "run", 3)
    crew.signal(signal.SIGTERM, 1)
    assert crew.wait() == [1, 1], crew.said()
    assert "Stopped after step" in crew.said()[0]
    assert call([*ARGUMENTS, *SINGLE, *FULL], home)[0] == 0
    same_run(home / "run", home / "one" / "run")


def test_a_killed_process_ends_the_others_with_a_sentence_and_the_run_goes_on(alone, home):
    """One of two is killed, then both; two and then one go on."""
    crew = Crew(ARGUMENTS, home, prepare=slowly)
    after_steps(home / "run", 3)
    crew.signal(signal.SIGKILL, 1)
    assert crew.wait() == [1, -signal.SIGKILL], crew.said()
    assert "Another process of this run has ended" in " ".join(crew.said()[0].split())
    crew = Crew(ARGUMENTS, home, prepare=slowly)
    after_steps(home / "run", 5)
    crew.signal(signal.SIGKILL, 0, 1)
    assert crew.wait() == [-signal.SIGKILL] * 2
    assert call(ARGUMENTS, home)[0] == 0
    same_run(home / "run", alone / "run")


def test_running_out_of_memory_on_one_rank_repeats_the_step_on_all(alone, home):
    def short(rank: int) -> None:
        real, calls = esr.distill.hidden_states, []

        def hidden_states(lm, prompts, rollout, *seeds):
            calls.append(1)
            if rank == 1 and seeds and len(calls) < 4:
                raise torch.OutOfMemoryError("pretended")
            return real(lm, prompts, rollout, *seeds)

        esr.distill.hidden_states = hidden_states

    crew = Crew(ARGUMENTS, home, prepare=short)
    assert crew.wait() == [0, 0], crew.said()
    assert "the step is done again" in " ".join(crew.said()[0].split())
    same_run(home / "run", alone / "run")


@pytest.fixture(scope="module")
def many(pair_dir, tmp_path_factory) -> Path:
    """Where a short run has problems for several batches."""
    home = tmp_path_factory.mktemp("many")
    write_config(home, pair_dir)
    (home / "q.jsonl").write_text(
        "".join(f'{{"question": "what is {i} * 3?", "answer": "{3 * i}"}}\n' for i in range(20))
    )
    short = ["optim.steps=2", "eval.every=0", "eval.samples=1", "eval.batch_size=6"]
    assert call([*EVALUATED, *short], home)[0] == 0
    return home


def counted(rank: int) -> None:
    """A line in a file of its own each time that this rank writes responses."""
    for module in (esr.analysis.continuation, esr.analysis.responses):

        def respond(*arguments, real=module.respond):
            with open(f"rank-{rank}.calls", "a") as file:
                file.write("once\n")
            return real(*arguments)

        module.respond = respond


@pytest.mark.parametrize("name", ANALYSES)
def test_two_processes_share_an_analysis_and_its_record_is_that_of_one(name, many, tmp_path):
    arguments, records = ["analyze", name, "run", *ANALYSES[name]], []
    for home in (tmp_path / "one", tmp_path / "two"):
        shutil.copytree(many, home)
        if home.name == "one":
            assert call(arguments, home)[0] == 0
        else:
            crew = Crew(arguments, home, prepare=counted)
            assert crew.wait() == [0, 0], crew.said()
            assert all((home / f"rank-{rank}.calls").read_text() for rank in (0, 1))
            assert crew.said()[1] == ""
        records.append(json.loads((home / "run" / "analysis" / f"{name}.json").read_text()))
        assert not list((home / "run" / "analysis").glob(".*parts*"))
    one, two = ({key: value for key, value in record.items() if key != "seconds"} for record in records)
    assert two == one


def test_an_analysis_by_two_processes_that_is_broken_off_goes_on_in_one(many, tmp_path):
    for home in ("one", "two"):
        shutil.copytree(many, tmp_path / home)
    arguments = ["analyze", "decay", "run", *ANALYSES["decay"]]

    def slow(rank: int) -> None:
        real = esr.analysis.continuation.respond

        def respond(*given):
            time.sleep(0.3)
            return real(*given)

        esr.analysis.continuation.respond = respond

    crew = Crew(arguments, tmp_path / "two", prepare=slow)
    parts = tmp_path / "two" / "run" / "analysis" / ".decay.parts.jsonl"
    deadline = time.monotonic() + 120
    while not parts.exists() or parts.read_text().count("\n") < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    crew.signal(signal.SIGKILL, 0, 1)
    assert crew.wait() == [-signal.SIGKILL] * 2
    before = [json.loads(line) for line in parts.read_text().splitlines()]
    assert call(arguments, tmp_path / "two", lambda: counted(0))[0] == 0
    assert call(arguments, tmp_path / "one", lambda: counted(0))[0] == 0
    calls = [(tmp_path / home / "rank-0.calls").read_text().count("once") for home in ("one", "two")]
    assert calls[1] <= calls[0] - len(before) + 1, "what is kept is not written again"
    records = [json.loads((tmp_path / home / "run/analysis/decay.json").read_text()) for home in ("one", "two")]
    assert records[0]["series"] == records[1]["series"]


def without_costs(value: object) -> object:
    """A record, or a part of it, without seconds and memory."""
    if isinstance(value, list):
        return [without_costs(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: without_costs(v) for k, v in value.items() if k not in ("seconds", "cost", "full", "faster", "smaller")}


def test_two_processes_check_a_pair_and_train_its_pilots_together(pair_dir, tmp_path):
    def small(rank: int = 0) -> None:
        FitSettings.QUICK = {"problems": 4, "lengths": (4, 8), "pilot": 2}
        esr.analysis.fit.measure.WORTH = -2.0  # a pilot is trained for whatever gap
        counted(rank)

    arguments, found = ["check", "c.yaml", "--quick", "eval.batch_size=2", "optim.steps=8", *EVALUATED[-2:]], []
    for world in (1, 2):
        home = tmp_path / str(world)
        write_config(home, pair_dir)
        (home / "q.jsonl").write_text("".join(f'{{"question": "{i} * 3?", "answer": "{3 * i}"}}\n' for i in range(8)))
        crew = Crew(arguments, home, world, small)
        codes = set(crew.wait())
        assert len(codes) == 1 and codes <= {0, 3, 4}, crew.said()
        assert all((home / f"rank-{rank}.calls").exists() for rank in range(world))
        (file,) = home.rglob("fit.json")
        assert not (file.parents[1] / "pilots").exists()
        found.append((codes, without_costs(json.loads(file.read_text()))))
    assert len(found[0][1]["pilots"]) == 2
    assert found[0] == found[1]


def test_a_mistake_is_said_once(home):
    crew = Crew([*ARGUMENTS, "rollout.prompts_per_step=1"], home)
    assert crew.wait() == [2, 2]
    assert "fewer than the 2 processes" in " ".join(crew.said()[0].split()) and crew.said()[1] == ""
    crew = Crew(["report", "run"], home)
    assert crew.wait() == [2, 2]
    assert "esr report runs in one process" in crew.said()[0]
