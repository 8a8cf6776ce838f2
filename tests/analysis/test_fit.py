"""`esr check`: the verdict on constructed numbers, and the whole of it on the lab at the smallest sizes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import yaml

from esr import tasks
from esr.analysis import analyze, open_subject
from esr.analysis.continuation import Head
from esr.analysis.fit import check, measure, pilots, spending
from esr.analysis.fit.check import Check
from esr.analysis.fit.reach import at_the_end, end
from esr.analysis.fit.spending import another_block, spent
from esr.analysis.fit.verdict import SIDES, judge, shortest, widest
from esr.cli.main import run as esr
from esr.config import EvalConfig
from esr.errors import OutOfMemory
from esr.records.base import Estimate
from esr.records.fit import Cost, End, Fit, FitSettings, Handover, Pilot
from esr.report.page import render
from esr.report.sources import load
from esr.runs.files import read_record, write_json
from esr.runs.parts import Parts
from esr.runs.rundir import RunDir

ROOT = Path(__file__).parents[2]


def test_problems_apart_are_none_of_the_final_ones_nor_called_training_prompts(tmp_path, capsys):
    config = str(ROOT / "examples" / "lab.yaml")
    subject = open_subject(config, overrides=[f"run.dir={tmp_path}", "data.size=40", "eval.size=150"])
    problems, apart = subject.apart(100)
    final, _, how = subject.graded(150)
    seeds = how.model_copy(update={"seed": how.seed + 1, "size": 2 * 100 + how.size})
    drawn = {p.question for p in tasks.load(seeds, "eval", need_answer=True).problems}
    assert apart and len(problems) == 100 and drawn & {p.question for p in final}
    assert not {p.question for p in problems} & {p.question for p in final}
    assert "training prompts" not in capsys.readouterr().err


def about(value: float, half: float = 0.04) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=100)


def pilot(n: int, gain: float, after: float = 0.0, within: float = 0.0, half: float = 0.04) -> Pilot:
    """One whose end is as far as it came."""
    reached, won = about(0.3 + gain, half), about(gain, half)
    return Pilot(
        n=n,
        steps=20,
        last=reached,
        gain=won,
        after=about(after),
        within=about(within),
        end=End(accuracy=reached, gain=won, after=about(after)),
        cost=Cost(n=n, seconds=n / 100, peak_gib=1.0),
    )


def reach(gain: float) -> list[Handover]:
    return [Handover(k=100, continued=80, finished=20, avg=about(0.3 + gain), gain=about(gain))]


FULL = Cost(n=600, seconds=6.0, peak_gib=3.0)


def test_a_pair_that_fits_gets_the_shortest_n_that_keeps_nine_tenths_of_the_best_gain():
    pilots = [pilot(50, 0.1), pilot(100, 0.37), pilot(200, 0.4)]
    found = judge(about(0.6), reach(0.4), pilots, FULL)
    assert (found.answer, found.n, found.better) == ("fits", 100, None)
    assert (found.faster, found.smaller) == (pytest.approx(6.0), pytest.approx(3.0))
    assert shortest([pilot(50, 0.35), *pilots]).n == 100
    assert shortest([pilot(50, 0.36), *pilots]).n == 50


def test_what_is_left_after_n_is_for_longer_rollouts():
    found = judge(about(0.6), reach(0.4), [pilot(100, 0.35, after=0.25, within=-0.01)], FULL)
    assert (found.answer, found.better) == ("fits", "full rollouts")
    assert "+25.0" in found.reasons[-1]


def test_a_far_student_is_sent_to_a_supervised_warm_up():
    found = judge(about(0.6), reach(0.02), [pilot(100, 0.01, after=0.3, within=0.3)], FULL)
    assert (found.answer, found.n, found.better) == ("does not fit", None, "supervised warm-up")
    assert "+2.0" in found.reasons[-1]


def test_a_student_that_has_all_within_n_to_learn_and_gains_little_by_it_is_sent_there_too():
    found = judge(about(0.6), reach(0.1), [pilot(100, 0.05, after=0.1, within=0.5)], FULL)
    assert (found.answer, found.better) == ("does not fit", "supervised warm-up")


def test_a_student_that_can_go_on_but_learned_nothing_needs_what_lies_after_n():
    found = judge(about(0.6), reach(0.4), [pilot(100, 0.01, after=0.5, within=0.1)], FULL)
    assert (found.answer, found.better) == ("does not fit", "full rollouts")


@pytest.mark.parametrize("gap", [about(0.0, 0.015), about(-0.2)], ids=["no gap", "a worse teacher"])
def test_a_teacher_that_is_no_better_is_to_be_changed(gap):
    found = judge(gap, [], [], None)
    assert (found.answer, found.better) == ("does not fit", "another teacher")


def test_where_it_cannot_tell_it_says_what_would():
    wide = judge(about(0.05, 0.1), [], [pilot(100, 0.1)], FULL)
    assert (wide.answer, wide.n) == ("cannot tell", None) and "401 problems" in wide.reasons[0]
    unsure = judge(about(0.5), reach(0.4), [pilot(100, 0.12, half=0.1)], FULL)
    assert (unsure.answer, unsure.n) == ("cannot tell", 100) and "2,501 problems" in unsure.reasons[-1]
    assert judge(about(0.5), reach(0.4), [], None).answer == "cannot tell"


def test_the_end_of_training_by_hand():
    """The teacher has 30 points over its continuations of the pilot, which is right in 40. After the teacher's first tokens the
    student is right half as often as the teacher, and after more of them a quarter as often, which counts as half too."""
    assert end(np.array([0.3, 0.9, 0.4, 0.6, 0.2, 0.4])) == pytest.approx([0.55, 0.25, 0.35])
    assert end(np.array([0.3, 0.9, 0.4, 0.6, 0.2, 0.1, 0.4, 0.4])) == pytest.approx([0.55, 0.25, 0.35])
    assert end(np.array([0.3, 0.9, 0.4, 0.6, 0.1, 0.2, 0.4, 0.4])) == pytest.approx([0.55, 0.25, 0.35])


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.3, 0.9, 0.2, 0.9, 0.4, 0.4], [0.2, -0.1, 0.7]),
        ([0.0, 0.9, 0.0, 0.5, 0.0, 0.4], [0.0, 0.0, 0.9]),
        ([0.0, 0.9, 0.0, 0.5, 0.0, 0.0], [0.4, 0.4, 0.5]),
        ([0.0, 0.9, 0.0, 0.5, 0.0, 0.0, 0.0, 0.4, 0.3, 0.0], [0.0, 0.0, 0.9]),
    ],
    ids=[
        "a pilot that made it worse, all within learned",
        "a student that can go on with nothing",
        "nothing to go on with",
        "nothing after most tokens, and a student that can go on with none of fewer",
    ],
)
def test_the_end_at_the_borders(means, expected):
    assert end(np.array(means)) == pytest.approx(expected)


def test_the_interval_of_the_end_covers_what_other_problems_would_have_given():
    """Sixty sets of problems, against a hundred thousand: students begin right and end right by chance, each with its share."""
    rng = np.random.default_rng(3)

    def draw(n: int) -> list[dict[str, Any]]:
        begins, starts, carries, teachers = (rng.random(n) for _ in range(4))
        ends = teachers < 0.9
        right = [
            (starts < 0.4) & ends,
            ends,
            (begins < 0.7) & (carries < 0.7),
            (begins < 0.7) & ends,
        ]
        graded = [{str(i): [float(v)] for i, v in enumerate(side)} for side in right]
        return [*graded, {str(i): [float(v)] for i, v in enumerate(carries < 0.7) if i % 2}]

    *sides, reach = draw(100_000)
    means = [np.mean(list(side.values())) for side in sides]
    beside = [teacher[0] for key, teacher in sides[1].items() if key in reach]
    centre = end(np.array([*means, np.mean(list(reach.values())) / 2, np.mean(beside) / 2]))[0]
    hits = [
        (e := at_the_end(*sides, [reach]).accuracy).low <= centre <= e.high
        for *sides, reach in (draw(60) for _ in range(60))
    ]
    assert np.mean(hits) > 0.85


def test_a_pilot_counts_what_the_student_carries_on_up_to_its_n_and_decay_comes_along_in_the_first_round(monkeypatch):
    """One problem: the student is right after the teacher's first four tokens, and not after eight."""
    monkeypatch.setattr(pilots, "student", Mock())
    heads = [Head(0, 0, [1] * 20, False, True)]
    work, paid = Mock(), Mock(problems=[Mock(id="a")], lengths=[4, 8], block=1)
    paid.work.return_value = paid.few.return_value = work
    work.problems, work.heads.return_value, paid.own.return_value = paid.problems, heads, heads
    work.tails_of.side_effect = lambda lm, cuts, carry: [[[True]] for _ in cuts]
    paid.handed_over.return_value = [[[True]], [[False]]]
    found = pilots.measure(paid, [4, 8], 1)
    assert found[4].reach == [{"a": [1.0]}] and found[8].reach == [{"a": [1.0]}, {"a": [0.0]}]
    pilots.measure(paid, [8], 2)
    stages = [[cut.stage for cut in call.args[1]] for call in work.tails_of.call_args_list]
    own = [pilots.stages(n)[1] for n in (4, 8)]
    assert stages == [[*own, *(check.going_on("teacher", n) for n in (4, 8))], own[1:]]


def test_a_budget_goes_to_the_widest_open_interval_and_to_nothing_once_all_are_settled():
    settled = about(0.6)
    assert widest(about(0.01, 0.3), []) == SIDES
    assert widest(settled, [pilot(50, 0.35, half=0.2), pilot(100, 0.4, half=0.1)]) == 50
    assert widest(settled, [pilot(50, 0.1, half=0.1), pilot(100, 0.4, half=0.2)]) == 100


@pytest.fixture
def paid(tmp_path) -> Check:
    """A check whose batches of two took a second each; one round is done."""
    kept = Parts(RunDir(tmp_path), "fit", {})
    how = EvalConfig(source="lab:arithmetic", batch_size=2, max_new_tokens=600)
    settings = FitSettings(problems=2, lengths=(100,), budget=8 / 60)
    subject = Mock(directory=RunDir(tmp_path))
    subject.config.optim.steps = 60
    paid = Check(subject, settings, range(16), 2, how, kept)
    pay(paid, {SIDES: 2, 100: 2})
    return paid


def pay(paid: Check, counts: dict[int, int]) -> None:
    """Keep whatever is missing for these counts."""
    for key, count in counts.items():
        for stage in spending.stages(key):
            for start in range(0, count, 2):
                if paid.kept.get(f"{stage} / {start}") is None:
                    paid.kept.put(f"{stage} / {start}", {"rows": [], "seconds": 1.0})


def test_a_budget_ends_within_a_batch_and_a_stopped_check_goes_the_same_way_again(paid):
    """A round takes four seconds (two sides, two stages of a pilot), so eight seconds buy one more."""
    open_one, first = [pilot(100, 0.12, half=0.1)], {SIDES: 2, 100: 2}
    more = another_block(paid, first, about(0.5), open_one)
    assert more == {SIDES: 4, 100: 4} and spent(paid) == 4
    pay(paid, more)
    assert another_block(paid, more, about(0.5), open_one) is None and spent(paid) == 8
    pay(paid, {SIDES: 6})
    assert another_block(paid, first, about(0.5), open_one) == more
    assert another_block(paid, first, about(0.5), [pilot(100, 0.5, after=0.3, within=0.5)]) is None


@pytest.fixture
def pair(tmp_path, monkeypatch) -> str:
    """The lab's headline pair at the smallest sizes."""
    monkeypatch.chdir(tmp_path)
    sections = {
        "student": {"model": "lab:student-2-able"},
        "teacher": {"model": "lab:teacher-2-best"},
        "data": {"source": "lab:arithmetic", "size": 8},
        "rollout": {"prompts_per_step": 2},
        "optim": {"steps": 4},
        "eval": {"source": "lab:arithmetic", "size": 4, "max_new_tokens": 12},
        "run": {"device": "cpu", "threads": 1},
    }
    Path("c.yaml").write_text(yaml.safe_dump(sections))
    return "c.yaml"


SMALL = FitSettings(problems=2, lengths=(4, 8), pilot=2, budget=60)


def told(record: Fit) -> dict:
    """A record but for what a clock or the memory says."""
    clock = {"seconds": True, "full": True, "verdict": {"faster", "smaller"}, "pilots": {"__all__": {"cost"}}}
    return record.model_dump(exclude=clock)


@pytest.mark.parametrize("budget", [None, 1.0, 3.0])
def test_the_rest_of_a_check_is_foretold_from_its_first_pilot(monkeypatch, capsys, budget):
    """A step costs 0.08 s a token, a batch of responses 2 and 3 s: 10 steps of 100, a full one of 200, 2 batches at both N."""
    monkeypatch.setattr(pilots, "cost", lambda check, n: Cost(n=n, seconds=0.08 * n, peak_gib=1.0))
    paces = {"student writes": 2.0, "teacher writes": 3.0}
    monkeypatch.setattr(pilots.continuation, "pace", lambda kept, stage: paces[stage])
    how, settings = Mock(batch=4, max_new_tokens=200), Mock(budget=budget)
    pilots.foretell(Mock(lengths=[50, 100], steps=10, block=8, how=how, settings=settings))
    beyond = " (more than its budget: --quick, or fewer --lengths or --problems, take less)" * (budget == 1)
    assert capsys.readouterr().err == f"The check will take about 2 min 08 s more{beyond}.\n"


def test_a_check_that_was_killed_goes_on_to_the_same_record_and_keeps_no_pilot(pair, monkeypatch, capsys):
    """With a teacher taken for better, so that pilots train; killed in the last measurement."""
    monkeypatch.setattr(measure, "WORTH", -2.0)
    monkeypatch.setattr(measure, "judge", lambda gap, *rest: judge(about(0.5), *rest))
    monkeypatch.setattr(spending, "widest", lambda gap, found: 8)
    monkeypatch.setattr(check, "ROUNDS", 2)
    whole = analyze(open_subject(pair, overrides=["run.dir=whole"]), "fit", SMALL)
    assert [p.n for p in whole.pilots] == [4, 8] and whole.full.n == 12 and whole.apart
    assert [p.last.n for p in whole.pilots] == [2, 4] and whole.problems == 4
    assert re.search(r"The check will take about \d+ s more\.", capsys.readouterr().err)
    with monkeypatch.context() as during:
        during.setattr(pilots, "foretell", Mock())
        during.setattr(pilots, "cost", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            analyze(open_subject(pair, overrides=["run.dir=killed"]), "fit", SMALL)
    assert Path("killed-pair/pilots/8").exists()
    resumed = analyze(open_subject(pair, overrides=["run.dir=killed"]), "fit", SMALL)
    assert told(resumed) == told(whole)
    assert not Path("killed-pair/pilots").exists() and not Path("killed").exists()


def test_a_pair_without_a_gap_exits_with_three_or_four_and_train_takes_the_n_of_the_record(pair, capsys):
    """Nobody gets anything right within twelve tokens. Then a record that recommends N = 5 stands in."""
    command = ["check", pair, "--quick", "--lengths", "4,8"]
    code = esr(command)
    assert code in (3, 4) and "esr report runs/c-pair" in capsys.readouterr().err
    assert esr(command) == code and "checked before; --fresh" in capsys.readouterr().err
    assert esr([*command[:-1], "50,100"]) == 2
    assert "eval.max_new_tokens=12 leaves nothing after N = 50" in capsys.readouterr().err
    assert esr(["train", pair, "--n", "auto", "eval=null"]) == 2
    file = RunDir("runs/c-pair").analysis_file("fit")
    record = read_record(file, Fit)
    fits = record.verdict.model_copy(update={"answer": "fits", "n": 5})
    write_json(file, record.model_copy(update={"verdict": fits}).model_dump())
    for extra, words in (
        ("rollout.max_new_tokens=9", "both set N"),
        ("rollout.horizon.policy=linear", "rollout.horizon.policy is linear"),
    ):
        assert esr(["train", pair, "--n", "auto", "eval=null", extra]) == 2
        assert words in capsys.readouterr().err
    assert esr(["train", pair, "--n", "auto", "eval=null"]) == 0
    assert "says of whether ESR fits: fits" in capsys.readouterr().err
    run = RunDir("runs/c")
    assert {row["rollout/n"] for row in run.metrics()} == {5}
    assert read_record(run.analysis_file("fit"), Fit).verdict == fits
    assert "Does it fit?" in render(load([run.path]))


def test_full_rollouts_that_do_not_fit_leave_the_rest_of_a_check_as_it_is(pair, monkeypatch, capsys):
    """Just where they would cost the most."""
    real = pilots.carry_out

    def full(plan, run, **rest):
        if plan.config.rollout.max_new_tokens == 12:
            raise OutOfMemory("Out of memory with a single response.")
        return real(plan, run, **rest)

    monkeypatch.setattr(measure, "WORTH", -2.0)
    monkeypatch.setattr(pilots, "carry_out", full)
    record = analyze(open_subject(pair), "fit", FitSettings(problems=2, lengths=(4, 8), pilot=2))
    assert [p.n for p in record.pilots] == [4, 8] and record.full is None and record.verdict.faster is None
    assert "Full rollouts do not fit: Out of memory" in capsys.readouterr().err


COMMANDS = re.findall(r"<!-- \$ (esr check .+?) -->", (ROOT / "docs" / "check.md").read_text())
SHORTER = [
    "optim.steps=2",
    "rollout.prompts_per_step=2",
    "eval.size=4",
    "eval.max_new_tokens=12",
    "data.size=8",
    "--quick",
    "--lengths=4,8",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_document_run(command, tmp_path, monkeypatch, capsys):
    """In short form where something is measured; word for word where nothing is."""
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    if "thinking" in command:
        subprocess.run([sys.executable, "examples/thinking_mismatch.py"], check=True)
    arguments = shlex.split(command)[1:]
    measured = not {"--static", "--device-memory"} & set(arguments)
    code = esr([*arguments, *(SHORTER if measured else [])])
    if measured:
        assert code in (0, 3, 4)
    else:
        document = (ROOT / "docs" / "check.md").read_text()
        said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("Loading", "Memory"))]
        assert said and all(line in document for line in said)
        assert f"$ {command}\n" in document
        assert code == (3 if "--device-memory" in arguments else 0)
