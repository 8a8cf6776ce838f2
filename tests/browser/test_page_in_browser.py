"""The page in a real browser: every control does what it says, nothing is fetched, and model text never runs."""

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chromium import Chromium, find
from esr.cli.main import run as esr
from esr.report import page
from esr.report.sections import how, rollouts, submode
from esr.report.sources import Data, load
from esr.runs.files import write_json
from make_fixtures import make_run, make_study

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>window.hacked=1</script>\"><img src=x onerror=window.hacked=1><svg onload='window.hacked=1'>"
    '<!--<script>" onmouseover="window.hacked=1" \u2028{{ 7*7 }}\n'
)
IDS = [module.__name__.rsplit(".", 1)[-1] for module in page.order()]
AXE_RUN = (
    "axe.run(document).then((r) => r.violations.map((v) => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]))"
)
AXE = Path(__file__).parents[2] / ".venv-axe" / "axe_playwright_python" / "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    program = find()
    assert program, "there is no Chromium: `make browser` installs it, or set CHROMIUM to its path"
    chromium = Chromium(program)
    yield chromium
    chromium.close()


def write(folder: Path, name: str, *paths: Path) -> Path:
    file = folder / f"{name}.html"
    file.write_text(page.render(load(list(paths))), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """`lab` with real line breaks, a terminator and longer responses than N; two studies."""
    folder = tmp_path_factory.mktemp("browser")
    run = make_run(folder / "lab")
    file = run / "analysis" / "rollouts.json"
    record, rng = json.loads(file.read_text()), random.Random(3)
    for i, view in enumerate(record["rollouts"]):
        view["problem"] = f"p{i // 2}"
        for j, token in enumerate(view["tokens"]):
            token |= {"token": f" word{j}", "student_entropy": round(rng.random(), 4), "teacher_rank": 1 + (i + j) % 9}
        view["tokens"][7]["token"] = ".\n"
        view["tokens"][-1]["token"] = "<|im_end|>"
    write_json(file, record)
    make_study(folder / "sweep")
    make_study(folder / "selections", "selection")
    return folder


@pytest.fixture(scope="module")
def data(home) -> Data:
    return load([home / "lab", home / "sweep", home / "selections"])


@pytest.fixture(scope="module")
def report(home) -> Path:
    return write(home, "report", home / "lab", home / "sweep", home / "selections")


@pytest.fixture
def opened(browser, report) -> Chromium:
    return browser.open(report)


def test_loads_in_silence_and_fetches_nothing(browser, report):
    for width, dark in ((1280, False), (390, True)):
        shown = browser.open(report, width, dark)
        for ident in IDS:
            shown.js(f"document.getElementById('{ident}').scrollIntoView()")
        assert shown.trouble() == []
        assert [u for u in shown.requests() if u != "data:,"] == [report.as_uri()]
    assert shown.js("performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0
    assert shown.js("Object.keys(window).filter((k) => /toy|rollouts|settings|theme/i.test(k)).length") == 0


def test_all_sections_are_shown(opened):
    assert opened.js("Array.from(document.querySelectorAll('main > section'), (s) => s.id)") == IDS
    assert all(opened.js(f"document.getElementById('{i}').getBoundingClientRect().height") > 100 for i in IDS)
    opened.click('nav a[href="#rollouts"]')
    assert abs(opened.js("document.getElementById('rollouts').getBoundingClientRect().top")) < 120


@pytest.mark.parametrize("width", [360, 390, 320, 768, 1280])
def test_no_chart_is_cut_at_any_width(browser, report, width):
    shown = browser.open(report, width)
    shown.js("for (const d of document.querySelectorAll('details')) d.open = true")
    boxes = shown.js(
        "Array.from(document.querySelectorAll('.chart')).filter((c) => c.getClientRects().length)"
        ".map((c) => { const b = c.getBoundingClientRect(); return [b.left, b.right, b.width]; })"
    )
    assert len(boxes) > 8
    assert all(left >= 0 and right <= width and wide > 200 for left, right, wide in boxes)
    outside = shown.js(
        "Array.from(document.querySelectorAll('.chart text')).filter((t) => t.getClientRects().length).filter((t) => {"
        " const c = t.closest('svg').getBoundingClientRect(), b = t.getBoundingClientRect();"
        " return b.left < c.left - 1 || b.right > c.right + 1 || b.top < c.top - 1 || b.bottom > c.bottom + 1; })"
        ".map((t) => [t.closest('section').id, t.textContent])"
    )
    assert outside == []


def test_the_first_column_of_a_wide_table_stays(browser, report):
    shown = browser.open(report, 390)
    left = "document.querySelector('#results .scroll tbody th').getBoundingClientRect().left"
    before = shown.js(left)
    assert (
        shown.js(
            "(() => { const t = document.querySelector('#results .scroll'); t.scrollLeft = 200; return t.scrollLeft; })()"
        )
        == 200
    )
    assert shown.js(left) == before


def test_controls_come_on_demand_and_published_values_can_go(opened):
    seen = lambda layer: opened.js(  # noqa: E731
        f"document.querySelector('#decay-chart-0 .chart.wide [data-layer={layer}]').getClientRects().length > 0"
    )
    assert not seen("controls") and seen("published")
    for name, then in (("controls", (True, True)), ("published values", (True, False)), ("controls", (False, False))):
        opened.js(
            "Array.from(document.querySelectorAll('#decay-chart-0 .layers button'))"
            f".find((b) => b.textContent === '{name}').click()"
        )
        assert (seen("controls"), seen("published")) == then


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_no_violation(browser, report, width, dark):
    assert AXE.exists(), "axe-core is not there: `make browser` fetches it"
    shown = browser.open(report, width, dark)
    shown.js("for (const d of document.querySelectorAll('details')) d.open = true")
    shown.js(AXE.read_text(encoding="utf-8") + "\n0")
    assert shown.js(AXE_RUN) == []


def test_axe_finds_no_violation_on_a_live_page_and_a_comparison(browser, home, tmp_path):
    other = make_run(tmp_path / "other", n=100)
    assert esr(["compare", str(home / "lab"), str(other), "-o", str(tmp_path / "comparison.html")]) == 0
    unfinished = make_run(tmp_path / "going", analyses=False, finished=False)
    (tmp_path / "live.html").write_text(page.render(load([unfinished]), refresh=600), encoding="utf-8")
    for name in ("comparison", "live"):
        shown = browser.open(tmp_path / f"{name}.html")
        shown.js("for (const d of document.querySelectorAll('details')) d.open = true")
        shown.js(AXE.read_text(encoding="utf-8") + "\n0")
        assert shown.js(AXE_RUN) == [], name


def test_a_live_page_loads_itself_again_until_it_is_paused_and_keeps_open_what_was(browser, tmp_path):
    run = make_run(tmp_path / "going", analyses=False, finished=False)
    (tmp_path / "live.html").write_text(page.render(load([run]), refresh=3), encoding="utf-8")
    shown = browser.open(tmp_path / "live.html")
    toggle = "(() => { window.first = true; const d = document.querySelector('details'); return d.open = !d.open; })()"
    was = shown.js(toggle)
    shown.events.clear()
    shown.wait_for("Page.loadEventFired")
    assert not shown.js("Boolean(window.first)")
    assert shown.js("document.querySelector('details').open") == was
    shown.click("#live")
    shown.js("window.second = true; 0")
    time.sleep(4)
    assert shown.js("window.second") is True and shown.js("document.getElementById('live').ariaPressed") == "true"


@pytest.mark.parametrize("width", [390, 320, 768])
def test_a_narrow_screen_has_no_sideways_scroll(browser, report, width):
    shown = browser.open(report, width)
    shown.js("for (const d of document.querySelectorAll('details')) d.open = true")
    assert shown.js("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]


# Theme


def test_theme(browser, report):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.open(report).js(ground)
    dark = browser.open(report, dark=True).js(ground)
    assert light == "rgb(253, 252, 249)" and dark == "rgb(22, 22, 20)"
    seen = [(browser.text("#theme"), browser.js(ground))]
    for _ in range(3):
        browser.click("#theme")
        seen.append((browser.text("#theme"), browser.js(ground)))
    names = [f"Theme: {name}" for name in ("system", "light", "dark", "system")]
    assert seen == list(zip(names, (dark, light, dark, dark)))


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_on_every_colour(browser, report, dark):
    shown = browser.open(report, dark=dark)
    worst = shown.js("""(() => {
      const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const rgb = (colour, under) => { canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1); return Array.from(canvas.getImageData(0, 0, 1, 1).data).slice(0, 3); };
      const light = (c) => { const [r, g, b] = c.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
      const paper = getComputedStyle(document.body).backgroundColor;
      return Array.from(document.querySelectorAll('.heat-key .tok, #reader .tok')).map((e) => {
        const s = getComputedStyle(e); return ratio(rgb(s.color, paper), rgb(s.backgroundColor, paper)); })
        .reduce((a, b) => Math.min(a, b), 21);
    })()""")
    assert worst >= 4.5


def each(browser: Chromium, arguments: str) -> list:
    """`'selector', (element) => value` for every element."""
    selector, value = arguments.split("', ", 1)
    return browser.js(f"Array.from(document.querySelectorAll({selector}'), {value})")


# Decay, profile, efficiency, provenance


def test_decay_slider_says_what_lies_inside(opened):
    width = "Number(document.querySelector('#decay-chart-0 .window').getAttribute('width'))"
    said, drawn = opened.text("#decay-says-0"), opened.js(width)
    opened.focus("#decay-n-0")
    opened.key("ArrowRight")
    assert opened.text("#decay-says-0") != said and "N = 100" in opened.text("#decay-says-0")
    assert opened.js(width) > drawn and "N = 100" in opened.text("#decay-chart-0 .window-name")
    opened.key("Home")
    assert "N = 0" in opened.text("#decay-says-0") and opened.js(width) == 0


def shown_pane(browser: Chromium, name: str) -> list[str]:
    """Labels of the panes that can be seen, and of the buttons that are pressed."""
    panes = f"""'[data-panes="{name}"] > .pane:not([hidden])', (p) => p.dataset.label"""
    buttons = f"""'[data-panes="{name}"] button[aria-pressed=true]', (b) => b.textContent"""
    return each(browser, panes) + each(browser, buttons)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("trajectories", ["Common trajectories", "Each model's own"]), ("against", ["steps", "tokens", "seconds"])],
)
def test_panes_show_one_at_a_time(opened, name, labels):
    seen = []
    for i, label in enumerate(labels):
        opened.click(f'[data-panes="{name}"] .choose button:nth-child({i + 1})')
        now = shown_pane(opened, name)
        assert len(now) == 2 and now[0] == now[1] and now[0].lower().endswith(label.lower())
        seen.append(
            opened.js(f"document.querySelector('[data-panes=\"{name}\"] > .pane:not([hidden]) .chart').outerHTML")
        )
    assert len(set(seen)) == len(labels)


def test_hovering_a_point_shows_its_value(opened):
    x, y = opened.point("#decay-chart-0 .pt .mark")
    says = opened.js(f"document.elementFromPoint({x}, {y}).closest('.pt').querySelector('title').textContent")
    opened.mouse("mouseMoved", (x, y))
    assert opened.text(".tip") == " ".join(says.split()) and re.search(r"\d%", says)
    opened.mouse("mouseMoved", (5, 5))
    assert opened.js("document.querySelector('.tip').hidden") is True


def test_the_download_holds_every_record(opened, data, tmp_path):
    got = json.loads(opened.download("#download", tmp_path, "esr-report.json").read_text(encoding="utf-8"))
    assert set(got) == {"numbers", "rollouts", "toy"}
    assert opened.trouble() == []
    for name, found in data.sources().items():
        if name.endswith(".json") and getattr(found.record, "kind", "") != "rollouts":
            raw = json.loads(found.file.read_text())
            assert all(got["numbers"][name][k] == v for k, v in raw.items() if k in got["numbers"][name]), name
    kept, record = got["rollouts"], data.runs[0].analyses["rollouts"].record
    back = [[dict(zip(kept["fields"], row)) for row in r["tokens"]] for r in kept["rollouts"]]
    for views, original in zip(back, record.rollouts, strict=True):
        for row, token in zip(views, original.tokens, strict=True):
            assert kept["strings"][row["token"]] == token.token and row["reverse_kl"] == token.reverse_kl
            names, values = row["teacher_top"][::2], row["teacher_top"][1::2]
            assert [(kept["strings"][i], p) for i, p in zip(names, values)] == token.teacher_top


# How it works


def test_the_window_of_training(opened, data):
    record = data.runs[0].analyses["rollouts"].record
    n = data.runs[0].config.rollout.max_new_tokens
    tokens = record.rollouts[how.choose(record.rollouts, n)].tokens
    kl = np.array([t.reverse_kl for t in tokens])
    assert opened.js("Number(document.querySelector('#window-says [data-share]').value)") == pytest.approx(
        kl[:n].sum() / kl.sum()
    )
    assert f"{100 * kl[:n].sum() / kl.sum():.1f}% of the summed reverse KL" in opened.text("#window-says")
    dim = "Array.from(document.querySelectorAll('#window .tokens .tok'), (e) => getComputedStyle(e).textDecorationLine === 'line-through')"
    assert opened.js(dim) == [i >= n for i in range(len(tokens))]
    opened.click('#window [data-set="state"] [data-value="full"]')
    assert not any(opened.js(dim)) and f"all {len(tokens)} tokens" in opened.text("#window-says")
    opened.click('#window [data-set="state"] [data-value="esr"]')
    assert "first 50 of these 120 tokens" in opened.text("#window-says") and sum(opened.js(dim)) == len(tokens) - n


def test_the_window_can_be_coloured_by_three_measures(opened, data):
    record = data.runs[0].analyses["rollouts"].record
    n = data.runs[0].config.rollout.max_new_tokens
    tokens = record.rollouts[how.choose(record.rollouts, n)].tokens
    colours = "Array.from(document.querySelectorAll('#window .tokens .tok'), (e) => Number(getComputedStyle(e).getPropertyValue('--a')))"
    for key, name in how.MEASURES:
        opened.click(f'#window [data-value="{key}"]')
        values = [getattr(t, key) for t in tokens]
        assert opened.js(colours) == [float(rollouts.heat(v)) for v in values]
        assert opened.text("#window-measure") == name
        assert opened.text("#window-mean") == (
            f"a token on average: {np.mean(values[:n]):.3f} nats inside the window, {np.mean(values[n:]):.3f} nats beyond it"
        )


# The toy


def kls(teacher: np.ndarray, place: float, width: float) -> tuple[float, float]:
    """Forward and reverse KL by numpy."""
    logits = -0.5 * ((np.arange(len(teacher)) - place) / width) ** 2
    p = np.exp(logits) / np.exp(logits).sum()
    log_p = logits - np.log(np.exp(logits).sum())
    return float((teacher * (np.log(teacher) - log_p)).sum()), float((p * (log_p - np.log(teacher))).sum())


def check_toy(browser: Chromium, place: float, width: float, near: float = 1e-9) -> None:
    """What the page says of both divergences and their slopes, against numpy and central differences."""
    teacher = np.array(json.loads(browser.js("document.getElementById('data-toy').textContent"))["teacher"])
    assert teacher.sum() == pytest.approx(1)
    exact = kls(teacher, place, width)
    slopes = [(a - b) / 2e-5 for a, b in zip(kls(teacher, place + 1e-5, width), kls(teacher, place - 1e-5, width))]
    for kind, value, slope in zip(("forward", "reverse"), exact, slopes):
        assert browser.value(f"#toy-{kind}") == pytest.approx(value, rel=near)
        assert float(browser.text(f"#toy-{kind}")) == pytest.approx(value, abs=6e-4)
        assert browser.value(f"#toy-{kind}-slope") == pytest.approx(slope, abs=max(near, 1e-6))
        assert browser.text(f"#toy-{kind}-moves") == ("left" if slope > 0 else "right")


def test_the_toy_without_script_and_with_it_agree(browser, report):
    place, width = submode.START
    now = submode.divergences(submode.teacher(), place, width)
    assert (now["forward"], now["reverse"]) == pytest.approx(kls(np.array(submode.teacher()), place, width))
    shapes = "Array.from(document.querySelectorAll('.toy path'), (p) => p.getAttribute('d')).join(' ')"
    browser.open(report)
    check_toy(browser, place, width)
    drawn = [float(v) for v in re.findall(r"[\d.]+", browser.js(shapes))]
    browser.js("document.getElementById('toy-place').dispatchEvent(new Event('input'))")
    check_toy(browser, place, width)
    assert [float(v) for v in re.findall(r"[\d.]+", browser.js(shapes))] == pytest.approx(drawn, abs=0.11)


def test_the_student_moves_by_keyboard(opened):
    place, width = submode.START
    before = opened.js("document.querySelector('.toy .student').getAttribute('d')")
    opened.focus("#toy-place")
    opened.key("ArrowLeft", 13)
    check_toy(opened, place - 1.3, width)
    opened.focus("#toy-width")
    opened.key("ArrowRight", 7)
    check_toy(opened, place - 1.3, width + 0.7)
    assert opened.js("document.querySelector('.toy .student').getAttribute('d')") != before
    opened.key("Home")
    check_toy(opened, place - 1.3, submode.WIDTHS[0])


def test_the_student_moves_by_pointer(opened):
    before = opened.text("#toy-reverse")
    for target in (0.25, 0.68):
        opened.drag(".toy", (0.5, 0.4), (target, 0.45))
        place = (480 * target - submode.LEFT) / (submode.RIGHT - submode.LEFT) * (submode.BINS - 1)
        assert opened.text("#toy-reverse") != before
        check_toy(opened, place, submode.START[1], near=1e-5)  # the pointer is at a whole part of a pixel
        assert float(opened.js("document.getElementById('toy-place').value")) == pytest.approx(place, abs=0.051)
    opened.mouse("mouseMoved", opened.point(".toy", 0.4, 0.4))
    check_toy(opened, place, submode.START[1], near=1e-5)


def test_descent_ends_on_one_mode_or_between_both(opened):
    def place() -> float:
        return float(opened.js("document.getElementById('toy-place').value"))

    opened.click('[data-descend="reverse"]')
    assert abs(place() - submode.MODES[1][0]) < 0.5 and opened.text("#toy-reverse-moves") == "rests"
    opened.click('[data-descend="forward"]')
    mean = sum(i * t for i, t in enumerate(submode.teacher()))
    assert place() == pytest.approx(mean, abs=0.1) and opened.text("#toy-forward-moves") == "rests"


# Real positions


def test_real_positions_one_at_a_time(opened, data):
    record = data.runs[0].analyses["submode"].record
    seen = "Array.from(document.querySelectorAll('.position:not([hidden])'), (p) => p.innerText)"
    for i in (0, len(record.bimodal) - 1, 1):
        opened.choose("#submode-position-0", i)
        (text,) = opened.js(seen)
        assert f"reverse KL {record.bimodal[i].reverse_kl:.3f} nats" in text
        for candidate in record.bimodal[i].candidates:
            assert f"{100 * candidate.student:.1f}%" in text and f"{100 * candidate.teacher:.1f}%" in text
    bars = "'.position:not([hidden]) tbody tr td:nth-child(2) .inbar'"
    widths = each(opened, f"{bars}, (e) => e.style.getPropertyValue('--w')")
    assert widths == [f"{100 * c.teacher:.1f}%" for c in record.bimodal[1].candidates]


def test_published_shares_stand_apart(opened):
    assert "published: ESR, N = 100 79% 41.9% 47.4% 10.7%" in " ".join(
        opened.js("document.querySelector('.commitment .ghost').innerText").split()
    )
    assert opened.js("document.querySelectorAll('.commitment .ghost data').length") == 0


# Rollouts


def articles(browser: Chromium) -> list[str]:
    return browser.js("Array.from(document.querySelectorAll('#reader article .state'), (e) => e.textContent)")


def test_filters(opened):
    assert articles(opened) == ["before training · right · 120 tokens", "after training · wrong · 120 tokens"]
    assert "6 of 6 responses" in opened.text("#rollouts-count")
    opened.click('[data-filter="grade"] [data-value="wrong"]')
    assert articles(opened) == ["after training · wrong · 120 tokens"]
    assert "2 of 6 responses" in opened.text("#rollouts-count")
    pressed = "Array.from(document.querySelectorAll('#reader [aria-pressed=true]'), (b) => b.textContent)"
    assert opened.js(pressed) == ["wrong", "both"]
    opened.click('[data-filter="model"] [data-value="before"]')
    assert articles(opened) == ["before training · wrong · 120 tokens, cut by the length limit"]
    assert opened.js("Array.from(document.querySelector('#rollouts-problem').options, (o) => o.textContent)") == ["p2"]
    opened.click('[data-filter="grade"] [data-value="ungraded"]')
    assert articles(opened) == ["before training · not graded · 120 tokens"]
    opened.click('[data-filter="model"] [data-value="after"]')
    assert articles(opened) == [] and "No response passes" in opened.text("#rollouts-responses")
    assert opened.js("document.querySelector('#rollouts-problem').disabled") is True
    opened.click('[data-filter="grade"] [data-value="all"]')
    opened.choose("#rollouts-problem", 2)
    assert (
        opened.js("document.querySelector('#rollouts-problem').value").endswith('"p2"]')
        and "right" in articles(opened)[0]
    )


def panel_of(token) -> list[str]:
    """What the panel has to say of a `TokenView`."""
    tops = [
        who + "".join(f"{name}{100 * p:.1f}%" for name, p in top)
        for who, top in (("Student", token.student_top), ("Teacher", token.teacher_top))
    ]
    numbers = (
        ("reverse KL", token.reverse_kl),
        ("student's entropy", token.student_entropy),
        ("teacher's entropy", token.teacher_entropy),
    )
    ranks = [f"student's rank{token.student_rank}", f"teacher's rank{token.teacher_rank}"]
    return [*tops, *(f"{name}{value:.3f} nats" for name, value in numbers), *ranks]


def test_focus_and_arrow_keys_fill_the_panel(opened, data):
    view = data.runs[0].analyses["rollouts"].record.rollouts[0]
    assert opened.js("document.querySelector('#rollouts-panel').getAttribute('aria-live')") == "polite"
    in_order = each(opened, "'#reader article:nth-of-type(1) .tok', (e) => e.tabIndex")
    assert in_order == [0] + [-1] * 119
    opened.focus("#rollouts-problem")
    opened.key("Tab")
    keys = (
        ("", 0),
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 119),
        ("ArrowRight", 119),
        ("Home", 0),
    )
    for key, place in keys:
        if key:
            opened.key(key)
        said = opened.text("#rollouts-panel")
        assert f"token {place + 1} of 120" in said
        for part in panel_of(view.tokens[place]):
            assert part in said, (key, part)
        assert opened.js("document.activeElement.dataset.i") == str(place)
    opened.key("ArrowDown")
    below = int(opened.js("document.activeElement.dataset.i"))
    assert 1 < below < 119
    opened.key("ArrowUp")
    assert opened.js("document.activeElement.dataset.i") == "0"
    opened.key("Tab")
    assert (
        opened.js("document.activeElement.closest('article') === document.querySelectorAll('#reader article')[1]")
        is True
    )


def test_hovering_a_token_fills_the_panel(opened, data):
    view = data.runs[0].analyses["rollouts"].record.rollouts[1]
    opened.hover('#reader article:last-child .tok[data-i="33"]')
    said = opened.text("#rollouts-panel")
    assert all(part in said for part in panel_of(view.tokens[33])) and "token 34 of 120" in said
    assert opened.js("document.querySelectorAll('#reader .now').length") == 1


def test_tokens_show_line_breaks_terminators_and_colours(opened, data):
    view = data.runs[0].analyses["rollouts"].record.rollouts[0]
    text = opened.js("document.querySelector('#reader article .tokens').textContent")
    assert text == "".join(rollouts.shown(t.token) for t in view.tokens) and ".↵\n" in text
    top = "document.querySelector('#reader article .tok[data-i=\"{}\"]').getBoundingClientRect().top"
    assert opened.js(top.format(8)) > opened.js(top.format(6))
    assert opened.text("#reader article .tok.end") == "<|im_end|>"
    colours = opened.js(
        "Array.from(document.querySelectorAll('#reader article:nth-of-type(1) .tok'), (e) => Number(e.style.getPropertyValue('--a')))"
    )
    assert colours == pytest.approx([float(rollouts.heat(t.reverse_kl)) for t in view.tokens], abs=0.0101)
    assert (
        opened.js(
            "Array.from(document.querySelectorAll('#reader article:nth-of-type(1) .tok')).findIndex((e) => e.matches('.last-in'))"
        )
        == 49
    )


# Without script, on paper, and under attack


def test_without_script_all_is_readable(browser, report, data):
    shown = browser.open(report, script=False)
    tree = shown.call("DOM.getDocument", depth=-1, pierce=True)["root"]

    def walk(node):
        yield node
        for child in node.get("children", []):
            yield from walk(child)

    attributes = [dict(zip(n.get("attributes", [])[::2], n.get("attributes", [])[1::2])) for n in walk(tree)]
    assert not any("script-only" in a.get("class", "") and "hidden" not in a for a in attributes)
    assert sum(a.get("class", "").startswith("tok") and "--a" in a.get("style", "") for a in attributes) >= 2 * 120
    text = shown.call("DOM.getOuterHTML", nodeId=tree["nodeId"])["outerHTML"]
    assert "summed reverse KL" in text and "data-index" in text


def test_prints(opened):
    sheets = opened.pdf()
    assert sheets.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b(?!s)", sheets)) > 1
    assert opened.trouble() == []
    opened.js("document.documentElement.setAttribute('data-theme', 'dark')")
    opened.call("Emulation.setEmulatedMedia", media="print")
    hidden = ("nav", "#theme", ".layers", "#rollouts-panel", "#reader .controls", ".toy-controls")
    assert all(opened.js(f"getComputedStyle(document.querySelector('{s}')).display") == "none" for s in hidden)
    assert opened.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.js("document.documentElement.removeAttribute('data-theme')")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    opened.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert opened.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_hostile_text_never_runs(browser, tmp_path):
    run = make_run(tmp_path / "run", task="gsm8k", text=HOSTILE)
    file = run / "analysis" / "rollouts.json"
    record = json.loads(file.read_text())
    for view in record["rollouts"]:
        view["problem"] += HOSTILE
        view["tokens"][0]["token"] = HOSTILE
        view["tokens"][0]["student_top"][0][0] = HOSTILE
    write_json(file, record)
    report = write(tmp_path, "hostile", run, make_study(tmp_path / "study", text=HOSTILE))
    shown = browser.open(report)
    shown.js("for (const d of document.querySelectorAll('details')) d.open = true")
    shown.focus('#reader .tok[data-i="0"]')
    assert "window.hacked=1</script>" in shown.text("#rollouts-panel")
    assert HOSTILE.split("\n")[0] in shown.js("document.querySelector('#reader .question').textContent")
    for i in range(6):
        shown.choose("#rollouts-problem", i)
        shown.choose("#submode-position-0", min(i, 3))
    for group in ("grade", "model"):
        shown.click(f'[data-filter="{group}"] [data-value="all"]')
    shown.js("for (const p of document.querySelectorAll('.pt')) p.dispatchEvent(new PointerEvent('pointerenter'))")
    shown.js("for (const b of document.querySelectorAll('button:not(#download)')) b.click()")
    assert shown.js("typeof window.hacked") == "undefined"
    assert (
        shown.js("document.querySelectorAll('main img, main svg[onload], main [onerror], main [onmouseover]').length")
        == 0
    )
    assert shown.trouble() == []
    assert [u for u in shown.requests() if u != "data:,"] == [report.as_uri()]
    assert len(shown.pdf()) > 10_000


def test_pages_with_little_on_them(browser, tmp_path):
    run = make_run(tmp_path / "run", analyses=False)
    study = make_study(tmp_path / "study")
    for name, paths in (("run", [run]), ("study", [study])):
        shown = browser.open(write(tmp_path, name, *paths))
        assert shown.trouble() == []
        assert "esr analyze rollouts" in shown.text("#absent") and "esr analyze rollouts" in shown.text("#how")
        assert "esr analyze submode" in shown.text("#submode")
        before = shown.text("#toy-reverse")
        shown.focus("#toy-place")
        shown.key("ArrowLeft")
        assert shown.text("#toy-reverse") != before


def test_the_bench_of_the_page_reads_the_browsers_clock(report):
    bench = Path(__file__).parents[2] / "bench" / "page.py"
    done = subprocess.run([sys.executable, str(bench), str(report), "--times", "1"], capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["bytes"] == report.stat().st_size > found["compressed"] > 0
    assert len(found["screens"]) == 3
    for at in found["screens"].values():
        assert 0 < at["first_paint"] <= at["first_content"] <= at["complete"] and at["interactive"] <= at["complete"]
