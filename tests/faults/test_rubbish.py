"""Config files, study files, data files and run directories with one thing wrong: refused in a sentence, or harmless."""

import json
import random
import shutil
from pathlib import Path

import pytest
import yaml

from esr import tasks
from esr.config import TaskConfig, configfile
from esr.console import console
from esr.errors import UserError
from esr.study import plan
from forked import call, contents
from tally import LONG, Tally

WHOLE_NUMBERS = [
    "optim.steps",
    "rollout.max_new_tokens",
    "rollout.prompts_per_step",
    "eval.samples",
    "run.seed",
    "student.lora.r",
    "loss.selection.k",
    "eval.limit",
    "run.checkpoint_every",
]
NUMBERS = ["optim.lr", "rollout.temperature", "rollout.top_p", "student.lora.alpha", "optim.clip", "optim.weight_decay"]
TEXTS = ["student.model", "data.source", "eval.question", "student.system_prompt", "run.dir", "teacher.adapter"]
SECTIONS = ["student", "teacher", "data", "optim", "eval", "run", "student.lora", "loss.selection"]
NO_WHOLE_NUMBER = [
    "true",
    "yes",
    "010",
    "1:30",
    ".inf",
    ".nan",
    "1.5",
    "-1",
    "x",
    "1_000",
    "0x1f",
    "9" * 40,
    "[1]",
    "{a: 1}",
    "2024-07-26",
    "'3'",
]
NO_NUMBER = ["true", "no", ".inf", "-.inf", ".nan", "-1", "x", "1:30", "[1]", "{a: 1}", "'3'", "1e", "9" * 400]
NO_TEXT = ["3", "' '", "true", "[a]", "{a: b}", "1.5", '"a\\bb"', '"a\\0b"', '"\\e[31m"', '""']
NO_SECTION = ["lab:x", "3", "[a]", "true", "{nonsense: 1}"]


STUDY_MISTAKES = [
    ("seeds", "[1, 1]"), ("seeds", "[-1]"), ("seeds", "[true]"), ("seeds", "3"), ("budget", ".inf"), ("arms", "{}"), ("arms", "[a]"),
    ("arms", "{../x: {}}"), ("reference", "nobody"), ("question", "3"), ("rule", "lunar"), ("base", "nowhere.yaml"), ("runs", "3"),
    ("colour", "red"),
]  # fmt: skip
UNREAD = ("rollouts", "checkpoints/step-000002", "checkpoints/step-000004")
"""Files of a run that going on with it does not read."""
REMEDIES = ("put", "remove", "--fresh", "choose another", "use the version")


def wrong_value(chance: random.Random) -> tuple[str, str]:
    """A key, and a value that it cannot mean."""
    keys, values = chance.choice(
        [(WHOLE_NUMBERS, NO_WHOLE_NUMBER), (NUMBERS, NO_NUMBER), (TEXTS, NO_TEXT), (SECTIONS, NO_SECTION)]
    )
    key, value = chance.choice(keys), chance.choice(values)
    empty = key in ("student.system_prompt", "eval.question") and not value.strip("\"' ")
    return (key, "3") if empty else (key, value)


def with_value(tree: dict, key: str, value: str) -> str:
    """The YAML of `tree` with `value` written as it stands under `key`."""
    tree = json.loads(json.dumps(tree))
    node = tree
    *parents, leaf = key.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    node[leaf] = "@HERE@"
    return yaml.safe_dump(tree).replace("'@HERE@'", value)


def broken_text(text: str, chance: random.Random) -> str:
    """The file with something done to its lines that no reading survives."""
    lines = text.splitlines()
    place = chance.randrange(len(lines))
    top = [i for i, line in enumerate(lines) if line and not line.startswith((" ", "-"))]
    kind = chance.randrange(6)
    if kind == 0:
        return text + lines[chance.choice(top)].partition(":")[0] + ": {}\n"  # a section twice
    if kind == 1:
        return text + "unheard_of: 1\n"
    if kind == 2:
        return text + "x: " + "[" * 3000 + "]" * 3000
    if kind == 3:
        return text + "a: &a {b: *a}\n"
    if kind == 4:
        return "\n".join([*lines[:place], "\x07" + lines[place], *lines[place + 1 :]])
    return "\n".join([*lines[:place], "}" + lines[place], *lines[place + 1 :]])


def refused(read, *arguments) -> str:
    """The sentence with which something is refused; anything else fails the test."""
    with pytest.raises(UserError) as caught:
        read(*arguments)
    said = str(caught.value)
    assert "\n" not in said.strip()
    assert len(said) < 700, said
    return said


def test_configs_and_studies_that_cannot_be_meant_are_refused(tmp_path):
    base = {
        "student": {"model": "a/b"},
        "teacher": {"model": "c/d"},
        "data": {"source": "p.jsonl"},
        "eval": {"source": "p.jsonl"},
    }
    study = {"question": "?", "base": base, "reference": "a", "seeds": [1], "arms": {"a": {}, "b": {"optim.steps": 3}}}
    tally = Tally("fuzzed configs and studies", of="files", short=60, long=200)
    for number, chance in tally:
        file = tmp_path / f"{number}.yaml"
        if number % 4 == 0:
            key, value = wrong_value(chance)
            if chance.random() < 0.5:
                key, value = f"base.{key}", value
            else:
                key, value = chance.choice(STUDY_MISTAKES)
            file.write_text(with_value(study, key, value))
            refused(plan.read, file)
        elif number % 4 == 1:
            file.write_text(broken_text(yaml.safe_dump(base | {"optim": {"steps": 3}}), chance))
            refused(configfile.load, file)
        else:
            file.write_text(with_value(base, *wrong_value(chance)))
            refused(configfile.load, file)
        tally.add(files=1, refused=1)


ROWS = [{"question": f"what is {i}?", "answer": str(i)} for i in range(4)]
BAD_ROWS = [
    b"not json",
    b"[1, 2]",
    b"null",
    b'{"question": 3, "answer": "1"}',
    b'{"question": null, "answer": "1"}',
    b'{"question": "", "answer": "1"}',
    b'{"answer": "1"}',
    b'{"question": "a"}',
    b'{"question": "a", "answer": null}',
    b'{"question": "a", "answer": []}',
    b'{"question": "a", "answer": {"x": 1}}',
    b'{"question": "a", "answer": true}',
    b'{"question": "\\u0008oxed", "answer": "1"}',
    b'{"question": "\\ud83d", "answer": "1"}',
    b'{"question": "caf\xe9", "answer": "1"}',
    b"\xff\xfe{\x00",
    b'{"question": "a", "answer": "1"',
    b"\x1f\x8b\x08\x00",
    b'{"question": ["a"], "answer": "1"}',
    b"[" * 5000,
    b'{"question": "   ", "answer": "1"}',
    b'{"question": "a", "question": "b", "answer": "1"}',
]


def test_a_bad_row_of_a_data_file_is_left_out_and_said_or_the_file_is_refused(tmp_path):
    tally = Tally("data files", of="files", short=40, long=100)
    for number, chance in tally:
        rows = [json.dumps(row).encode() for row in ROWS]
        rows.insert(chance.randrange(5), bad := chance.choice(BAD_ROWS))
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(chance.choice([b"\n", b"\r\n"]).join(rows))
        with console.capture() as said:
            try:
                loaded = tasks.load(TaskConfig(source=str(file)), "eval", True)
            except UserError as error:
                loaded, refusal = None, str(error)
        if loaded is None:
            assert file.name in refusal, bad
            tally.add(files=1, refused=1)
            continue
        assert [p.question for p in loaded.problems] == [row["question"] for row in ROWS], bad
        assert loaded.left_out.total() == 1, bad
        assert file.name in " ".join(said.get().split()), bad
        tally.add(files=1, read_without_the_bad_row=1)


def damage(file: Path, chance: random.Random) -> str:
    """Do something to one file of a run; returns what."""
    content = file.read_bytes()
    kind = chance.choice(["cut", "empty", "gone", "garbled", "list", "object", "version", "middle", "twice"])
    middle = len(content) // 2
    if kind == "gone":
        file.unlink()
        return kind
    lines = content.splitlines(keepends=True)
    changed = {
        "cut": content[:middle],
        "empty": b"",
        "garbled": content[:middle] + b"\xff\x00{" + content[middle + 3 :],
        "list": b"[]\n",
        "object": b"{}\n",
        "version": content.replace(b'"format_version": 1', b'"format_version": 9'),
        "middle": b"".join(lines[:1] + lines[2:]),
        "twice": b"".join(lines[:1] + lines),
    }
    file.write_bytes(changed[kind])
    return kind


def test_a_damaged_run_is_refused_or_ends_as_if_it_had_not_been(whole, tmp_path):
    """Half of the runs are finished; of the others the last checkpoint and what came after are missing."""
    expected = contents(whole[0] / "run")
    tally = Tally("damaged runs", of="runs", short=12, long=100)
    for number, chance in tally:
        home = tmp_path / f"damaged-{number}"
        shutil.copytree(whole[0], home)
        run = home / "run"
        if number % 2:
            shutil.rmtree(run / "checkpoints" / "step-000006")
            for suffix in ("json", "jsonl"):
                (run / "evals" / f"step-000006.{suffix}").unlink()
        files = sorted(f for f in run.rglob("*") if f.is_file() and f.name != ".lock")
        file = chance.choice(files)
        what = f"seed {tally.seed}, {number}: {file.relative_to(run)} {damage(file, chance)}"
        code, text = call(["train", "c.yaml"], home)
        if code == 0:
            got = contents(run)
            lost = {name for name in expected if got.get(name) != expected[name] and not name.startswith(UNREAD)}
            told = ("checkpoints" in str(file) and not number % 2) or "has no evaluation after step" in text
            assert not lost or (told and lost <= {str(file.relative_to(run))}), (
                f"{what}: accepted with other {lost}\n{text}"
            )
        else:
            assert code == 2, f"{what}\n{text}"
            assert any(remedy in text.lower() for remedy in REMEDIES), f"{what}\n{text}"
        for command in (["report", "run"], ["analyze", "lengths", "run"], ["export", "run", "out"])[: 3 if LONG else 1]:
            call(command, home)
        tally.add(runs=1, **{"refused" if code else "repaired_or_harmless": 1})
        shutil.rmtree(home)
