"""The memory plan: the sizes that follow from it, where the models lie, and what is said of it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from esr import budget
from esr.budget import Placed, plan
from esr.budget.footprint import Activations, Footprint, Held
from esr.cli.main import app
from esr.config import Config
from esr.errors import TooLarge, UserError

GIB = 2**30
STUDENT = Held(weights=4 * GIB, copies=2 * GIB, layer=GIB // 8, head=GIB // 2, cache=10_000, state=0, logits=4 * 50_000)
TEACHER = Held(weights=16 * GIB, copies=0, layer=GIB // 4, head=GIB, cache=40_000, state=100, logits=4 * 50_000)
HELD = Footprint(STUDENT, TEACHER, GIB // 4, Activations(plain=2**22, checkpointed=2**18, layer=2**18))


def config(**sections) -> Config:
    tree = {"student": {"model": "s"}, "teacher": {"model": "t"}, "data": {"source": "d.jsonl"}}
    return Config.model_validate({**tree, **sections})


EVALUATED = {"eval": {"source": "e.jsonl", "max_new_tokens": 1000}}


def test_checkpointing_is_planned_only_where_memory_is_short():
    wide, short = (plan(config(), HELD, memory * GIB, 100) for memory in (80, 30))
    assert (wide.micro_batch_tokens, wide.checkpointing) == (4096, False)
    assert (short.micro_batch_tokens, short.checkpointing) == (4096, True)
    without = plan(config(optim={"gradient_checkpointing": False}), HELD, 30 * GIB, 100)
    assert not without.checkpointing
    assert 200 <= without.micro_batch_tokens < 4096
    assert without.training <= 30 * GIB
    assert all(p.fits for p in (wide, short, without))
    nothing = plan(config(), HELD, 10 * GIB, 100)
    assert (nothing.micro_batch_tokens, nothing.checkpointing) == (200, True), (
        "a single row is tried whatever the plan says"
    )
    assert not nothing.fits


def test_what_is_set_is_kept():
    found = plan(config(optim={"micro_batch_tokens": 999}, eval={"source": "e", "batch_size": 7}), HELD, 80 * GIB, 100)
    assert (found.micro_batch_tokens, found.problems) == (999, 7)


def test_a_run_that_is_too_large_is_told_what_would_fit():
    """20 GiB of weights: in 10 GiB the teacher has to go; in 30 GiB only an evaluation of 4,000 responses has; in 3 GiB nothing helps."""
    remedies = lambda c, memory: budget.remedies(c, HELD, memory * GIB, 100)  # noqa: E731
    assert remedies(config(), 10)[:2] == ["teacher.placement=offloaded", "teacher.placement=server"]
    wide = config(eval={"source": "e", "batch_size": 1000})
    assert not plan(wide, HELD, 30 * GIB, 100).fits
    assert remedies(wide, 30)[0] == "eval.batch_size left to the plan"
    assert remedies(config(), 3) == []
    found = plan(wide, HELD, 30 * GIB, 100).model_copy(update={"remedies": ("fewer",)})
    with pytest.raises(TooLarge, match="It would fit with fewer"):
        found.require()


def test_an_evaluation_takes_as_many_problems_as_fit():
    """By hand: 85% of the memory, less weights and moments, over what the teacher's responses hold."""
    found = plan(config(**EVALUATED), HELD, 30 * GIB, 100, asked=200)
    free = int(30 * GIB * 0.85) - 20 * GIB - GIB // 2
    row = 1200 * 40_000 + 100 + 4 * 4 * 50_000
    assert found.problems == min(free // row, 256) // 4
    assert found.evaluating <= 30 * GIB
    assert plan(config(**EVALUATED), HELD, 300 * GIB, 100).problems == 64, "never more than 256 responses"
    assert plan(config(**EVALUATED), HELD, 21 * GIB, 100).problems == 1
    assert plan(config(), HELD, 30 * GIB, 100).problems is None


@pytest.mark.parametrize(
    ("placed", "beside"),
    [
        (Placed(), 16 * GIB),
        (Placed("device"), 0),
        (Placed("server"), GIB),
        (Placed("offloaded"), GIB // 2 + GIB),
        (Placed("sharded", ranks=4), 4 * GIB + GIB // 2 + GIB),
    ],
    ids=lambda value: value.teacher if isinstance(value, Placed) else "",
)
def test_the_teacher_takes_what_lies_beside_the_student(placed, beside):
    found = plan(config(), HELD, 80 * GIB, 100, placed=placed)
    assert (found.student, found.teacher) == (4 * GIB, beside)


def test_a_sharded_student_is_spread_over_the_ranks():
    whole, sharded = (plan(config(), HELD, 80 * GIB, 100, placed=Placed(ranks=4, sharded=s)) for s in (False, True))
    assert sharded.student == GIB + GIB // 4
    assert whole.student == 4 * GIB
    assert sharded.optimizer == whole.optimizer // 4


def test_a_sharded_student_is_whole_while_it_writes():
    """Its shard and its gathered weights, beside what an unsplit one of the same shard would take."""
    placed = Placed(ranks=4, sharded=True)
    found = plan(config(**EVALUATED), HELD, 80 * GIB, 100, placed=placed)
    resting = found.student + found.teacher + 2 * found.optimizer // 3
    assert found.writing == resting + STUDENT.weights + STUDENT.writing(4, 200)
    assert found.evaluating >= resting + STUDENT.weights + STUDENT.writing(found.problems * 4, 1000)


def test_what_servers_write_takes_no_memory_here():
    there = {"engine": "vllm", "server": ["http://127.0.0.1:1"]}
    sections = {"rollout": there, "eval": {**EVALUATED["eval"], **there}}
    found, own = (plan(config(**s), HELD, 80 * GIB, 100) for s in (sections, EVALUATED))
    assert (found.writing, found.evaluating, found.problems) == (0, 0, None)
    assert found.training == own.training
    assert own.writing and "student writes" in " ".join(own.describe())
    assert "student writes" not in " ".join(found.describe())


@pytest.mark.parametrize(
    ("text", "bytes"), [("24GiB", 24 * GIB), ("80 GB", 80 * 10**9), ("0.5gib", GIB // 2), ("900MiB", 900 * 2**20)]
)
def test_an_amount_of_memory_is_read(text, bytes):
    assert budget.size(text) == bytes


@pytest.mark.parametrize("text", ["24", "much", "-3GiB", "0GiB", "24 TiB"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(UserError, match="give one such as 24GiB"):
        budget.size(text)


@pytest.fixture
def file(tmp_path, monkeypatch, pair_dir) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in ("a", "bb", "ccc")))
    tree = {
        "student": {"model": str(pair_dir / "student")},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": "q.jsonl"},
        "run": {"device": "auto"},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return Path("c.yaml")


def test_the_check_says_the_plan_and_judges_it_against_a_named_device(file):
    run = CliRunner().invoke
    here = run(app, ["check", str(file), "--static"])
    assert here.exit_code == 0
    assert "Memory: weights" in here.stderr
    assert run(app, ["check", str(file), "--device-memory", "24GiB"]).exit_code == 0
    small = run(app, ["check", str(file), "--device-memory", "1MiB"])
    assert small.exit_code == 3
    assert "more than there is" in " ".join(small.stderr.split())


def test_on_an_accelerator_the_models_are_half_as_large(file):
    from esr.config.configfile import load
    from esr.prepare import prepare

    here, there = (prepare(load(file, []), memory).budget for memory in (None, 24 * GIB))
    assert there.memory == 24 * GIB
    assert here.teacher == pytest.approx(2 * there.teacher, rel=0.01)
