"""The page: its numbers are those of the files, hostile text stays text, and whatever is missing is said."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from esr import intervals
from esr.cli.main import run as esr
from esr.cli.watch import write
from esr.records.base import Estimate
from esr.records.fit import Fit, FitVerdict
from esr.records.lengths import Lengths
from esr.report import answers, bars, charts, format, frames
from esr.report.contests import contests
from esr.report.frames import Point
from esr.report.page import LARGEST, order, render, sections
from esr.report.scales import Axis, nice
from esr.report.sections import comparison, summary, training
from esr.report.sections import decay as decay_section
from esr.report.sections import results as results_section
from esr.report.sources import Data, Found, load
from esr.runs import findings
from esr.runs.files import write_json
from esr.runs.rundir import RunDir
from make_fixtures import HOSTILE, decay, efficiency, finding, make_run, make_study, selection

VOID = {"meta", "link", "input", "br", "hr", "img"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Elements in order, each with all text inside it."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"misplaced </{tag}>"

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag: str, attribute: str = "") -> list[Element]:
        return [e for e in self.elements if tag in ("*", e.tag) and (not attribute or attribute in e.attributes)]

    def section(self, ident: str) -> str:
        return " ".join(next(e for e in self.all("section") if e.attributes["id"] == ident).text.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_run(folder / "lab")
    make_study(folder / "sweep")
    make_study(folder / "selections", "selection")
    return folder


@pytest.fixture(scope="module")
def data(home) -> Data:
    return load([home / "lab", home / "sweep", home / "selections"])


@pytest.fixture(scope="module")
def page(data) -> Page:
    return Page(render(data))


def read(data: Data, reference: str):
    """What FILE#/json/pointer names, read from the disk by other means than the page's."""
    name, pointer = reference.rsplit("#", 1)
    file = data.sources()[name].file
    text = file.read_text()
    tree = [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)
    for key in pointer.split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return tree


def shows(text: str, value: float) -> bool:
    """Whether text is value, rounded, in percent or in its own unit."""
    text = text.replace("−", "-").replace(",", "")
    parts = re.fullmatch(r"(?:(\d+) h )?(?:(\d+) min )?(\d+) s", text)
    if parts and parts[2]:
        return sum(int(p or 0) * f for p, f in zip(parts.groups(), (3600, 60, 1))) == pytest.approx(
            value, abs=60 if parts[1] else 1
        )
    number = re.match(r"[+-]?\d+(?:\.(\d+))?(?:e[+-]\d+)?", text)
    assert number, text
    half = 0.5 * 10 ** -len(number[1] or "") * 1.001
    return any(abs(float(number[0]) - value * factor) <= half for factor in (1, 100))


def test_every_number_is_that_of_its_file(data, page):
    quoted = page.all("data", "data-source")
    assert len(quoted) > 1000
    for element in quoted:
        value = read(data, element.attributes["data-source"])
        assert float(element.attributes["value"]) == value, element
        assert shows(element.text, value), element


def test_every_point_in_a_chart_is_that_of_its_file(data, page):
    points = page.all("g", "data-source")
    assert len(points) > 100
    for element in points:
        assert float(element.attributes["data-value"]) == read(data, element.attributes["data-source"]), element


def test_ratios_means_and_paired_changes_follow_from_their_files(home, data, page):
    run_only = load([home / "lab"])
    other = Page(render(run_only))
    ratios = page.all("data", "data-ratio")
    assert len(ratios) >= 4
    for element in ratios:
        above, below = (read(data, part) for part in element.attributes["data-ratio"].split(" | "))
        assert float(element.attributes["value"]) == above / below and shows(element.text, above / below)
    paired = other.all("data", "data-derived")
    assert len(paired) >= 6
    for element in paired:
        rule, after, before, end = element.attributes["data-derived"].split(" | ")
        sides = [grades(home / name) for name in (after, before)]
        value = getattr(intervals.paired_difference(*sides), end)
        assert (
            rule == "paired_difference" and float(element.attributes["value"]) == value and shows(element.text, value)
        )


def grades(file: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in map(json.loads, file.read_text().splitlines()):
        found.setdefault(row["problem"], []).append(float(row["grade"]["last"]))
    return found


def test_means_of_logs(tmp_path):
    found = load([make_run(tmp_path / "plain", analyses=False)])
    means = Page(render(found)).all("data", "data-mean")
    assert len(means) == 8
    rows = found.runs[0].metrics
    for element in means:
        key = element.attributes["data-mean"].split("#/*/")[1].replace("~1", "/")
        value = sum(row[key] for row in rows) / len(rows)
        assert float(element.attributes["value"]) == pytest.approx(value) and shows(element.text, value)


def test_the_profile_shows_both_protocols_and_marks_bins_with_few_responses(page):
    text = page.section("profile")
    assert "As published" in text and "Common trajectories" in text and "400 and later (few)" in text
    assert "12.0% in the first 10, 24.0% in the first 25" in text and "diverges 2.3× as much" in text


def test_teacher_decay_by_both_protocols_is_shown(home, tmp_path):
    run = RunDir(shutil.copytree(home / "lab", tmp_path / "run"))
    found = decay()
    findings.keep(run, "decay-paper", found.model_copy(update={"settings": {**found.settings, "protocol": "paper"}}))
    page = render(load([run.path]))
    assert page.count("by the paper&#39;s protocol</h3>") == 1
    assert 'id="decay-chart-0"' in page and 'id="decay-chart-1"' in page


def test_sums_of_logs_and_two_runs_side_by_side(tmp_path):
    paths = [make_run(tmp_path / "short", analyses=False), make_run(tmp_path / "long", analyses=False, n=600)]
    found = load(paths)
    page = Page(render(found))
    text = page.section("summary")
    assert (
        "Stopping rollouts after N = 50 tokens is no worse than rollouts of up to 600 here: 0.0 points [−1.5, +1.5]"
        in text
    )
    assert "trained, N = 600" in text and "0.08× the tokens generated" in text
    sums = page.all("data", "data-sum")
    assert len(sums) == 3 * 2 * 2 * 4
    for element in sums:
        reference, step = element.attributes["data-sum"].rsplit(" ", 1)
        name, key = reference.split("#/*/")
        rows = [json.loads(line) for line in found.sources()[name].file.read_text().splitlines()]
        value = sum(row[key.replace("~1", "/")] for row in rows if row["step"] <= int(step))
        assert float(element.attributes["value"]) == pytest.approx(value) and shows(element.text, value)
    for element in page.all("data", "data-ratio-of-means"):
        values = []
        for part in element.attributes["data-ratio-of-means"].split(" | "):
            name, key = part.split("#/*/")
            rows = [json.loads(line) for line in found.sources()[name].file.read_text().splitlines()]
            values.append(sum(row[key.replace("~1", "/")] for row in rows) / len(rows))
        assert float(element.attributes["value"]) == pytest.approx(values[0] / values[1])


def test_interval_and_value_stand_together(page):
    estimates = [e for e in page.all("span") if e.attributes.get("class") == "est"]
    assert len(estimates) > 200
    assert all(
        re.fullmatch(r"[+−]?[\d,.]+(%| s| points)? \[[+−]?[\d.,]+( s)?, [+−]?[\d.,]+( s)?\]", e.text) for e in estimates
    ), [e.text for e in estimates if "[" not in e.text]


def test_the_first_screen_tells_the_story(page):
    text = page.section("summary")
    assert "Stopping rollouts after N = 50 tokens is better than full rollouts here: +10.0 points [+7.5, +12.7]" in text
    for number in ("42.0% [39.0, 45.3]", "60.0% [57.0, 63.3]", "50.0% [47.0, 53.3]", "71.0% [68.0, 74.3]"):
        assert number in text
    assert "the arm with the N of the run on this page" in text


@pytest.mark.parametrize(
    ("gap", "said", "fits", "then"),
    [
        ((0.05, 0.01, 0.09), "is better than full rollouts", "yes: better than", "keep the early stop"),
        (
            (-0.05, -0.09, -0.01),
            "is worse than full rollouts",
            "not at equal updates: full rollouts reach more",
            "a larger N",
        ),
        (
            (-0.01, -0.015, -0.005),
            "is worse than full rollouts",
            "not at equal updates: full rollouts reach more",
            "a larger N",
        ),
        ((0.01, -0.015, 0.03), "is no worse than full rollouts", "yes: no worse than", "keep the early stop"),
        (
            (0.0, -0.06, 0.06),
            "are not told apart",
            "not certain: a loss of up to 6.0 points against full rollouts",
            "more seeds",
        ),
    ],
)
def test_verdict_and_answers_follow_the_interval(data, gap, said, fits, then):
    match = contests(data)[0]
    found = match.study
    value, low, high = gap
    arms = list(found.record.arms)
    changed = Estimate(value=value, low=low, high=high, n=200)
    arms[match.early] = arms[match.early].model_copy(update={"difference": changed})
    other = type(found)(found.record.model_copy(update={"arms": arms}), found.file, found.name)
    settled = type(match)(other, match.early, match.full, "")
    sentence = re.sub(r"<[^>]+>", "", summary.verdict(settled, "full rollouts"))
    assert said in sentence
    assert ("possible" in sentence) == (said == "are not told apart")
    asked = {q: re.sub(r"<[^>]+>", "", a) for q, a in answers.of_study(data, settled, [])}
    assert fits in asked["Does it fit?"] and then in asked["What next?"]
    assert asked["Which N?"].startswith("N = 50 is enough: the best of 5 early")


def test_the_answers_name_the_check_where_there_is_one(data):
    """What was measured comes first; what was foretold before training stands beside it."""
    run = data.runs[0]
    verdict = FitVerdict(
        answer="fits", n=75, end=None, faster=None, smaller=None, better=None, reasons=[], spare=0.1,
    )  # fmt: skip
    checked = Found(Fit.model_construct(kind="fit", verdict=verdict), Path("fit.json"), "lab/analysis/fit.json")
    with_check = replace(data, runs=[replace(run, analyses={**run.analyses, "fit": checked})])
    asked = {q: re.sub(r"<[^>]+>", "", a) for q, a in answers.of_study(with_check, contests(data)[0], [])}
    assert re.match(r"(yes|not)\b.*; fits, by the check before training$", asked["Does it fit?"])
    assert re.match(r"N = 50 is enough: .*; N = 75, by the check$", asked["Which N?"])
    without_sweep = replace(with_check, studies=[])
    asked = {q: re.sub(r"<[^>]+>", "", a) for q, a in answers.of_run(without_sweep, with_check.runs[0], None, [], "")}
    assert (asked["Does it fit?"], asked["Which N?"]) == ("fits, by the check before training", "N = 75, by the check")


@pytest.mark.parametrize(
    ("answer", "verdict", "then"),
    [
        ("fits", "Before any training, ESR: fits. At N = 100", "esr train CONFIG --n auto"),
        ("cannot tell", "Before any training, ESR: cannot tell. At N = 100", "esr check CONFIG --budget MINUTES"),
        ("does not fit", "Before any training, ESR: does not fit. 7 steps at N = 100", "full rollouts instead"),
    ],
)
def test_a_pair_that_was_only_checked_is_not_in_training(tmp_path, answer, verdict, then):
    path = make_run(tmp_path / "pair")
    for file in [*(path / "evals").iterdir(), path / "metrics.jsonl", path / "rollouts.jsonl"]:
        file.unlink()
    for file in (path / "analysis").iterdir():
        if file.name != "fit.json":
            file.unlink()
    file = path / "analysis" / "fit.json"
    record = json.loads(file.read_text())
    none = {"n": None, "end": None, "faster": None, "smaller": None} if answer == "does not fit" else {}
    record["verdict"] |= {"answer": answer, **none}
    file.write_text(json.dumps(record))
    page = Page(render(load([path])))
    summary = page.section("summary")
    assert verdict in summary and then in summary and "not trained" in page.section("provenance")
    assert "going on" not in summary
    assert ("a step with full rollouts takes 4.5× the time" in summary) == (answer != "does not fit")
    assert ("A step with full rollouts takes" in page.section("fit")) == (answer != "does not fit")


def test_ids_are_unique_and_links_resolve(page):
    ids = [e.attributes["id"] for e in page.all("*", "id")]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"] for e in page.all("a", "href")]
    assert len(links) > len(order())
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    for element in page.all("*", "aria-labelledby") + page.all("*", "aria-describedby"):
        assert (element.attributes.get("aria-labelledby") or element.attributes.get("aria-describedby")) in ids


def test_nothing_points_outside_the_page(page):
    assert "//" not in re.sub(r"<script.*?</script>", "", page.html, flags=re.S).replace("http-equiv", "")
    assert not re.search(r"https?:|url\(|@import", page.html)
    for element in page.elements:
        assert element.attributes.get("href", "#").startswith(("#", "data:,"))
        assert "src" not in element.attributes


def test_every_chart_has_a_name_and_a_table(page):
    pictures = [e for e in page.all("svg") if (e.attributes.get("class") or "").startswith("chart")]
    assert [e.attributes["class"] for e in pictures] == ["chart wide", "chart narrow"] * (len(pictures) // 2)
    assert len(pictures) > 16
    assert all(e.attributes["role"] == "img" and e.attributes["aria-label"] for e in pictures)
    figures = [e.text for e in page.all("figure") if "Source: " in e.text]
    assert len(figures) > 8 and all("Table" in text for text in figures)


def test_hostile_text_stays_text(tmp_path):
    paths = [make_run(tmp_path / 'x"><script>alert(4)<', text=HOSTILE), make_study(tmp_path / "s", text=HOSTILE)]
    write_json(paths[0] / "analysis" / "odd.json", {"kind": HOSTILE})
    html = render(load(paths))
    page = Page(html)
    clean = Page(render(load([make_run(tmp_path / "clean"), make_study(tmp_path / "t")])))
    assert {e.tag for e in page.elements} == {e.tag for e in clean.elements}
    assert not any(name.startswith("on") for e in page.elements for name in e.attributes)
    assert len(page.all("script")) == len(clean.all("script"))
    assert "<script>alert" not in html and "<b onmouseover" not in html
    assert "alert(1)" in page.section("results") and "49" not in page.section("results").split("7*7")[1][:9]
    for block in page.all("script", "type"):
        json.loads(block.text)
    numbers = next(json.loads(e.text) for e in page.all("script") if e.attributes.get("id") == "data-numbers")
    assert any(isinstance(v, dict) and HOSTILE in v.get("task", "") for v in numbers.values())


def test_json_blocks_give_back_what_they_were_given():
    value = {"text": HOSTILE, "number": 0.1, "odd": float("nan")}
    block = str(format.json_block(value))
    assert not set(block) & set("<>&\u2028\u2029")
    assert json.loads(block) == {**value, "odd": None}


def test_only_the_scripts_of_the_page_may_run(page):
    policy = next(
        e.attributes["content"] for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == len([e for e in page.all("script") if "type" not in e.attributes])


def test_missing_analyses_say_their_command(tmp_path):
    found = load([make_run(tmp_path / "run", analyses=False)])
    page = Page(render(found))
    shown = {e.attributes["id"] for e in page.all("section")}
    for ident in ("decay", "profile", "selection"):
        assert f"esr analyze {ident} {tmp_path}/run" in page.section("absent")
        assert ident not in shown
    assert "esr study studies/lab/n-sweep.yaml" in page.section("absent")
    assert "raised accuracy" in page.section("summary") and "takes a study" in page.section("summary")


def test_a_run_that_is_going_on(tmp_path):
    page = Page(render(load([make_run(tmp_path / "run", analyses=False, finished=False)])))
    assert "Still going on: run" in page.section("summary") and "13 of 30 steps" in page.section("summary")
    assert "step 20" in page.section("results")
    assert [e.attributes["id"] for e in page.all("section")][1] == "training"
    text = page.section("training")
    assert "13 of 30 steps; about" in text and "two steps" in text
    run = load([tmp_path / "run"]).runs[0]
    pace = sum(row["time/step"] for row in run.metrics) / 13
    assert training.remaining(run) == pytest.approx(17 * pace)


def test_a_run_that_has_only_begun(tmp_path):
    path = make_run(tmp_path / "run", analyses=False, finished=False)
    for file in [*(path / "evals").iterdir(), path / "metrics.jsonl", path / "rollouts.jsonl", path / "env.json"]:
        file.unlink()
    page = Page(render(load([path])))
    assert "0 of 30 steps are done" in page.section("summary")
    assert "esr eval" in page.section("absent") and "env.json" in page.section("provenance")


def test_a_comparison_has_a_page_of_its_own(tmp_path):
    paths = [make_run(tmp_path / name, analyses=False, n=n) for name, n in (("long", 600), ("short", 50))]
    env = json.loads((paths[1] / "env.json").read_text())
    write_json(paths[1] / "env.json", env | {"git_revision": "fedcba"})
    out = tmp_path / "pages" / "c.html"
    assert esr(["compare", *map(str, paths), "-o", str(out)]) == 0
    page = Page(out.read_text())
    text = page.section("comparison")
    assert "short is no worse than long: 0.0 points [−1.5, +1.5]" in text
    assert "rollout.max_new_tokens60050" in text and "git_revision0123456789abcdeffedcba" in text
    shown = [e.attributes["id"] for e in page.all("section")]
    assert shown[0] == "comparison" and "summary" not in shown
    for element in page.all("data", "data-derived"):
        _, ours, theirs, end = element.attributes["data-derived"].split(" | ")
        value = getattr(intervals.paired_difference(grades(tmp_path / ours), grades(tmp_path / theirs)), end)
        assert float(element.attributes["value"]) == value and shows(element.text, value)


def test_two_runs_with_different_tasks_stand_apart(tmp_path):
    paths = [make_run(tmp_path / "a" / "run", task="gsm8k"), make_run(tmp_path / "b" / "run", task="math500")]
    text = Page(render(load(paths))).section("results")
    assert "Task: gsm8k Run run" in text and "Task: math500 Run b/run" in text


def test_a_study_alone_and_one_that_compares_no_lengths(home):
    alone = Page(render(load([home / "sweep"])))
    assert "the middle of the early-stopped arms" in alone.section("summary")
    assert "esr analyze decay RUN" in alone.section("absent")
    other = Page(render(load([home / "selections"])))
    assert "no verdict on N" in other.section("summary")
    assert "top student entropy" in other.section("selection")


@pytest.mark.parametrize("content", ['{"kind": "decay"', "[]", '{"kind": "decay"}', "\x00\xff", '{"kind": "new"}'])
def test_a_corrupt_record_is_trouble_and_no_traceback(tmp_path, content):
    path = make_run(tmp_path / "run")
    (path / "analysis" / "decay.json").write_bytes(content.encode("latin-1"))
    (path / "evals" / "step-000030.jsonl").write_text('{"problem": 1}\n')
    with open(path / "metrics.jsonl", "a") as log:
        log.write('{"step": 31, "lo')
    page = Page(render(load([path])))
    assert "decay.json" in page.section("provenance") and "1 file could not be read" in page.section("summary")
    assert "esr analyze decay" in page.section("absent")


def test_records_without_rows_are_shown_as_such(tmp_path):
    path = make_run(tmp_path / "run")
    run = RunDir(path)
    findings.keep(run, "decay", decay().model_copy(update={"series": []}))
    findings.keep(run, "efficiency", efficiency().model_copy(update={"rows": []}))
    findings.keep(run, "lengths", Lengths(**finding(), max_new_tokens=1, bin_width=1, rows=[]))
    findings.keep(run, "selection", selection(__import__("random").Random(0), "").model_copy(update={"selections": []}))
    profile = load([path]).runs[0].analyses["profile"].record
    for curves in (
        [],
        [profile.curves[0].model_copy(update={"bins": []})],
        [profile.curves[0].model_copy(update={"bins": profile.curves[0].bins[:1]})],
    ):
        findings.keep(run, "profile", profile.model_copy(update={"curves": curves, "inside": None, "beyond": None}))
        assert "Cascading alignment" in render(load([path]))


def test_a_study_in_which_every_run_failed(tmp_path):
    path = make_study(tmp_path / "s")
    study = json.loads((path / "study.json").read_text())
    for arm in study["arms"]:
        arm["seeds"] = [{"seed": 1, "run": "r", "error": "Out of memory."}]
        arm |= dict.fromkeys(("avg", "gain", "difference", "to_teacher", "before", "teacher"))
    write_json(path / "study.json", study)
    page = Page(render(load([path])))
    assert "cannot be judged" in page.section("summary") and "Out of memory." in page.section("results")


def test_the_page_stays_small_whatever_the_rollouts(tmp_path, monkeypatch, data):
    assert len(render(data).encode()) < LARGEST
    path = make_run(tmp_path / "run")
    file = path / "analysis" / "rollouts.json"
    record = json.loads(file.read_text())
    record["rollouts"] *= 16
    write_json(file, record)
    found = load([path])
    assert len(render(found).encode()) < LARGEST
    monkeypatch.setattr("esr.report.page.LARGEST", 10)
    assert "Provenance" in render(found)


def test_bad_paths_are_one_sentence(tmp_path, home, capsys):
    (tmp_path / "study.json").write_text("{")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "broken", home):
        assert esr(["report", str(path), "-o", str(tmp_path / "r.html")]) == 2
        assert not (tmp_path / "r.html").exists()
    assert "neither a run directory" in capsys.readouterr().err
    assert esr(["report", str(home / "lab"), "-o", "/proc/nothing/r.html"]) == 2


def test_report_prints_its_path_or_what_it_holds(tmp_path, home, capsys):
    out = tmp_path / "deep" / "r.html"
    assert esr(["report", str(home / "lab"), str(home / "sweep"), "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.read_text().startswith("<!doctype html>")
    assert esr(["report", str(home / "lab"), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sections"]["decay"] is True and told["sections"]["sweep"] is False and told["trouble"] == []
    assert list(told["sections"]) == [s.id for s in sections(load([home / "lab"]))]


def test_watch_renders_until_the_run_is_complete(tmp_path, monkeypatch, capsys):
    path = make_run(tmp_path / "run", analyses=False, finished=False)

    def finish(seconds: float) -> None:
        assert 'http-equiv="refresh" content="3"' in (path / "report.html").read_text()
        make_run(path, analyses=False)

    monkeypatch.setattr("time.sleep", finish)
    assert esr(["watch", str(path), "--every", "3"]) == 0
    assert 'http-equiv="refresh"' not in (path / "report.html").read_text()
    assert str(path / "report.html") in capsys.readouterr().out
    assert esr(["watch", str(tmp_path)]) == 2
    assert write(path, path / "report.html", 3)


def test_watch_ends_well_when_interrupted(tmp_path, monkeypatch):
    path = make_run(tmp_path / "run", analyses=False, finished=False)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert esr(["watch", str(path)]) == 0
    assert 'http-equiv="refresh"' not in (path / "report.html").read_text()


def test_help_has_an_example():
    from esr.cli.main import app

    for command in ("report", "watch"):
        assert "Example" in CliRunner().invoke(app, [command, "--help"]).output


def test_the_report_loads_no_torch():
    heavy = "{'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)"
    code = f"import sys, esr.report.page, esr.cli.report, esr.cli.watch; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_published_numbers_are_no_data(page):
    for value in ("62.7%", "66.7%", "93.2%"):
        assert all(e.text != value for e in page.all("data"))
    assert "published" in page.html


def test_scales():
    assert nice(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice(0.37, 0.71) == [0.4, 0.5, 0.6, 0.7] and nice(2, 2) == [2]
    bins = Axis("", 0, 100, knots=(0, 10, 100))
    assert [bins.at(v) for v in (0, 5, 10, 55, 100, 999)] == [0, 0.25, 0.5, 0.75, 1, 1]
    log = Axis("", 10, 1000, log=True)
    assert log.at(100) == pytest.approx(0.5)


def test_points_lie_where_the_scale_puts_them():
    line = charts.Line("a", "c1", [Point(0, 0), Point(10, 1)])
    svg = charts.plot("x", [line], Axis("", 0, 10), Axis("", 0, 1)).svg
    for f in frames.FRAMES:
        left, right = f.left, f.width - charts.RIGHT
        assert f'points="{left}.0,{f.height - charts.BOTTOM}.0 {right}.0,{charts.TOP}.0"' in svg


def test_intervals_without_end_are_drawn_and_told():
    wide = Estimate(value=0.5, low=float("-inf"), high=float("inf"), n=1)
    assert format.spoken(wide) == "50.0% [−∞, ∞]"
    point = Point(0, 0.5, float("-inf"), float("inf"))
    assert "nan" not in bars.strip("x", [("a", "c1", point, None)], Axis("", 0, 1)).svg


def test_formats():
    assert [format.points(v) for v in (0.0601, -0.2, -0.0001)] == ["+6.0", "−20.0", "0.0"]
    assert [format.seconds(v) for v in (0.123, 12.34, 200)] == ["0.12 s", "12.3 s", "3 min 20 s"]
    assert [format.times(v) for v in (0.123, 5.96, 1234.5)] == ["0.12×", "6.0×", "1,234×"]
    assert format.nats(-0.0001) == "0.000" and format.count(12345.6) == "12,346"
    assert format.lookup({"a/b": [{"x~": 1}]}, "/a~1b/0/x~0") == 1


def test_sections_come_in_the_order_of_the_page(page):
    assert [e.attributes["id"] for e in page.all("section")] == [
        "summary", "fit", "decay", "how", "tokenizers", "sweep", "profile", "submode", "selection", "results", "efficiency",
        "rollouts", "training", "provenance",
    ]  # fmt: skip
    assert decay_section.TITLE and results_section.TITLE


def test_shares_and_accuracies_meet_only_at_the_same_k(tmp_path):
    run, study = make_run(tmp_path / "run"), make_study(tmp_path / "study", kind="selection")
    together = render(load([run, study]))
    assert "points would rise to the right" in together
    assert "at another K" not in together
    file = study / "study.json" if study.is_dir() else study
    file.write_text(file.read_text().replace('"loss.selection.k": 50', '"loss.selection.k": 60'))
    apart = render(load([run, study]))
    assert "points would rise to the right" not in apart
    assert "at another K" in apart


def test_roles_and_lengths_name_the_arms_and_spelling_does_not(data):
    """An arm is full by its role or if its rollouts may be as long as the evaluation's; a name says nothing."""
    match = contests(data)[0]
    study = match.study.record

    def longest(cap: int, **changes) -> str:
        arms = list(study.arms)
        arms[match.full] = arms[match.full].model_copy(update={"role": None, **changes})
        record = study.model_copy(update={"arms": arms, "base": {"eval": {"max_new_tokens": cap}}})
        return type(match)(type(match.study)(record, match.study.file), match.early, match.full, "").longest

    n = study.arms[match.full].n
    assert longest(n + 1) == longest(n + 1, name="full-rollouts") == "the longest rollouts"
    assert longest(n + 1, role="full") == longest(n) == "full rollouts"


def test_a_study_record_that_joins_its_references_is_read(data):
    record = data.studies[0].record
    assert type(record).model_validate(record.model_dump() | {"reference": "a, b"}).reference == ["a", "b"]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-0.3, -0.1, "is nearer to"), (0.1, 0.3, "farther from"), (-0.1, 0.2, "is not certainly nearer to")],
)
def test_a_smaller_divergence_is_nearer_to_the_teacher(low, high, word):
    first, second = (SimpleNamespace(label=label, last="step-000001") for label in "ab")
    gap = Estimate(value=(low + high) / 2, low=low, high=high, n=9)
    row = SimpleNamespace(closer={"kl_common": gap}, evaluation="step-000001")
    said = re.sub(r"<[^>]+>", "", comparison._nearer([first, second], second, row))
    assert said.startswith("b is") and word in said and "the teacher than a" in said
