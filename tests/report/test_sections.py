"""The sections how, sub-mode and rollouts without a browser: their derived numbers, their data, and records with little in them."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from esr.records.rollouts import Rollouts, RolloutView
from esr.report.page import render
from esr.report.sections import how, rollouts, submode, training
from esr.report.sources import Data, load
from esr.runs import findings
from esr.runs.rundir import RunDir
from make_fixtures import make_run
from make_fixtures import submode as make_submode


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return load([make_run(tmp_path_factory.mktemp("sections") / "lab")])


def change(path: Path, name: str, **update) -> Data:
    """A run whose analysis `name` has other fields."""
    run = RunDir(make_run(path))
    record = load([run.path]).runs[0].analyses[name].record
    findings.keep(run, name, record.model_copy(update=update))
    return load([run.path])


def test_derived_numbers_follow_from_their_files(data):
    """The share of KL in the window, means inside it and beyond, and the sequences in a step."""
    run, html = data.runs[0], render(data)
    tree = json.loads(run.directory.analysis_file("rollouts").read_text())
    shares = re.findall(
        r'<data value="([^"]+)" data-share="[^"]+#/rollouts/(\d+)/tokens/\*/reverse_kl first (\d+)">([\d.]+)%<', html
    )
    assert len(shares) == 2
    for value, i, n, text in shares:
        kl = [t["reverse_kl"] for t in tree["rollouts"][int(i)]["tokens"]]
        assert float(value) == pytest.approx(sum(kl[: int(n)]) / sum(kl)) and float(text) == pytest.approx(
            100 * float(value), abs=0.051
        )
    means = re.findall(
        r'<data value="([^"]+)" data-part-mean="[^"]+#/rollouts/(\d+)/tokens/\*/(\w+) (first|after) (\d+)">([\d.]+)<',
        html,
    )
    assert {m[2] for m in means} == {key for key, _ in how.MEASURES}
    for value, i, key, rule, n, text in means:
        values = [t[key] for t in tree["rollouts"][int(i)]["tokens"]]
        mean = np.mean(values[: int(n)] if rule == "first" else values[int(n) :])
        assert float(value) == pytest.approx(mean) and float(text) == pytest.approx(mean, abs=0.00051)
    ((value, text),) = re.findall(
        r'<data value="(\d+)" data-product="[^"]+#/rollout/prompts_per_step /rollout/samples_per_prompt">(\d+)<', html
    )
    settings = json.loads(run.directory.config_file.read_text())["rollout"]
    assert int(value) == int(text) == settings["prompts_per_step"] * settings["samples_per_prompt"]


def view_of(length: int, model: str = "before", kl: float = 0.5) -> RolloutView:
    token = {
        "token": "a", "reverse_kl": kl, "student_entropy": 0.1, "teacher_entropy": 0.2, "student_rank": 1, "teacher_rank": 2,
        "student_top": [("a", 0.9)], "teacher_top": [("b", 0.8)],
    }  # fmt: skip
    return RolloutView.model_validate({
        "problem": "p", "question": "q", "model": model, "right": None, "finished": True, "tokens": [token] * length,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [([("before", 3), ("after", 90), ("before", 60), ("before", 99)], 2), ([("before", 3), ("before", 9)], 1), ([("after", 9)], 0),
     ([("before", 0)], None), ([], None)],
)  # fmt: skip
def test_which_response_shows_the_window(lengths, chosen):
    assert how.choose([view_of(n, model) for model, n in lengths], 50) == chosen


def test_share_of_kl():
    assert how.share(view_of(4).tokens, 1) == 0.25 and how.share(view_of(4).tokens, 9) == 1
    assert how.share(view_of(4, kl=0).tokens, 1) is None and how.share(view_of(2, kl=float("inf")).tokens, 1) is None


def test_colours_grow_with_the_divergence_and_end():
    assert [rollouts.heat(v) for v in (-0.1, 0, 0.02, 0.5, 2, 99, float("inf"))] == [
        "0.00",
        "0.00",
        "0.10",
        "0.50",
        "1.00",
        "1.00",
        "1.00",
    ]
    assert rollouts.shown("a\r\nb\n") == "a↵\nb↵\n" and submode.visible(" a\n") == "␣a↵"


@pytest.mark.parametrize(("place", "width"), [(2.0, 2.0), (13.0, 2.5), (20.3, 3.0), (37.9, 8.0)])
def test_the_toy_is_exact(place, width):
    target, bins = np.array(submode.teacher()), np.arange(submode.BINS)
    assert target.sum() == pytest.approx(1) and target.min() > 0

    def exact(at: float) -> tuple[float, float]:
        p = np.exp(-0.5 * ((bins - at) / width) ** 2)
        p /= p.sum()
        return float((target * np.log(target / p)).sum()), float((p * np.log(p / target)).sum())

    now = submode.divergences(list(target), place, width)
    assert (now["forward"], now["reverse"]) == pytest.approx(exact(place))
    up, down = exact(place + 1e-5), exact(place - 1e-5)
    slopes = [(a - b) / 2e-5 for a, b in zip(up, down)]
    assert (now["forward_slope"], now["reverse_slope"]) == pytest.approx(slopes, abs=1e-6)
    assert sum(submode.peak(place, width)) == pytest.approx(1)


def test_the_block_holds_every_token(data):
    record: Rollouts = data.runs[0].analyses["rollouts"].record
    block = rollouts.block([(data.runs[0], "f", v) for v in record.rollouts])
    strings, back = block["strings"], block["rollouts"]
    assert len(strings) == len(set(strings))
    for row, v in zip(back, record.rollouts, strict=True):
        assert (row["problem"], row["right"], row["finished"], row["n"]) == (v.problem, v.right, v.finished, 50)
        for values, t in zip(row["tokens"], v.tokens, strict=True):
            assert strings[values[0]] == t.token and values[1:6] == [getattr(t, f) for f in rollouts.FIELDS[1:6]]
            for flat, top in ((values[6], t.student_top), (values[7], t.teacher_top)):
                assert [(strings[i], p) for i, p in zip(flat[::2], flat[1::2])] == [tuple(pair) for pair in top]


def test_positions_and_rows_are_optional(tmp_path):
    record = make_submode(random.Random(0), "")
    alone = [p.model_copy(update={"after": []}) for p in record.bimodal]
    for i, update in enumerate(
        ({"bimodal": []}, {"rows": []}, {"bimodal": alone[:1]}, {"decile": "shared", "trajectories": "shared"})
    ):
        html = render(change(tmp_path / str(i), "submode", **update))
        assert "A toy, not a measurement" in html and "published: full OPD" in html
        assert ("None was found" in html) == (i == 0) and ("untrained student’s positions" in html) == (i == 3)


@pytest.mark.parametrize(
    "views", [[], [view_of(0)], [view_of(1)], [view_of(20, kl=0)], [view_of(900)], [view_of(3, "after")]]
)
def test_rollouts_of_any_length(tmp_path, views):
    html = render(change(tmp_path / "run", "rollouts", rollouts=views))
    assert ("esr analyze rollouts" in html) == (not views or not views[0].tokens)
    assert ("300 more tokens" in html) == bool(views and len(views[0].tokens) == 900)


def test_two_runs_are_told_apart(tmp_path):
    paths = [make_run(tmp_path / name / "run") for name in ("a", "b")]
    html = render(load(paths))
    assert 'id="submode-position-0"' in html and 'id="submode-position-1"' in html
    block = json.loads(re.search(r'id="data-rollouts">(.*?)</script>', html, re.S)[1])
    assert {r["run"] for r in block["rollouts"]} == {"run", "b/run"}


@pytest.mark.parametrize(("factor", "shown"), [(1.0, False), (1.04, False), (1.5, True)])
def test_a_loss_that_is_not_the_reverse_kl_has_a_line_of_its_own(tmp_path, factor, shown):
    run = make_run(tmp_path / "run")
    file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row | {"loss": factor * row["loss"]}) + "\n" for row in rows))
    figure = training.view(load([run])).context["runs"][0]["figures"][0]
    assert ["loss" in row for row in figure.rows] == ([False, True] if shown else [False])


def test_what_training_kept_is_mentioned(tmp_path):
    section = rollouts.view(load([make_run(tmp_path / "run", analyses=False)]))
    assert "kept 2 of its rollouts in rollouts.jsonl" in section.missing and section.commands == (
        f"esr analyze rollouts {tmp_path}/run",
    )


def test_what_two_tokenizers_share_is_shown_or_said_to_be_everything(tmp_path):
    run = RunDir(make_run(tmp_path / "run", analyses=False))
    section = render(load([run.path])).split('<section id="tokenizers"')[1].split("</section>")[0]
    assert 'run/tokenizers.json#/common">93.1%<' in section and 'run/tokenizers.json#/classes">103<' in section
    run.tokenizers_file.write_text("{")
    assert any("tokenizers.json" in line for line in load([run.path]).trouble)
    run.tokenizers_file.unlink()
    assert "every token is compared" in render(load([run.path]))
