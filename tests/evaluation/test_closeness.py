"""Tasks without references: divergence and agreement against a naive reference, and the whole way through a run."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from esr import prompts
from esr.cli.main import run as esr
from esr.config import EvalConfig
from esr.evaluation.closeness import Reference
from esr.evaluation.graded import samples_of
from esr.evaluation.summarise import difference
from esr.method.events import one_vocabulary
from esr.method.tensors import Rollout
from esr.records.problem import Message, Problem
from esr.runs.comparing import measured as of_samples
from esr.runs.rundir import RunDir
from tiny import make_lm

PROBLEMS = [
    Problem(id="a", question="why?", grader="none"),
    Problem(id="b", question="what?", context=(Message(role="user", content="hi"), Message(role="assistant", content="yes"))),
]  # fmt: skip
WRITTEN = [[20, 21, 22, 2], [30, 31]]
EVENTS = one_vocabulary(64, ())


def naive(student, teacher, problem: Problem, response: list[int]) -> dict[str, float]:
    """By one plain forward pass of each model."""
    sides = []
    for lm in (student, teacher):
        ids = [*prompts.ask(lm.tokenizer, lm.config, problem), *response]
        with torch.no_grad():
            sides.append(lm.module(torch.tensor([ids])).logits[0].log_softmax(-1)[-len(response) - 1 : -1])
    s, t = sides
    kl = (s.exp() * (s - t)).sum(-1).mean()
    return {"kl": float(kl), "agreement": float((s.argmax(-1) == t.argmax(-1)).float().mean())}


def test_divergence_and_agreement_equal_a_naive_reference():
    student, teacher = make_lm(1), make_lm(2)
    other = [[40, 41, 42], [43]]
    keys = [("a", 0), ("b", 0)]
    common = dict(zip(keys, other, strict=True))
    found = Reference(teacher, EVENTS, common).measure(
        student, PROBLEMS, keys, Rollout.of(WRITTEN, [False] * len(WRITTEN))
    )
    for row, problem, own, shared in zip(found, PROBLEMS, WRITTEN, other, strict=True):
        for which, response in (("own", own), ("common", shared)):
            expected = naive(student, teacher, problem, response)
            assert row[f"kl_{which}"] == pytest.approx(expected["kl"], rel=1e-4)
            assert row[f"agreement_{which}"] == pytest.approx(expected["agreement"])


def test_a_student_that_is_its_teacher_is_at_no_distance_and_the_untrained_ones_responses_are_the_common_ones():
    lm = make_lm(1)
    (row,) = Reference(lm, EVENTS).measure(lm, PROBLEMS[:1], [("a", 0)], Rollout.of(WRITTEN[:1], [False]))
    assert row["kl_own"] == row["kl_common"] == pytest.approx(0, abs=1e-6)
    assert row["agreement_own"] == row["agreement_common"] == 1
    (lacks,) = Reference(lm, EVENTS, {}).measure(lm, PROBLEMS[:1], [("a", 0)], Rollout.of(WRITTEN[:1], [False]))
    assert set(lacks) == {"kl_own", "agreement_own"}


def test_nobody_grades_and_no_grader_failed():
    lm = make_lm(1)
    rollout = Rollout.of(WRITTEN[:1], [False])
    (sample,) = samples_of(lm, PROBLEMS[:1], rollout, EvalConfig(source="q", samples=1), Reference(make_lm(2), EVENTS))
    assert (sample.grade.last, sample.token_ids) == (None, WRITTEN[0])
    never = [sample.model_copy(update={"problem": str(i), "finished": False}) for i in range(5)]
    share = of_samples(never)["finished"]
    assert (share.value, share.low) == (0, 0) and 0 < share.high < 1  # not certain, and nothing below nothing
    change = difference([sample], [sample.model_copy(update={"closeness": {"kl_own": 9.0}})], "x", "y")
    assert change.avg is None
    assert change.closeness["kl_own"].value == pytest.approx(sample.closeness["kl_own"] - 9)
    assert change.closeness["tokens"].value == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory, pair_dir) -> Path:
    """A run of four steps on prompts alone, and a second one with another N."""
    home = tmp_path_factory.mktemp("ungraded")
    rows = [{"messages": [{"role": "user", "content": f"what is {i}?"}]} for i in range(6)]
    (home / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "student": {"model": str(pair_dir / "student")}, "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")}, "rollout": {"prompts_per_step": 4, "max_new_tokens": 8},
        "optim": {"steps": 4, "lr": 0.01}, "eval": {"source": str(home / "held.jsonl"), "samples": 2, "max_new_tokens": 8},
        "run": {"device": "cpu", "threads": 1},
    }  # fmt: skip
    (home / "c.yaml").write_text(yaml.safe_dump(tree))
    for name, n in (("a", 8), ("b", 2)):
        assert esr(["train", str(home / "c.yaml"), f"run.dir={home / name}", f"rollout.max_new_tokens={n}"]) == 0
    return home


def test_a_run_without_references_tells_whether_training_helped(home, capsys):
    before, after, teacher = (RunDir(home / "a").evaluation(n) for n in ("step-000000", "step-000004", "teacher"))
    assert before and after and teacher
    assert before.closeness["kl_common"] == before.closeness["kl_own"]
    assert after.closeness["kl_common"].value < before.closeness["kl_common"].value
    assert (before.avg, before.grader_failures, before.closeness["kl_own"].n) == (None, 0, 6)
    assert set(teacher.closeness) == {"tokens", "finished", "repetitive"}
    assert RunDir(home / "a").responses("step-000004")[0].token_ids is None
    capsys.readouterr()
    assert esr(["train", str(home / "a")]) == 0
    shown = capsys.readouterr().out
    assert "divergence from the teacher, common responses" in shown
    assert "change, paired" in shown


def measured(file: Path) -> dict[str, float]:
    """The mean divergence on common responses by problem, from the responses of an evaluation."""
    found: dict[str, list[float]] = {}
    for row in map(json.loads, file.read_text().splitlines()):
        found.setdefault(row["problem"], []).append(row["closeness"]["kl_common"])
    return {problem: sum(values) / len(values) for problem, values in found.items()}


def test_records_page_card_and_comparison_show_it(home, tmp_path, capsys):
    assert esr(["compare", str(home / "a"), str(home / "b"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert (first["avg"], first["closer"], second["difference"]) == (None, {}, None)
    gap = second["closeness"]["kl_common"]["value"] - first["closeness"]["kl_common"]["value"]
    assert second["closer"]["kl_common"]["value"] == pytest.approx(gap)
    assert esr(["compare", str(home / "a"), str(home / "b")]) == 0
    assert "same first choice, common" in " ".join(capsys.readouterr().out.split())
    assert esr(["compare", str(home / "a"), str(home / "b"), "-o", str(tmp_path / "c.html")]) == 0
    side_by_side = (tmp_path / "c.html").read_text()
    verdict = re.search(r'<p class="verdict">(.*?)</p>', side_by_side, re.DOTALL)
    assert verdict and "the teacher than <b>a</b>, on the same held-out responses" in verdict[1]
    assert f'<data value="{second["closer"]["kl_common"]["value"]!r}"' in verdict[1]
    assert "Without reference answers: how near to the teacher each student is" in side_by_side
    assert esr(["report", str(home / "a"), "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "changed the divergence from the teacher, on the same held-out responses" in page
    assert "prompts without a reference answer" in page
    shown = re.search(
        r'<data value="([^"]+)" data-derived="paired_change kl_common \| ([^|]+) \| ([^|]+) \| value">', page
    )
    assert shown
    after, before = (measured(home / file) for file in shown.groups()[1:])
    assert float(shown[1]) == pytest.approx(sum(after[p] - before[p] for p in before) / len(before))
    assert esr(["export", str(home / "a"), str(tmp_path / "model")]) == 0
    assert "| divergence from the teacher, own responses |" in (tmp_path / "model" / "README.md").read_text()


def test_an_evaluation_later_needs_the_teacher_and_says_what_it_lacks(home, capsys):
    """Another task, of which the untrained student has no responses: its own only, until it has them."""
    other = home / "other.jsonl"
    other.write_text('{"question": "who?"}\n{"question": "where?"}\n')
    arguments = ["eval", str(home / "a"), f"eval.source={other}", "--json"]
    assert esr(arguments) == 0
    out, said = capsys.readouterr()
    assert "kl_common" not in json.loads(out)["evaluation"]["closeness"]
    assert "`--who base` does it" in " ".join(said.split())
    assert esr([*arguments, "--who", "base"]) == 0
    assert "kl_common" in json.loads(capsys.readouterr().out)["evaluation"]["closeness"]


def test_analyses_that_grade_are_refused(home, capsys):
    assert esr(["analyze", "decay", str(home / "a")]) == 2
    assert "has no references" in " ".join(capsys.readouterr().err.split())
