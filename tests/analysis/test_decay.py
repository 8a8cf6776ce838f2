"""Teacher decay on models whose curve can be computed by hand, and on real ones where it must be flat."""

import re
import zlib
from types import SimpleNamespace

import pytest
import torch
import yaml

from esr.analysis import analyze, continuation, decay
from esr.cli.main import run as esr
from esr.config import EvalConfig
from esr.errors import UserError
from esr.method.tensors import Rollout, StopReason
from esr.records.base import Estimate
from esr.records.decay import Decay, DecaySettings
from esr.records.evaluation import Grade
from esr.records.problem import Problem
from esr.runs.files import read_record
from esr.runs.parts import Parts
from esr.sampling import respond
from esr.sampling.noise import Noise
from subjects import subject
from tiny import make_lm

END = 2
RIGHT, WRONG = "\\boxed{7}", "\\boxed{0}"
PROBLEMS = [Problem(id=f"p{i}", question=f"number {i}.", answer="7") for i in range(20)]
SETTINGS = EvalConfig(source="test", max_new_tokens=60, batch_size=8, temperature=1.0)


def rollout_of(rows: list[list[int]], cap: int) -> Rollout:
    """Responses cut at `cap`; those that end with END before finish."""
    rows = [row[:cap] for row in rows]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[j < len(row) for j in range(width)] for row in rows])
    reason = [StopReason.TERMINATOR if row[-1] == END else StopReason.LENGTH for row in rows]
    return Rollout(ids, mask, torch.tensor([int(r) for r in reason]))


def script(monkeypatch, *writers):
    """Models that write what `writer(number of the problem, prefix)` says, then end; returns them and the calls made."""
    lms = [make_lm(i) for i in range(len(writers))]
    calls: list[SimpleNamespace] = []

    def sample(lm, prompts, sampler, noise, progress=None):
        writer = writers[lms.index(lm)]
        rows = []
        for ids, mask in zip(prompts.ids, prompts.mask, strict=True):
            text = lm.tokenizer.decode(ids[mask])
            number = int(re.search(r"number (\d+)\.", text)[1])
            rest = writer(number, text.split("<|assistant|>")[1])
            rows += [[*lm.tokenizer(rest)["input_ids"], END]] * (len(noise) // len(prompts))
        calls.append(SimpleNamespace(lm=lm, noise=noise, cap=sampler.max_new_tokens, rows=len(prompts)))
        return rollout_of(rows, sampler.max_new_tokens)

    monkeypatch.setattr(respond, "sample", sample)
    return lms, calls


def strays(number: int, prefix: str) -> str:
    """A student that in problem j < 10 writes an x as token j, and is wrong for it. In all 30 letters, then the answer."""
    body = "".join("x" if j == number and number < 10 else "a" for j in range(30))
    return (body + (WRONG if number < 10 else RIGHT))[len(prefix) :]


def follows(number: int, prefix: str) -> str:
    return WRONG if "x" in prefix else RIGHT


def ignores(number: int, prefix: str) -> str:
    return RIGHT


def about(tmp_path, student, other, how=SETTINGS, **more):
    """A subject of these two models, with problems to grade."""
    return subject(student, more.pop("after", None), other, PROBLEMS, tmp_path, eval=how.model_dump(), **more)


def compute(tmp_path, student, teacher, how=SETTINGS, **chosen):
    settings = DecaySettings(**{"lengths": (0, 5, 10, 20), "samples": 2, **chosen})
    return analyze(about(tmp_path, student, teacher, how), "decay", settings)


def curve(record: Decay, prefix="student", continued_by="teacher", subset="all"):
    found = [s for s in record.series if (s.prefix, s.continued_by, s.subset) == (prefix, continued_by, subset)]
    return {p.k: p for p in found[0].points}


def test_a_teacher_that_follows_its_prefix_decays_at_the_rate_of_the_students_errors(monkeypatch, tmp_path):
    (student, teacher), _ = script(monkeypatch, strays, follows)
    record = compute(tmp_path, student, teacher)
    main = curve(record)
    assert {k: p.avg.value for k, p in main.items()} == {0: 1.0, 5: 0.75, 10: 0.5, 20: 0.5}
    assert {k: p.change.value for k, p in main.items() if k} == {5: -0.25, 10: -0.5, 20: -0.5}
    assert main[0].change is None
    assert all((p.continued, p.finished) == (20, 0) for p in main.values())
    right, wrong = curve(record, subset="right"), curve(record, subset="wrong")
    assert [p.change.value for k, p in right.items() if k] == [0, 0, 0]
    assert [wrong[k].avg.value for k in (0, 5, 10, 20)] == [1.0, 0.5, 0.0, 0.0]
    assert {p.continued for p in wrong.values()} == {10}
    control = curve(record, continued_by="student")
    assert all(p.avg.value == 0.5 and (k == 0 or p.change.value == 0) for k, p in control.items())
    assert record.recommendation.at_most == 5
    assert record.recommendation.n is None


def test_a_teacher_that_ignores_its_prefix_does_not_decay(monkeypatch, tmp_path):
    (student, teacher), _ = script(monkeypatch, strays, ignores)
    record = compute(tmp_path, student, teacher)
    assert all(p.avg.value == p.pass_at_k.value == 1 for p in curve(record).values())
    assert all(p.change.value == 0 for k, p in curve(record).items() if k)
    found = record.recommendation
    assert (found.n, found.at_most) == (20, None)
    assert found.surely is None, "20 problems without a loss leave 15 points open"


def test_finished_prefixes_are_counted_apart(monkeypatch, tmp_path):
    """Fifteen responses end, wrong, at token 10; the teacher would be right, and can be so in the other five only."""
    short = lambda number, prefix: (WRONG if number >= 5 else "a" * 30 + RIGHT)[len(prefix) :]  # noqa: E731
    (student, teacher), calls = script(monkeypatch, short, ignores)
    record = compute(tmp_path, student, teacher, lengths=(0, 9, 10))
    at = curve(record)
    assert [(at[k].continued, at[k].finished) for k in (0, 9, 10)] == [(20, 0), (20, 0), (5, 15)]
    assert at[9].avg.value == 1
    assert at[10].avg.value == 1
    assert at[10].with_finished.value == 0.25
    assert at[10].change.n == 5
    rows = [c.rows for c in calls if c.lm is teacher and c.cap == SETTINGS.max_new_tokens - 10]
    assert sum(rows) == 5, "nobody continues a finished response"


def test_the_published_protocol_counts_finished_prefixes_in_its_recommendation(monkeypatch, tmp_path):
    short = lambda number, prefix: (WRONG if number >= 10 else "a" * 30 + RIGHT)[len(prefix) :]  # noqa: E731
    (student, teacher), _ = script(monkeypatch, short, ignores)
    ours = compute(tmp_path, student, teacher, lengths=(0, 10))
    paper = compute(tmp_path, student, teacher, lengths=(0, 10), protocol="paper")
    assert (ours.recommendation.n, ours.recommendation.at_most) == (10, None)
    assert (paper.recommendation.n, paper.recommendation.at_most) == (None, 10)
    assert curve(ours) == curve(paper)
    assert paper.settings["protocol"] == "paper"


def test_the_published_protocol_passes_text(monkeypatch, tmp_path):
    """A special token in the middle of a response is there in ours, and gone in the paper's."""
    seen = []

    def listens(number: int, prefix: str) -> str:
        seen.append(prefix)
        return RIGHT

    for protocol, expected in (("ours", "ab<|system|>c"), ("paper", "abc")):
        seen.clear()
        special = lambda number, prefix: "ab<|system|>cdefghi" + RIGHT  # noqa: E731
        (student, teacher), _ = script(monkeypatch, special, listens)
        compute(tmp_path, student, teacher, lengths=(0, 4), protocol=protocol)
        assert set(seen) - {""} == {expected}


def test_continuations_share_their_noise_over_k_and_never_repeat_the_prefixes(monkeypatch, tmp_path):
    (student, teacher), calls = script(monkeypatch, strays, follows)
    compute(tmp_path, student, teacher)
    own = set(Noise.of(1, [p.id for p in PROBLEMS], 1).rows)
    writing = [c for c in calls if len(c.noise) == c.rows]
    assert {row for c in writing for row in c.noise.rows} == own
    going_on = [c for c in calls if len(c.noise) == 2 * c.rows]
    by_cap = {
        cap: [row for c in going_on if c.cap == cap and c.lm is teacher for row in c.noise.rows] for cap in (60, 55, 40)
    }
    assert by_cap[60] == by_cap[55] == by_cap[40]
    assert len(set(by_cap[60])) == 40
    assert not own & set(by_cap[60])
    alone = [c for c in calls if c.lm is student and c.cap == 60 and len(c.noise) == 2 * c.rows]
    assert sum(c.rows for c in alone) == 20, "the student alone is sampled once for both of its curves"


def crc_grade(problems, texts):
    """Right or wrong by every character of the response."""
    return [Grade(first=None, last=zlib.crc32(t.encode()) % 2 == 0, any=None) for t in texts]


def test_one_model_that_always_takes_its_first_choice_continues_itself_without_a_change(monkeypatch, tmp_path):
    """Through the real sampler: prefix and continuation together are the uncut response, whatever the batch."""
    monkeypatch.setattr(continuation.grading, "grade", crc_grade)
    greedy = SETTINGS.model_copy(update={"temperature": 0.0, "max_new_tokens": 24, "batch_size": 7})
    record = compute(tmp_path, make_lm(1), make_lm(1), lengths=(0, 3, 8), how=greedy)
    for series in record.series:
        assert all(p.change.value == 0 for p in series.points if p.k)
        assert 0 < series.points[0].avg.value < 1 or series.subset != "all"


def test_an_interrupted_analysis_goes_on_where_it_was(monkeypatch, tmp_path):
    """Through the real sampler: the same record as in one go, nothing sampled twice."""
    monkeypatch.setattr(continuation.grading, "grade", crc_grade)
    settings = SETTINGS.model_copy(update={"max_new_tokens": 16})
    run = lambda where: compute(tmp_path / where, make_lm(1), make_lm(2), lengths=(0, 3, 8), how=settings)  # noqa: E731
    counted, real = [], respond.sample
    monkeypatch.setattr(respond, "sample", lambda *a: counted.append(1) or real(*a))
    whole = run("whole")
    calls = len(counted)
    put, limit = Parts.put, 13
    monkeypatch.setattr(
        Parts, "put", lambda self, key, value: stop() if len(self.done) == limit else put(self, key, value)
    )
    counted.clear()
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    assert len(counted) == limit + 1
    monkeypatch.setattr(Parts, "put", put)
    again = run("cut")
    assert len(counted) == calls + 1, "only the part that was under way is done again"
    assert again.model_dump(exclude={"seconds"}) == whole.model_dump(exclude={"seconds"})
    assert not list((tmp_path / "cut" / "analysis").glob(".*"))


def stop():
    raise KeyboardInterrupt


def change(low: float, high: float, n: int = 50) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=n)


SAFE, OPEN, LOSS = change(-0.04, 0.02), change(-0.10, 0.01), change(-0.2, -0.1)


@pytest.mark.parametrize(
    ("changes", "n", "surely", "at_most"),
    [
        ([(10, SAFE), (25, SAFE), (50, OPEN), (100, LOSS)], 50, 25, 100),
        ([(10, SAFE), (25, SAFE)], 25, 25, None),
        ([(10, LOSS), (25, SAFE)], None, None, 10),
        ([(10, OPEN), (25, SAFE), (50, LOSS), (100, SAFE)], 25, None, 50),
        ([(10, SAFE), (25, None), (50, SAFE)], 50, 50, None),
        ([(10, SAFE), (25, change(-0.9, -0.1, n=3)), (50, change(-0.5, 0.5, n=9))], 10, 10, None),
        ([(10, None)], None, None, None),
        ([(10, change(-0.04, -0.01))], None, 10, 10),
    ],
)
def test_the_recommendation_by_hand(changes, n, surely, at_most):
    found = decay.recommend(changes)
    assert (found.n, found.surely, found.at_most) == (n, surely, at_most)


def test_lengths_that_the_user_may_give():
    assert DecaySettings(lengths="50, 10").below(100) == (0, 10, 50)
    assert DecaySettings().below(150) == (0, 10, 25, 50, 100)
    assert DecaySettings.paper().below(900) == DecaySettings.of({"protocol": "paper"}, quick=True).lengths
    assert DecaySettings.paper().below(900) == (0, 100, 200, 300)
    for given in ("10,x", "", "-5", "10,,20", "0", "100"):
        with pytest.raises(UserError, match="--lengths"):
            DecaySettings(lengths=given).below(100)
    with pytest.raises(UserError, match="--protocol theirs"):
        DecaySettings(protocol="theirs")


def test_the_trained_student_writes_only_if_its_step_was_asked_for(monkeypatch, tmp_path):
    (before, after, teacher), calls = script(monkeypatch, strays, strays, follows)
    trained = about(tmp_path, before, teacher, after=after, step=6)
    record = analyze(trained, "decay", DecaySettings(lengths=(5,), samples=1, step=6))
    assert record.models["student"].endswith("step 6")
    assert before not in [c.lm for c in calls]
    with pytest.raises(UserError, match="step 3"):
        analyze(trained, "decay", DecaySettings(step=3))


def test_the_command_writes_its_record_and_prints_tables(pair_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math.jsonl").write_text(
        '{"question": "what is 7 * 6?", "answer": "42"}\n{"question": "1+1", "answer": "2"}\n'
    )
    tree = {
        "student": {"model": str(pair_dir / "student")}, "teacher": {"model": str(pair_dir / "teacher")},
        "data": {"source": str(pair_dir / "prompts.jsonl")}, "run": {"dir": "r", "device": "cpu"},
        "eval": {"source": "math.jsonl", "max_new_tokens": 12},
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert esr(["analyze", "decay", "c.yaml", "--lengths", "2,4", "--samples", "1"]) == 0
    record = read_record(tmp_path / "r-pair" / "analysis" / "decay.json", Decay)
    assert (record.problems, record.samples, len(record.series)) == (2, 1, 5)
    assert set(record.models) == {"student", "teacher"}
    assert "For comparison" in capsys.readouterr().out
    assert esr(["analyze", "decay", "c.yaml", "--step", "3"]) == 2
