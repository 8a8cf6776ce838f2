"""What happens to a run between two commands: it is stopped, moved, taken up by another name; what it rests on is replaced."""

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from esr.evaluation import graded
from forked import call, contents, write_config
from tiny import save_model


def test_a_signal_in_an_evaluation_is_obeyed_at_once_and_graded_problems_are_kept(whole, half):
    samples_of = graded.samples_of

    def interrupted(*arguments):
        """Ctrl-C comes with the third problem, the last of the student; without it they are counted."""
        done = Path("problems")
        done.write_text(done.read_text() + "." if done.exists() else ".")
        if len(done.read_text()) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return samples_of(*arguments)

    def patch():
        graded.samples_of = interrupted

    code, text = call(["train", "c.yaml"], half, patch)
    assert code == 1 and "Stopped while evaluating step 6" in text and "Run the same command again" in text
    assert not (half / "run" / "evals" / "step-000006.json").exists()
    assert call(["train", "c.yaml"], half, patch)[0] == 0
    assert len((half / "problems").read_text()) == 4, "two problems were kept, so the third alone is made again"
    assert contents(half / "run") == contents(whole[0] / "run")


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(half):
    shutil.rmtree(half / "run" / "checkpoints")
    before = contents(half / "run")
    code, text = call(["train", "c.yaml"], half)
    assert code == 2 and "its checkpoints are gone" in text and "--fresh" in text
    assert contents(half / "run") == before


def test_a_configuration_that_lost_its_sections_is_said_with_a_remedy(home):
    (home / "run" / "config.json").write_text("{}\n")
    code, text = call(["train", "c.yaml"], home)
    assert code == 2 and "student is missing" in text and "put a copy in its place" in " ".join(text.split())


def test_an_evaluation_that_was_lost_is_said_and_can_be_made_up(whole, half):
    for step in (0, 2):
        (half / "run" / "evals" / f"step-{step:06d}.json").unlink()
    code, text = call(["train", "c.yaml"], half)
    assert code == 0 and "run has no evaluation after step 0, 2; `esr eval run --who base` makes it." in " ".join(
        text.split()
    )
    for who in ("base", "2"):
        assert call(["eval", "run", "--who", who], half)[0] == 0
    code, text = call(["train", "c.yaml"], half)
    assert code == 0 and "no evaluation" not in text
    assert contents(half / "run") == contents(whole[0] / "run")


@pytest.mark.parametrize("name", [".", "model", "run/checkpoints"])
@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_directory_of_something_else_stays_as_it_is(home, name, fresh):
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (home / "model" / "model.safetensors").write_bytes(b"weights")
    before = {str(p): p.stat().st_mtime_ns for p in home.rglob("*")}
    code, text = call(["train", "c.yaml", f"run.dir={name}", *fresh], home)
    assert code == 2 and f"{name} exists and is not a run directory" in " ".join(text.split())
    assert {str(p): p.stat().st_mtime_ns for p in home.rglob("*")} == before, "a file was made, moved or changed"


@pytest.mark.parametrize("command", [["train"], ["eval"], ["export"], ["report"], ["watch"], ["analyze", "lengths"]])
def test_a_models_directory_is_no_run(home, command):
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text('{"model_type": "llama", "hidden_size": 32}')
    code, text = call([*command, "model", *(["out"] if command == ["export"] else [])], home)
    assert code == 2 and "model is the directory of a model, not of a run" in " ".join(text.split())


def test_a_page_is_written_over_a_page_only(home):
    shutil.copytree(home / "run", home / "other")
    before = contents(home / "run"), (home / "c.yaml").read_bytes()
    for command in (["report", "run"], ["compare", "run", "other"]):
        for name in ("c.yaml", "run/config.json", "run"):
            code, text = call([*command, "-o", name], home)
            assert code == 2 and f"{name} exists and is no page; name another file" in " ".join(text.split())
        assert call([*command, "-o", "page.html"], home)[0] == 0
    assert (contents(home / "run"), (home / "c.yaml").read_bytes()) == before


def test_the_record_of_a_study_is_written_over_a_record_only(home):
    (home / "s.yaml").write_text(
        "question: '?'\nbase: c.yaml\nreference: a\nseeds: [1]\narms: {a: {optim.steps: 1, eval.samples: 1}}\n"
    )
    code, text = call(["study", "s.yaml", "--record", "run/env.json"], home)
    assert code == 2 and "run/env.json exists and is no study's record" in " ".join(text.split())
    assert not (home / "runs").exists(), "it is said before any work"


def test_a_path_of_hundreds_of_levels_is_said(home):
    deep = "/".join("x" * 1900)
    for command in (
        ["train", "c.yaml", f"run.dir={deep}"],
        ["export", "run", deep],
        ["report", "run", "-o", f"{deep}/r.html"],
    ):
        code, text = call(command, home)
        assert code == 2 and "nested too deeply" in " ".join(text.split())


@pytest.mark.parametrize("row", [{"step": 3}, {"step": 3, "time/step": None}, {"step": 3, "time/step": "long"}])
def test_a_row_of_metrics_that_lacks_a_number_is_named(half, row):
    file = half / "run" / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]) + "\n")
    code, text = call(["train", "run"], half)
    assert code == 2 and "row 3 has no number for time/step" in " ".join(text.split()) and "--fresh" in text
    assert call(["report", "run"], half)[0] == 0


@pytest.fixture
def project(pair_dir, tmp_path) -> Path:
    """A directory with everything in it, named by relative paths."""
    home = Path(shutil.copytree(pair_dir, tmp_path / "project"))
    write_config(home, Path())
    assert call(["train", "c.yaml", "optim.steps=2", "eval.every=0", "run.checkpoint_every=1"], home)[0] == 0
    shutil.rmtree(home / "run" / "checkpoints" / "step-000002")
    for suffix in ("json", "jsonl"):
        (home / "run" / "evals" / f"step-000002.{suffix}").unlink()
    return home


def test_data_and_models_that_were_replaced_are_noticed(project):
    def refused(key: str) -> None:
        code, text = call(["train", "run"], project)
        assert code == 2 and f"what {key} names was replaced" in text, text

    for name, key, other in (
        ("prompts.jsonl", "data.source", b'{"question": "another?", "answer": "1"}\n'),
        ("q.jsonl", "eval.source", b'{"question": "what is 0 * 3?", "answer": "5"}\n'),
        (
            "student/chat_template.jinja",
            "student.model",
            b"{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}",
        ),
    ):
        before = (project / name).read_bytes()
        (project / name).write_bytes(other)
        refused(key)
        (project / name).write_bytes(before)
    save_model(project / "other", seed=5)
    weights = project / "teacher" / "model.safetensors"
    weights.replace(project / "kept")
    shutil.copy(project / "other" / "model.safetensors", weights)
    refused("teacher.model")
    (project / "kept").replace(weights)
    (project / "student" / "README.md").write_text("A note changes nothing.")
    assert call(["train", "run"], project)[0] == 0


def test_a_project_that_was_moved_is_used_from_anywhere(project, tmp_path):
    moved = project.rename(tmp_path / "moved")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    run = str(moved / "run")
    for command in (
        ["train", run],
        ["eval", run, "eval.samples=3"],
        ["eval", run, "--who", "teacher"],
        ["analyze", "profile", run, "--problems", "2"],
        ["export", run, "out"],
        ["report", run],
    ):
        code, text = call(command, elsewhere)
        assert code == 0, f"{command}: {text}"
    assert sorted(p.name for p in elsewhere.iterdir()) == ["out", "report.html"]
    code, text = call(["eval", run, "--json"], elsewhere)
    assert json.loads(text[text.index("{") :])["difference"] is not None, "before and after the move are not paired"
    assert json.loads((moved / "run" / "config.json").read_text())["student"]["model"] == str(moved / "student")


def test_files_of_others_in_a_run_directory_are_left_alone(whole, half):
    ours = {
        "evals/notes.json": "{}", "evals/step-best.jsonl": "x", "analysis/mine.txt": "x", "checkpoints/step-best/state.json": "{}",
        "checkpoints/notes.md": "x", "notes.json": "[", "evals/.hidden": "x",
    }  # fmt: skip
    for name, text in ours.items():
        (half / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (half / "run" / name).write_text(text)
    for command in (
        ["train", "c.yaml"],
        ["eval", "run", "--who", "teacher"],
        ["report", "run"],
        ["export", "run", "out"],
    ):
        code, text = call(command, half)
        assert code == 0, text
    assert {name: (half / "run" / name).read_text() for name in ours} == ours
    found = contents(half / "run")
    assert {name: found[name] for name in contents(whole[0] / "run")} == contents(whole[0] / "run")


def test_files_get_the_permissions_that_the_user_asks_for(home):
    for command in (["train", "c.yaml", "run.dir=new", "optim.steps=1"], ["export", "run", "out"]):
        assert call(command, home, lambda: os.umask(0o027))[0] == 0
    made = [p for top in (home / "new", home / "out") for p in (top, *top.rglob("*"))]
    found = {str(p): oct(stat.S_IMODE(p.stat().st_mode)) for p in made}
    assert len(made) > 20
    assert found == {str(p): "0o750" if p.is_dir() else "0o640" for p in made}


def test_watch_ends_when_nothing_works_on_the_run(half):
    code, text = call(["watch", "run", "--every", "1"], half)
    assert code == 0 and "No process works on run any more; `esr train run` goes on with it." in " ".join(text.split())
    assert 'http-equiv="refresh"' not in (half / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["run", "run/config.json"])
def test_a_run_goes_on_by_its_own_name(whole, half, name):
    assert call(["train", name], half)[0] == 0
    found, expected = contents(half / "run"), contents(whole[0] / "run")
    assert {name: found[name] for name in expected} == expected
    assert not (half / "runs").exists()


def test_a_copied_run_goes_on_by_itself_and_leaves_the_original_alone(half):
    shutil.copytree(half / "run", half / "copy")
    before = contents(half / "run")
    assert call(["train", "copy/config.json"], half)[0] == 0
    assert (half / "copy" / "evals" / "step-000006.json").exists()
    assert contents(half / "run") == before


def test_a_new_run_begins_with_the_student_that_another_one_trained(home):
    assert call(["train", "c.yaml", "--from", "run", "run.dir=further", "optim.steps=1"], home)[0] == 0
    responses = [
        [json.loads(line) for line in (home / name).read_text().splitlines()]
        for name in ("run/evals/step-000006.jsonl", "further/evals/step-000000.jsonl")
    ]
    assert responses[0] == responses[1]
    code, text = call(["train", "c.yaml", "--from", "run", "run.dir=full", "student.train=full"], home)
    assert code == 2 and "set student.model=" in text
