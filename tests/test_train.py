"""The loop: resume, interruption, fresh starts, and what a run leaves behind. Through the real command line."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from esr import train
from esr.assemble import build
from esr.cli.main import run as esr
from esr.config import OptimConfig
from esr.config.configfile import load
from esr.errors import UserError
from esr.models import checkpoint
from esr.models.load import load_student
from esr.models.machine import threads
from esr.prepare import prepare
from esr.runs.environment import Machine, inexact
from esr.runs.rundir import RunDir
from forked import Command
from tiny import make_model

TIMING = ("time/", "memory/")


@pytest.fixture
def home(tmp_path, monkeypatch, pair_dir) -> Path:
    """A working directory with a config of six steps and evaluation of three problems."""
    monkeypatch.chdir(tmp_path)
    tree = {
        "student": {"model": str(pair_dir / "student"), "dtype": "float32"},
        "teacher": {"model": str(pair_dir / "teacher"), "dtype": "float32"},
        "data": {"source": str(pair_dir / "prompts.jsonl")},
        "rollout": {"prompts_per_step": 3, "max_new_tokens": 12},
        "optim": {"steps": 6, "lr": 0.01},
        "run": {"dir": "run", "checkpoint_every": 2, "device": "cpu", "threads": 1, "rollouts_every": 2},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def rows(run: str) -> list[dict]:
    found = RunDir(run).metrics()
    return [{k: v for k, v in row.items() if not k.startswith(TIMING)} for row in found]


def weights(run: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(RunDir(run).checkpoints()[-1] / "adapter" / "adapter_model.safetensors")


def start(*arguments: str) -> Command:
    return Command(["train", "c.yaml", *arguments])


def wait_for_steps(run: str, count: int, process: Command) -> None:
    deadline = time.monotonic() + 120
    while len(RunDir(run).metrics()) < count:
        assert process.poll() is None, process.finish()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_run_goes_on_to_the_same_numbers(home):
    """SIGKILL at an arbitrary instant, several times over; metrics, rollouts and weights equal the uninterrupted run's."""
    assert esr(["train", "c.yaml", "run.dir=whole", "optim.steps=8"]) == 0
    for kill_after in (1, 4, 5):
        process = start("run.dir=killed", "optim.steps=8")
        wait_for_steps("killed", kill_after, process)
        time.sleep(0.03)
        process.kill()
        process.finish()
    assert esr(["train", "c.yaml", "run.dir=killed", "optim.steps=8"]) == 0
    assert json.loads(Path("killed/env.json").read_text())["resumed"][-1]["after_step"] % 2 == 0
    assert rows("killed") == rows("whole")
    assert Path("killed/rollouts.jsonl").read_text() == Path("whole/rollouts.jsonl").read_text()
    assert all(torch.equal(value, weights("killed")[name]) for name, value in weights("whole").items())


def test_a_run_goes_on_with_the_threads_that_it_began_with(home, capsys):
    """Whatever the second process would choose; told otherwise, it says that the numbers will not be exactly the same."""
    options = ["run.threads=null", "optim.steps=3"]
    with threads(2):
        assert esr(["train", "c.yaml", *options]) == 0
    for told, used in ((None, 2), (1, 1)):
        last = RunDir("run").checkpoints()[-1]
        last.rename(last.with_name(f"lost-{told}"))
        assert esr(["train", "c.yaml", *options, *([f"run.threads={told}"] if told else [])]) == 0
        assert torch.get_num_threads() == 1
        assert json.loads(Path("run/env.json").read_text())["resumed"][-1]["threads"] == used
        said = "Not exactly the numbers of a run without a break: threads 2 -> 1." in capsys.readouterr().err
        assert said == (told is not None)


def test_what_changes_the_rounding_of_sums():
    first = {"device": "cuda:0", "threads": 2, "processor": "AVX2", "packages": {"torch": "2.12", "numpy": "1"}}
    assert inexact(first, {**first, "device": "cuda:1", "packages": {"torch": "2.12", "numpy": "2"}}) == ""
    assert inexact({"packages": {}}, first) == ""
    now = {**first, "device": "cpu", "processor": "AVX512", "packages": {"torch": "2.13"}}
    assert inexact(first, now) == "device cuda -> cpu, processor AVX2 -> AVX512, torch 2.12 -> 2.13"


def test_full_fine_tuning_resumes_exactly_too(home):
    options = ["student.train=full", "optim.steps=4"]
    assert esr(["train", "c.yaml", "run.dir=whole", *options]) == 0
    assert esr(["train", "c.yaml", "run.dir=parts", *options]) == 0
    last = RunDir("parts").checkpoints()[-1]
    for file in sorted(last.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    last.rmdir()
    assert esr(["train", "c.yaml", "run.dir=parts", *options]) == 0
    assert rows("parts") == rows("whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(home, number):
    process = start("optim.steps=300", "run.checkpoint_every=300")
    wait_for_steps("run", 2, process)
    os.kill(process.pid, number)
    errors = process.finish()
    assert process.returncode == 1
    done = len(rows("run"))
    assert f"Stopped after step {done}" in errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert RunDir("run").checkpoints()[-1].name == f"step-{done:06d}"


def test_a_complete_run_is_left_alone(home, capsys):
    assert esr(["train", "c.yaml"]) == 0
    before = {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()}
    assert esr(["train", "c.yaml"]) == 0
    assert {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()} == before
    assert "complete (6 steps)" in capsys.readouterr().err


def test_fresh_moves_the_old_run_aside(home):
    assert esr(["train", "c.yaml", "optim.steps=1"]) == 0
    old = Path("run/metrics.jsonl").read_bytes()
    assert esr(["train", "c.yaml", "optim.steps=2", "--fresh"]) == 0
    assert Path("run~1/metrics.jsonl").read_bytes() == old
    assert len(rows("run")) == 2
    assert len(rows("run~1")) == 1


def test_another_configuration_is_refused_and_nothing_is_written_over(home, capsys):
    assert esr(["train", "c.yaml", "optim.steps=1"]) == 0
    before = {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()}
    assert esr(["train", "c.yaml", "optim.steps=2"]) == 2
    assert "optim.steps: 1 -> 2" in capsys.readouterr().err
    assert {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()} == before


def test_a_second_process_is_kept_out(home, capsys):
    with RunDir("run").locked():
        assert esr(["train", "c.yaml"]) == 2
    assert "in use by another esr process" in capsys.readouterr().err


def test_a_fresh_start_keeps_the_lock(home):
    """The old run moves aside under it; nobody gets in between."""
    assert esr(["train", "c.yaml", "optim.steps=1"]) == 0
    config, run = load("c.yaml"), RunDir("run")
    with run.locked():
        run.open_or_create(config, Machine("cpu"), fresh=True)
        assert run.metrics() == [] and RunDir("run~1").metrics()
        with pytest.raises(UserError, match="in use"), RunDir("run").locked():
            pass
    with RunDir("run").locked(), RunDir("run~1").locked():
        pass


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(home, capsys):
    """A teacher that breaks for one token: the run stops at its first occurrence and says where."""
    broken = make_model(2)
    broken.model.embed_tokens.weight[23:29] = float("nan")
    broken.save_pretrained("broken")
    AutoTokenizer.from_pretrained(load("c.yaml").teacher.model).save_pretrained("broken")
    code = esr(["train", "c.yaml", "teacher.model=./broken", "run.checkpoint_every=1"])
    assert code == 1
    assert "is not finite: response to problem" in capsys.readouterr().err
    assert len(RunDir("run").checkpoints()) == len(rows("run"))


def test_evaluation_before_and_after_with_a_paired_difference(home, capsys):
    problems = "".join(f'{{"q": "what is {i} times 3?", "a": "{3 * i}"}}\n' for i in range(3))
    Path("q.jsonl").write_text(problems)
    options = ["eval={source: q.jsonl, question: q, answer: a, samples: 2, max_new_tokens: 24, every: 3}", "--json"]
    assert esr(["train", "c.yaml", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(e["who"], e["step"]) for e in result["evaluations"]] == [
        ("student", 0), ("student", 3), ("student", 6), ("teacher", None),
    ]  # fmt: skip
    assert {d["reference"] for d in result["differences"]} == {"step-000000"}
    assert all(e["problems"] == 3 and e["samples"] == 2 for e in result["evaluations"])
    before, after = (RunDir("run").responses(name) for name in ("step-000000", "step-000006"))
    assert [(s.problem, s.sample) for s in before] == [(s.problem, s.sample) for s in after]


def test_a_teacher_on_the_students_base_shares_its_weights(home):
    """An adapter as teacher: one copy of the base, and the same losses as with two."""
    assert esr(["train", "c.yaml", "run.dir=first", "optim.steps=2"]) == 0
    adapter = RunDir("first").checkpoints()[-1] / "adapter"
    config = load("c.yaml")
    shared = ["teacher.model=" + config.student.model, f"teacher.adapter={adapter}", "optim.steps=3"]
    assert esr(["train", "c.yaml", "run.dir=shared", *shared]) == 0
    plan = prepare(load("c.yaml", shared))
    distiller = build(plan, torch.device("cpu"))
    assert distiller.teacher.module is distiller.student.module
    assert esr(["train", "c.yaml", "run.dir=apart", *shared, "teacher.attention=sdpa"]) == 0
    together, apart = rows("shared"), rows("apart")
    assert [r["loss"] for r in together] == pytest.approx([r["loss"] for r in apart], rel=1e-4)
    assert together[0]["loss"] > 1e-3


def test_exported_model_loads_with_plain_transformers_and_says_the_same(home):
    assert esr(["train", "c.yaml"]) == 0
    assert esr(["export", "run", "out"]) == 0
    config = load("run/config.json")
    student = load_student(config.student, torch.device("cpu"), (2,), 42)
    ids = torch.arange(6, 20)[None]
    untrained = student.causal_lm(ids).logits
    checkpoint.load_weights(student, RunDir("run").checkpoints()[-1])
    with student.running():
        expected = student.module(ids).logits
    plain = AutoModelForCausalLM.from_pretrained("out")
    assert torch.allclose(plain(ids).logits, expected, atol=1e-4)
    assert not torch.allclose(untrained, expected, atol=1e-3)
    card = Path("out/README.md").read_text()
    assert "early-stop length N | 12" in card
    assert esr(["export", "run", "adapter", "--adapter", "--step", "4"]) == 0
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {
        p.name for p in Path("adapter").iterdir()
    }


@pytest.mark.parametrize(
    "options",
    [
        ["student.dtype=bfloat16", "teacher.dtype=bfloat16"],
        ["student.train=full", "student.dtype=bfloat16", "optim.lr=0.001"],
        ["optim.gradient_checkpointing=true", "optim.micro_batch_tokens=60"],
        ["loss={divergence: jsd, beta: 0.2, aggregation: token_mean, selection: {by: top_kl, k: 4}}"],
        ["teacher.dtype=bfloat16", "rollout.samples_per_prompt=2", "rollout.temperature=0"],
    ],
    ids=lambda o: o[0],
)
@pytest.mark.filterwarnings("error::FutureWarning")
def test_settings_that_change_the_arithmetic_still_learn(home, options):
    assert esr(["train", "c.yaml", *options, "optim.steps=10", "optim.schedule=constant"]) == 0
    losses = [row["loss"] for row in rows("run")]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_the_learning_rate_by_hand():
    optim = OptimConfig(steps=10, lr=1.0, warmup_ratio=0.2)
    got = [train.lr_at(i, optim) for i in range(10)]
    assert got[:3] == [0.5, 1.0, 1.0]
    assert got[6] == pytest.approx(0.5)
    assert got == sorted(got[:2]) + sorted(got[2:], reverse=True)
    assert train.lr_at(9, OptimConfig(steps=10, lr=1.0, schedule="constant", warmup_ratio=0)) == 1.0


def test_each_pass_over_the_data_has_every_prompt_once(home):
    plan = prepare(load("c.yaml", ["rollout.prompts_per_step=4", "optim.steps=10"]))
    seen = [p.problem.id for i in range(10) for p in train.batch_of(plan, i)]
    assert len(set(seen[:20])) == len(set(seen[20:])) == 20
    assert seen[:20] != seen[20:]


def test_tensorboard_gets_the_metrics(home):
    assert esr(["train", "c.yaml", "optim.steps=1", "run.trackers=[tensorboard]"]) == 0
    assert list(Path("run").rglob("events.out.tfevents*"))


def test_a_budget_of_tokens_ends_the_run_and_its_schedule(home):
    """The run ends with the first step that reaches the budget, resumed or not, and is then left alone."""
    options = ["optim.steps=1000", "optim.max_tokens=150", "run.checkpoint_every=1"]
    assert esr(["train", "c.yaml", *options]) == 0
    tokens = [row["tokens/generated"] for row in rows("run")]
    assert sum(tokens[:-1]) < 150 <= sum(tokens)
    limited = load("c.yaml", options).optim
    spent = [sum(tokens[:i]) / 150 for i in range(len(tokens))]
    rates = [row["optim/lr"] for row in rows("run")]
    assert rates == pytest.approx([train.lr_at(1000 * part, limited) for part in spent])
    assert esr(["train", "c.yaml", *options]) == 0
    assert [row["tokens/generated"] for row in rows("run")] == tokens
    shorter = [*options, "run.dir=cut"]
    process = start(*shorter)
    wait_for_steps("cut", 2, process)
    process.kill()
    process.finish()
    assert esr(["train", "c.yaml", *shorter]) == 0
    assert rows("cut") == rows("run")


def test_progress_is_the_furthest_of_steps_tokens_and_seconds():
    done = [{"tokens/generated": 30.0, "time/step": 2.0}] * 2
    assert OptimConfig(steps=10).progress(done) == 0.2
    assert OptimConfig(steps=10, max_tokens=100).progress(done) == 0.6
    assert OptimConfig(steps=10, max_tokens=100, max_seconds=5).progress(done) == 0.8
    assert OptimConfig(steps=10, max_seconds=3).progress(done) == 1.0


@pytest.mark.parametrize("policy", ["linear", "share", "overlap", "random"])
def test_a_resumed_run_takes_the_same_horizons(home, policy):
    """N is a function of the step and of what is on disk: a run that lost its last checkpoint takes the same again."""
    options = [f"rollout.horizon={{policy: {policy}, start: 3, every: 2}}"]
    assert esr(["train", "c.yaml", "run.dir=whole", *options]) == 0
    assert esr(["train", "c.yaml", "run.dir=parts", *options]) == 0
    shutil.rmtree(RunDir("parts").checkpoints()[-1])
    assert esr(["train", "c.yaml", "run.dir=parts", *options]) == 0
    ns = [row["rollout/n"] for row in rows("whole")]
    assert [row["rollout/n"] for row in rows("parts")] == ns
    assert len(set(ns)) > 1 or policy == "overlap", "two random models never agree, so N never grows"
    assert all(row["length/max"] <= row["rollout/n"] for row in rows("whole"))


def test_a_killed_run_takes_the_same_horizons(home):
    """SIGKILL between two full-length probes: the next N comes from the trace that is on disk."""
    options = ["rollout.horizon={policy: share, start: 3, every: 3}", "optim.steps=6"]
    assert esr(["train", "c.yaml", "run.dir=whole", *options]) == 0
    process = start(*options, "run.dir=killed")
    wait_for_steps("killed", 2, process)
    process.kill()
    process.finish()
    assert esr(["train", "c.yaml", "run.dir=killed", *options]) == 0
    assert [row["rollout/n"] for row in rows("killed")] == [row["rollout/n"] for row in rows("whole")]


def test_position_weights_change_the_loss_and_a_flat_one_nothing(home):
    arms = {
        "plain": [],
        "flat": ["loss.position_weight.scale=5"],
        "soft": ["loss.position_weight={shape: linear, scale: 4}"],
    }
    for name, options in arms.items():
        assert esr(["train", "c.yaml", f"run.dir={name}", "optim.steps=2", *options]) == 0
    assert rows("plain") == rows("flat")
    assert rows("soft")[0]["loss"] != rows("plain")[0]["loss"]
    assert rows("soft")[0]["tokens/trained"] == 3 * 4, "a linear weight ends at its scale"
