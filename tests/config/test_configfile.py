"""Config files as people write them: nothing lost, nothing retyped, nothing taken that cannot be meant."""

from pathlib import Path

import pytest
import yaml

from esr.cli.main import run as esr
from esr.config.configfile import load, portable
from esr.config.keys import flatten
from esr.errors import UserError
from esr.study import plan

BOMB = "a: &a [1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BASE = "student: {model: a/b}\nteacher: {model: c/d}\ndata: {source: x.jsonl}\n"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config file from `BASE` and more lines."""
    monkeypatch.chdir(tmp_path)

    def write(more: str = "") -> Path:
        file = tmp_path / "c.yaml"
        file.write_text(BASE + more)
        return file

    return write


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("student.system_prompt", "Use # for numbers"), ("student.system_prompt", "a: b"), ("student.system_prompt", "{x}"),
        ("student.system_prompt", "'quoted'"), ("run.dir", "no"), ("run.dir", "2024"), ("run.dir", "12:30"),
        ("data.question", "1e5"), ("data.answer", "true"), ("student.revision", "007"), ("student.lora.target_modules", "q_proj"),
    ],
)  # fmt: skip
def test_text_on_the_command_line_is_taken_as_it_stands(config, key, value):
    assert flatten(load(config(), [f"{key}={value}"]).model_dump())[key] == value


def test_null_empties_a_key_and_a_list_is_a_list(config):
    settings = load(config(), ["student.system_prompt=null", "student.lora.target_modules=[q, v]"])
    assert (settings.student.system_prompt, settings.student.lora.target_modules) == (None, ["q", "v"])


def test_yaml_1_1_does_not_retype_what_a_file_says(config):
    settings = load(
        config("run: {dir: no}\noptim: {lr: 1e-4}\n"), ["student.chat_template_kwargs={d: 2024-07-26, on: yes}"]
    )
    assert settings.run.dir == "no"
    assert settings.optim.lr == 1e-4
    assert settings.student.chat_template_kwargs == {"d": "2024-07-26", "on": "yes"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("optim: {steps: 30}\noptim: {lr: 1}\n", "'optim' stands there twice (first in line 4)"),
        ("optim: {lr: 1, lr: 2}\n", "'lr' stands there twice"),
        ("optim: {steps: yes}\n", "optim.steps is 'yes', but it should be a whole number"),
        ("optim: {steps: true}\n", "optim.steps is True, but it should be a whole number"),
        ("optim: {steps: 010}\n", "optim.steps is '010'"), ("optim: {steps: 1:30}\n", "optim.steps is '1:30'"),
        ("optim: {steps: 1_000}\n", "optim.steps is '1_000'"), ("optim: {steps: 0x10}\n", "optim.steps is '0x10'"),
        ("optim: {lr: true}\n", "optim.lr is True, but it should be a number"),
        ("optim: {lr: .inf}\n", "optim.lr is inf, but it should be a finite number"),
        ("optim: {lr: .nan}\n", "optim.lr is nan, but it should be a finite number"),
        ("rollout: {temperature: .inf}\n", "rollout.temperature is inf"), ("optim: {weight_decay: .inf}\n", "weight_decay is inf"),
        ("run: {seed: -1}\n", "run.seed is -1"), ("run: {seed: 9223372036854775808}\n", "too large"),
        ("run: {seed: 4294967296}\n", "run.seed is 4294967296"), (f"loss: {{selection: {{k: {10**30}}}}}\n", "too large"),
        (f"run: {{seed: {'9' * 5000}}}\n", "too large"), ("x: " + "[" * 2000 + "]" * 2000, "nested deeper"),
        ("student: lab:x\n", "stands there twice"), ("a: &a [*a]\n", "an alias stands inside what it names"),
        (BOMB, "more than 200,000 values"),
        ("? [1]\n: 2\n", "a list or mapping cannot be a key"), ("run: {dir: 2024}\n", "it should be text; put it in quotes"),
        ("run: {trackers: wandb}\n", "write `[wandb]`"),
        ('run: {dir: "a\\0b"}\n', "U+0000"), ("run: {dir: ~nobody-here/x}\n", "no such home"),
        (f"run: {{dir: {'x' * 300}}}\n", "255 bytes"), (f"optim: {{steps: {'x' * 5000}}}\n", "..."),
        ("optim: {merge: !!python/object/apply:os.system [ls]}\n", "could not determine a constructor"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_a_short_sentence(config, more, words):
    with pytest.raises(UserError) as caught:
        load(config(more))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_model_written_as_text_is_answered_with_the_right_form(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("student: lab:x\nteacher: {model: a/b}\ndata: {source: x.jsonl}\n")
    with pytest.raises(
        UserError, match=r"student is 'lab:x', but it should be a section; write `student: {model: lab:x}`"
    ):
        load(file)


def test_a_control_character_in_a_prompt_is_refused_with_the_remedy(config):
    with pytest.raises(
        UserError, match=r"student.system_prompt holds the control character U\+0008.*double the backslash"
    ):
        load(config(), ["student.system_prompt=in \boxed{}"])
    file = config()
    file.write_text('student: {model: a/b, system_prompt: "in \\boxed{}"}\n' + BASE.partition("\n")[2])
    with pytest.raises(UserError, match=r"U\+0008"):
        load(file)


def test_a_mapping_on_the_command_line_is_merged_into_its_section(config):
    settings = load(
        config("optim: {steps: 30, lr: 2e-3}\n"), ["optim={steps: 3}", "student.lora={r: 8}", "eval={source: q}"]
    )
    assert (settings.optim.steps, settings.optim.lr) == (3, 2e-3)
    assert (settings.student.lora.r, settings.student.lora.alpha) == (8, 64)
    assert settings.eval.source == "q"


def test_free_mappings_are_values(config):
    file = config("eval: {source: q, params: {a: 1, b: 2}}\n")
    assert load(file, ["eval.params={a: 3}"]).eval.params == {"a": 3}
    assert load(file, ["eval.params.a=3"]).eval.params == {"a": 3, "b": 2}


def study(folder: Path, **changes) -> Path:
    base = {"student": {"model": "a/b"}, "teacher": {"model": "c/d"}, "data": {"source": "p.jsonl"}, "eval": {"source": "p.jsonl"},
            "optim": {"lr": 2e-3}}  # fmt: skip
    tree = {"question": "?", "base": base, "reference": "a", "arms": {"a": {}, "b": {}}, **changes}
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_an_arm_may_be_written_as_sections_and_loses_nothing(tmp_path):
    read = plan.read(study(tmp_path, arms={"a": {}, "b": {"optim": {"steps": 3}, "student": {"lora": {"r": 8}}}}))
    arm = read.of("b")[0].config
    assert (arm.optim.steps, arm.optim.lr, arm.student.lora.r, arm.student.lora.alpha) == (3, 2e-3, 8, 64)


@pytest.mark.parametrize("name", ["../../esc", "b/c", "", ".", "x" * 300, "a[/z]", "a\0b"])
def test_an_arm_that_cannot_name_a_directory_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="arm|control character"):
        plan.read(study(tmp_path, arms={"a": {}, name: {}}))


def test_an_arm_cannot_take_what_the_study_sets_in_either_spelling(tmp_path):
    with pytest.raises(UserError, match="run.seed is set by the study"):
        plan.read(study(tmp_path, arms={"a": {}, "b": {"run": {"seed": 3}}}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"budget": float("inf"), "rule": "tokens"}, "budget is inf"), ({"runs": "s.yaml"}, "name a directory"),
     ({"seeds": [-1]}, "seeds.0 is -1"), ({"question": None}, "question"), ({"arms": {}}, "arms"), ({"seeds": [True]}, "seeds.0 is True")],
)  # fmt: skip
def test_a_study_says_what_it_cannot_mean(tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        plan.read(study(tmp_path, **changes))


def test_all_missing_keys_of_a_study_are_named_at_once(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("seeds: [1]\n")
    with pytest.raises(UserError, match="question is missing; base is missing; reference is missing; arms is missing"):
        plan.read(file)


def test_paths_are_looked_for_beside_the_file_and_then_from_here(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / "p.jsonl").touch()
    for name in ("p.jsonl", "q.jsonl"):
        (tmp_path / "here" / name).touch()
    file = study(tmp_path / "there", arms={"a": {}, "b": {"data.source": "q.jsonl"}})
    sources = [plan.read(file).of(arm)[0].config.data.source for arm in "ab"]
    assert sources == [str((tmp_path / "there" / "p.jsonl").resolve()), "q.jsonl"]
    assert (
        load(
            file.with_name("c.yaml") if file.with_name("c.yaml").write_text(BASE) else file, ["data.source=p.jsonl"]
        ).data.source
        == "p.jsonl"
    )


def test_home_is_home_in_every_path(config, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    settings = load(
        config("run: {dir: ~/runs/x}\n"), ["student.model=~/m", "data.source=~/p.jsonl", "teacher.adapter=~/a"]
    )
    found = settings.run.dir, settings.student.model, settings.data.source, settings.teacher.adapter
    assert found == ("/home/me/runs/x", "/home/me/m", "/home/me/p.jsonl", "/home/me/a")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfes\x00t\x00", b"\x1f\x8b\x08\x00", b"a: \xe9\n", b"\xef\xbb\xbf- 1\n", b"", b"a: b: c", b"\x00"],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path, content, capsys):
    (tmp_path / "c.yaml").write_bytes(content)
    assert esr(["config", str(tmp_path / "c.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_keys_of_a_study_are_explained(capsys):
    assert esr(["config", "--study"]) == 0
    assert "named from the study file's directory" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_code_without_a_sandbox_is_for_one_command_line(tmp_path):
    """A file may not ask for it, and a run's record does not hold it."""
    tree = {
        "student": {"model": "a/b"},
        "teacher": {"model": "a/c"},
        "data": {"source": "x.jsonl"},
        "eval": {"source": "humaneval"},
    }
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(tree))
    config = load(file, ["eval.unsafe_code=true"])
    assert config.eval is not None
    assert config.eval.unsafe_code
    assert "unsafe_code" not in config.model_dump()["eval"]
    file.write_text(yaml.safe_dump(tree | {"eval": {"source": "humaneval", "unsafe_code": True}}))
    with pytest.raises(UserError, match="for one command line"):
        load(file)


def test_a_graders_file_is_looked_for_beside_the_config_and_kept_absolutely(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "g.py").touch()
    (tmp_path / "there" / "c.yaml").write_text(BASE)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "there" / "c.yaml"
    file.write_text(BASE + "\neval: {source: q.jsonl, grader: 'python:g.py:judge'}\n")
    found = load(file)
    assert found.eval.grader == f"python:{tmp_path / 'there' / 'g.py'}:judge"
    monkeypatch.chdir(tmp_path / "there")
    kept = portable(load(file, ["eval.grader=python:g.py:judge"]), tmp_path / "run")
    assert kept["eval"]["grader"] == f"python:{tmp_path / 'there' / 'g.py'}:judge"
