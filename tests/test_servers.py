"""Teacher, rollouts and evaluation on servers: equal to the local run, and every failure ends in a sentence, never in a step."""

import json
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from esr.cli.main import run as esr
from esr.method.tensors import Prompts, Rollout
from esr.models import server
from esr.models.remote import HiddenStates
from esr.models.server import Refused, ServerLost, Servers, ahead, as_json, served
from esr.runs.rundir import RunDir
from fake_vllm import FakeVLLM, serving
from tiny import make_model, make_tokenizer, save_model

TIMING = ("time/", "memory/")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Waits of real servers would be minutes."""
    monkeypatch.setattr(server, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(server, "LIMIT", 60.0)


@pytest.fixture
def home(tmp_path, monkeypatch, pair_dir) -> Path:
    """A working directory with a config of four greedy steps."""
    monkeypatch.chdir(tmp_path)
    tree = {
        "student": {"model": str(pair_dir / "student")},
        "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")},
        "rollout": {"prompts_per_step": 3, "max_new_tokens": 12, "temperature": 0},
        "optim": {"steps": 4, "lr": 0.01, "micro_batch_tokens": 60},
        "run": {"dir": "run", "checkpoint_every": 2, "device": "cpu", "threads": 1},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


@pytest.fixture
def teacher(pair_dir):
    fake = FakeVLLM(pair_dir / "teacher")
    with serving(fake) as url:
        yield fake, ["teacher.placement=server", f"teacher.server={url}"]


@pytest.fixture
def student(pair_dir):
    fake = FakeVLLM(pair_dir / "student")
    with serving(fake) as url:
        yield fake, ["rollout.engine=vllm", f"rollout.server={url}"]


def rows(run: str = "run") -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(TIMING)} for row in RunDir(run).metrics()]


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_file(RunDir(run).checkpoints()[-1] / "adapter" / "adapter_model.safetensors")


def same(a: str, b: str) -> None:
    """Two runs are the same to rounding."""
    for ours, theirs in zip(rows(a), rows(b), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for name, value in weights(a).items():
        assert torch.allclose(value, weights(b)[name], atol=2e-4), name


def test_a_training_with_its_teacher_on_a_server_is_the_local_one(home, teacher, capsys):
    fake, options = teacher
    assert esr(["train", "c.yaml", "run.dir=here"]) == 0
    assert esr(["train", "c.yaml", "run.dir=there", *options]) == 0
    same("here", "there")
    assert fake.asked.count("/pooling") > 8  # several micro-batches in each of four steps
    assert "gives the model's own log-probabilities" in capsys.readouterr().err


def test_rollouts_and_evaluation_from_a_server_are_the_local_ones(home, student, capsys):
    fake, options = student
    questions = "".join(f'{{"q": "what is {i} times 3?", "a": "{3 * i}"}}\n' for i in range(3))
    Path("q.jsonl").write_text(questions)
    task = (
        "eval={source: q.jsonl, question: q, answer: a, samples: 1, max_new_tokens: 16, temperature: 0, teacher: false"
    )
    assert esr(["train", "c.yaml", "run.dir=here", f"{task}}}"]) == 0
    url = options[1].partition("=")[2]
    assert esr(["train", "c.yaml", "run.dir=there", *options, f"{task}, engine: vllm, server: '{url}'}}"]) == 0
    same("here", "there")
    for name in ("step-000000", "step-000004"):
        ours, theirs = (RunDir(run).responses(name) for run in ("here", "there"))
        assert [s.text for s in ours] == [s.text for s in theirs]
    assert RunDir("there").evaluation("step-000004").settings["writer"] == "vllm"
    assert len(fake.loaded) == len(set(fake.loaded)) == 5  # before each step, and for the last evaluation
    assert len(fake.adapters) == 1 and len(list(Path("there/adapters/rollout").iterdir())) == 1
    capsys.readouterr()
    assert esr(["compare", "here", "there"]) == 0
    assert "paired by problem alone" in capsys.readouterr().out


def test_a_sampled_response_depends_on_seed_problem_and_sample_alone(home, student):
    _, options = student
    for run in ("a", "b"):
        assert esr(["train", "c.yaml", f"run.dir={run}", *options, "rollout.temperature=1", "optim.steps=2"]) == 0
    assert rows("a") == rows("b")
    first = [json.loads(line)["token_ids"] for line in Path("a/rollouts.jsonl").read_text().splitlines()]
    assert len({tuple(ids) for ids in first}) > 1


def test_top_k_is_a_lower_bound_that_is_exact_with_all_tokens(home, pair_dir):
    fake = FakeVLLM(pair_dir / "teacher")
    with serving(fake) as url:
        top = ["teacher.placement=server", f"teacher.server={url}", "teacher.server_scores=top_k"]
        plain = ["loss.merge_terminators=false", "optim.steps=1"]
        assert esr(["train", "c.yaml", "run.dir=exact", *plain]) == 0
        found = []
        for k in (4, 16, 64):
            assert esr(["train", "c.yaml", f"run.dir=k{k}", *plain, *top, f"teacher.server_top_k={k}"]) == 0
            found.append(rows(f"k{k}")[0]["loss"])
    exact = rows("exact")[0]["loss"]
    assert found[0] < found[1] < found[2] == pytest.approx(exact, rel=1e-4)


def test_what_passes_is_tried_again_and_changes_nothing(home, teacher):
    fake, options = teacher
    assert esr(["train", "c.yaml", "run.dir=here", "optim.steps=2"]) == 0
    fake.faults["/pooling"] = ["", "", "", "", "500", "half", "cut", "", "short", "nan", "429"]
    assert esr(["train", "c.yaml", "run.dir=there", "optim.steps=2", *options]) == 0
    losses = [[row["loss"] for row in rows(run)] for run in ("here", "there")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert fake.faults["/pooling"] == []


def test_a_teacher_lost_in_mid_run_stops_it_with_the_state_before_and_it_goes_on(home, teacher, capsys):
    fake, options = teacher
    assert esr(["train", "c.yaml", "run.dir=here"]) == 0
    real = fake.answer

    def lost(path: str, body: dict, fault: str) -> tuple[int, bytes]:
        return (500, b"gone") if len(rows()) == 3 else real(path, body, fault)

    fake.answer = lost
    assert esr(["train", "c.yaml", *options]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "teacher.server: http://127.0.0.1" in said and "the same command then goes on" in said
    assert "Traceback" not in said
    assert RunDir("run").checkpoints()[-1].name == "step-000003" and len(rows()) == 3
    fake.answer = real
    assert esr(["train", "c.yaml", *options]) == 0
    same("here", "run")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("500", "HTTP 500"), ("400", "refuses"), ("half", ""), ("cut", ""), ("short", "bytes of hidden states instead of"),
        ("nan", "not finite"), ("mute", "timed out"), ("drip", ""),
    ],
)  # fmt: skip
def test_no_fault_of_a_server_gives_hidden_states_or_hangs(teacher, fault, why, monkeypatch):
    fake, options = teacher
    if fault in ("mute", "drip"):
        monkeypatch.setattr(server, "LIMIT", 0.5)
    fake.faults["/pooling"] = [fault] * 9
    scorer = HiddenStates(Servers("teacher.server", (options[1].partition("=")[2],)), "base", 32, torch.float32)
    prompts, rollout = Prompts(IDS, ALL), Rollout(IDS, ALL, torch.zeros(2, dtype=torch.long))
    start = time.monotonic()
    with pytest.raises(ServerLost, match=why):
        scorer(prompts, rollout)
    assert time.monotonic() - start < 5
    if fault not in ("mute", "drip"):
        fake.faults.clear()
        assert scorer(prompts, rollout).shape == (10, 32)


IDS = torch.arange(6, 16).view(2, 5)
ALL = torch.ones_like(IDS, dtype=torch.bool)


def refused(capsys, *options: str) -> str:
    capsys.readouterr()
    assert esr(["train", "c.yaml", *options]) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert rows(next((o.partition("=")[2] for o in options if o.startswith("run.dir=")), "run")) == []
    return " ".join(said.split())


def test_servers_that_are_absent_or_serve_something_else_are_refused_before_the_first_step(home, pair_dir, capsys):
    place = ["teacher.placement=server", "teacher.server=http://127.0.0.1:9"]
    assert "Start it with `esr serve`" in refused(capsys, *place)
    save_model(home / "other", seed=5)
    with serving(FakeVLLM(home / "other")) as url:
        assert "are not those of" in refused(capsys, *place[:1], f"teacher.server={url}")
        assert "serves another model" in refused(capsys, "rollout.engine=vllm", f"rollout.server={url}")
        both = f"teacher.server=['{url}', 'http://127.0.0.1:9']"
        assert "127.0.0.1:9" in refused(capsys, *place[:1], both)
    save_model(home / "wide", seed=5, hidden=64)
    with serving(FakeVLLM(home / "wide")) as url:
        assert "bytes of hidden states instead of" in refused(capsys, *place[:1], f"teacher.server={url}")


@pytest.mark.parametrize("path", ["/pooling", "/v1/completions", "/v1/load_lora_adapter"])
def test_a_server_that_was_started_for_other_work_is_told_how_to_start(home, teacher, student, capsys, path):
    fake, options = student if path == "/v1/load_lora_adapter" else teacher
    fake.missing = {path}
    scores = ["teacher.server_scores=top_k"] if path == "/v1/completions" else []
    assert "with the command that `esr serve` prints" in refused(capsys, *options, *scores)


def test_another_tokenizer_is_refused_though_the_model_is_the_same(home, teacher, student, capsys):
    for fake, options in (teacher, student):
        fake.faults["/tokenize"] = ["other"]
        assert "has another tokenizer" in refused(capsys, *options)


def test_where_the_teacher_does_not_fit_in_memory_its_server_is_checked_for_consistency(
    home, teacher, capsys, monkeypatch
):
    from esr.sampling import served as selftest

    monkeypatch.setattr(selftest, "local", lambda config: None)
    monkeypatch.setattr(selftest, "INFORMED", 10.0)  # a random model predicts nothing
    _, options = teacher
    assert esr(["train", "c.yaml", "optim.steps=1", *options]) == 0
    assert "checked for consistency only" in capsys.readouterr().err
    monkeypatch.setattr(selftest, "INFORMED", 0.01)
    assert "no better than a guess" in refused(capsys, "run.dir=other", *options)


@pytest.mark.parametrize(
    ("fault", "why"),
    [("short", "no end"), ("long", "goes on after its end"), ("text", "no token ids"), ("other", "another model")],
)
def test_responses_that_break_the_stop_rule_are_never_trained_on(home, student, capsys, fault, why):
    fake, options = student
    fake.faults["/v1/completions"] = ["", "", *[fault] * 99]
    said = refused(capsys, *options)
    assert why in said or (fault == "long" and "no end" in said)


def test_a_server_that_keeps_the_adapter_before_is_noticed(home, student, capsys):
    fake, options = student
    fake.faults["/v1/load_lora_adapter"] = ["", "", "stale"]
    assert esr(["train", "c.yaml", *options, "optim.lr=0.1", "optim.warmup_ratio=0"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "still writes with the weights before" in said or "serves another model" in said
    assert len(rows()) == 2 and RunDir("run").checkpoints()[-1].name == "step-000002"


def test_a_server_that_was_restarted_gets_its_adapter_again(home, student):
    fake, options = student
    assert esr(["train", "c.yaml", "run.dir=here", "optim.steps=2"]) == 0
    fake.faults["/v1/completions"] = [""] * 4 + ["forget"]
    assert esr(["train", "c.yaml", "run.dir=there", "optim.steps=2", *options]) == 0
    same("here", "there")
    assert len(fake.loaded) > len(set(fake.loaded))


def test_rows_longer_than_the_servers_take_are_refused(home, pair_dir, capsys):
    with serving(FakeVLLM(pair_dir / "student", longest=30)) as url:
        assert "--max-model-len" in refused(capsys, "rollout.engine=vllm", f"rollout.server={url}")


def test_of_several_servers_the_shortest_limit_counts(pair_dir):
    limits = [FakeVLLM(pair_dir / "teacher", longest=tokens) for tokens in (90, 60, 80)]
    with serving(limits[0]) as one, serving(limits[1]) as two, serving(limits[2]) as three:
        assert server.the_model(Servers("teacher.server", (one, two, three))).longest == 60


@pytest.mark.parametrize("scores", ["hidden", "top_k"])
def test_a_teacher_must_take_the_longest_prompt_with_a_response_before_the_first_step(home, pair_dir, capsys, scores):
    place = ["optim.steps=1", "teacher.placement=server", f"teacher.server_scores={scores}"]
    with serving(FakeVLLM(pair_dir / "teacher", longest=1)) as url:
        said = refused(capsys, *place, f"teacher.server={url}")
    room = int(said.rpartition("--max-model-len ")[2].rstrip("."))
    with serving(FakeVLLM(pair_dir / "teacher", longest=room - 1)) as url:
        assert f"--max-model-len {room}" in refused(capsys, *place, f"teacher.server={url}")
    with serving(FakeVLLM(pair_dir / "teacher", longest=room)) as url:
        assert esr(["train", "c.yaml", *place, f"teacher.server={url}"]) == 0


def test_esr_eval_of_a_plain_model_a_checkpoint_and_an_export_against_servers(home, student, pair_dir, capsys):
    _, options = student
    url = options[1].partition("=")[2]
    Path("q.jsonl").write_text('{"question": "what is 7 * 6?", "answer": "42"}\n')
    task = ["eval.source=q.jsonl", "eval.samples=2", "eval.max_new_tokens=9", "eval.temperature=0"]
    served_by = ["eval.engine=vllm", f"eval.server={url}"]
    assert esr(["train", "c.yaml"]) == 0
    texts = {}
    for how, extra in (("here", []), ("there", served_by)):
        for who in ("base", "last"):
            assert esr(["eval", "run", *task, *extra, "--who", who, "--json"]) == 0
        found = {(e.step, e.settings.get("writer")): e.name for e in RunDir("run").evaluations()}
        engine = "vllm" if extra else None
        texts[how] = [[s.text for s in RunDir("run").responses(found[step, engine])] for step in (0, 4)]
    assert texts["here"] == texts["there"] and texts["here"][0] != texts["here"][1]
    assert esr(["export", "run", "out"]) == 0
    with serving(FakeVLLM(home / "out")) as other:
        options = [*task, "eval.engine=vllm", f"eval.server={other}", "student.model=./out", "run.dir=exported"]
        assert esr(["eval", "c.yaml", *options, "--who", "base"]) == 0
    (name,) = [e.name for e in RunDir("exported").evaluations()]
    assert [s.text for s in RunDir("exported").responses(name)] == texts["here"][1]


def test_an_evaluation_of_a_teacher_whose_server_does_not_write_is_refused(home, teacher, capsys):
    _, options = teacher
    Path("q.jsonl").write_text('{"question": "what is 7 * 6?", "answer": "42"}\n')
    assert "set eval.teacher=false" in refused(capsys, *options, "eval.source=q.jsonl", "eval.max_new_tokens=4")


def test_questions_go_to_all_servers_and_one_that_is_gone_is_passed_over(pair_dir):
    fakes = [FakeVLLM(pair_dir / "student") for _ in range(2)]
    with serving(fakes[0]) as a, serving(fakes[1]) as b:
        both = Servers("k", (a, b))
        for turn in range(4):
            both.ask("/tokenize", {"prompt": "x"}, as_json, turn)
        assert [f.asked.count("/tokenize") for f in fakes] == [2, 2]
        gone = Servers("k", ("http://127.0.0.1:9", b))
        assert as_json_tokens(gone) and [m.name for one in both.each() for m in served(one)] == ["base", "base"]


def as_json_tokens(servers: Servers) -> list[int]:
    return servers.ask("/tokenize", {"prompt": "x"}, as_json)["tokens"]


def test_a_refusal_is_not_repeated_and_a_failure_is(pair_dir):
    fake = FakeVLLM(pair_dir / "student")
    with serving(fake) as url:
        fake.faults["/tokenize"] = ["400"]
        with pytest.raises(Refused, match="HTTP 400: 'broken'"):
            as_json_tokens(Servers("k", (url,)))
        assert len(fake.asked) == 1
        fake.faults["/tokenize"] = ["500"] * 9
        with pytest.raises(ServerLost, match="after 4 tries"):
            as_json_tokens(Servers("k", (url,)))
        assert len(fake.asked) == 5


def test_work_ahead_keeps_the_order_and_gives_errors_at_their_turn():
    def work(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        if i == 3:
            raise ValueError("three")
        return i * i

    found = ahead(work, range(6), 4)
    assert [next(found) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ValueError, match="three"):
        next(found)


def test_a_head_is_read_alone_from_tied_untied_and_sharded_files(tmp_path):
    from esr.config import ModelConfig
    from esr.models.head import head
    from esr.models.lm import LM
    from esr.models.remote import head_alone

    for name, options in (("untied", {}), ("tied", {"tie_word_embeddings": True})):
        model = make_model(3, **options)
        for size in ("5GB", "20KB"):
            folder = tmp_path / f"{name}{size}"
            model.save_pretrained(folder, max_shard_size=size)
            make_tokenizer().save_pretrained(folder)
            config = ModelConfig(model=str(folder))
            alone = head_alone(config, torch.device("cpu"), torch.float32)
            states = torch.randn(5, 32)
            lm = LM(alone, make_tokenizer(), config, (2,))
            assert torch.equal(head(lm, states), model.lm_head(states))
            assert sum(p.device.type == "cpu" for p in alone.parameters()) == 1
