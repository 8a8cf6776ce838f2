"""Sub-mode commitment: a distribution to play with, real positions with two modes, and how sure each model is."""

import math
from typing import Any

from markupsafe import Markup

from esr.report.figure import BY_RESPONSE, Table, source_line
from esr.report.format import change_nats, datum, estimate, nats
from esr.report.section import Section
from esr.report.sources import Data, Found, Run

TITLE = "Sub-mode commitment"
BINS = 41
MODES = ((13.0, 2.2, 0.6), (27.0, 2.2, 0.4))
"""Place, width and weight of the toy teacher's modes."""
FLOOR = 0.03
"""Share of the toy teacher's probability that lies evenly everywhere, as a language model's does."""
START = (23.0, 3.0)
"""Place and width of the toy student at first."""
PLACES = (2.0, 38.0)
WIDTHS = (2.0, 8.0)
PUBLISHED = (
    ("published: student", "71%", "28.6%", "59.8%", "11.5%"),
    ("published: full OPD", "77%", "45.7%", "44.6%", "9.7%"),
    ("published: ESR, N = 100", "79%", "41.9%", "47.4%", "10.7%"),
)
"""Top tenth of positions by KL after training, n = 110,894 tokens, one seed (arXiv:2605.27028)."""
COLUMNS = (
    "model",
    "probability of its first choice",
    "teacher's first choice",
    "teacher's 2nd to 5th",
    "beyond",
    "positions",
)

# Where the picture of the toy lies in its 480 x 350 box.
LEFT, RIGHT, FOOT, TALL, MOST = 26.0, 466.0, 168.0, 160.0, 0.2
LOW, HIGH, NATS = 336.0, 206.0, 5.0


def view(data: Data) -> Section:
    """The toy is always there; positions and table come from the records."""
    found = data.all("submode")
    context = {
        "toy": toy(),
        "published": PUBLISHED,
        "columns": COLUMNS,
        "runs": [_run(run, f, i) for i, (run, f) in enumerate(found)],
        "command": data.command("submode"),
    }
    return Section("submode", TITLE, "submode.html", context)


# The toy


def peak(place: float, width: float) -> list[float]:
    """A Gaussian over the bins, normalised."""
    heights = [math.exp(-((i - place) ** 2) / (2 * width**2)) for i in range(BINS)]
    return [h / sum(heights) for h in heights]


def teacher() -> list[float]:
    """Two modes over a floor."""
    modes = [(weight, peak(place, width)) for place, width, weight in MODES]
    return [FLOOR / BINS + (1 - FLOOR) * sum(weight * p[i] for weight, p in modes) for i in range(BINS)]


def divergences(target: list[float], place: float, width: float) -> dict[str, float]:
    """Forward and reverse KL of the student's peak, and their derivatives by its place, all exact sums over the bins."""
    logits = [-((i - place) ** 2) / (2 * width**2) for i in range(BINS)]
    total = math.log(sum(map(math.exp, logits)))
    log_p = [v - total for v in logits]
    p = list(map(math.exp, log_p))
    slope = [(i - place) / width**2 for i in range(BINS)]
    mean = sum(map(math.prod, zip(p, slope)))
    score = [s - mean for s in slope]
    gaps = [(lp, math.log(t)) for lp, t in zip(log_p, target)]
    return {
        "forward": sum(t * (lt - lp) for t, (lp, lt) in zip(target, gaps)),
        "forward_slope": -sum(map(math.prod, zip(target, score))),
        "reverse": sum(q * (lp - lt) for q, (lp, lt) in zip(p, gaps)),
        "reverse_slope": sum(q * s * (lp - lt) for q, s, (lp, lt) in zip(p, score, gaps)),
    }


def toy() -> dict[str, Any]:
    """What the template and the script need: the same picture, drawn once here and again whenever something moves."""
    target, (place, width) = teacher(), START
    now = divergences(target, place, width)
    settings = {
        "bins": BINS,
        "teacher": target,
        "place": place,
        "width": width,
        "places": PLACES,
        "nats": NATS,
        "most": MOST,
        "box": {"left": LEFT, "right": RIGHT, "foot": FOOT, "tall": TALL, "low": LOW, "high": HIGH},
    }
    values = {"forward": nats, "reverse": nats, "forward_slope": change_nats, "reverse_slope": change_nats}
    return {
        "settings": settings,
        "place": place,
        "width": width,
        "places": PLACES,
        "widths": WIDTHS,
        "bars": [(x(i) - 4, FOOT - height(t), height(t)) for i, t in enumerate(target)],
        "student": outline(peak(place, width)),
        "curves": {k: curve(target, width, k) for k in ("forward", "reverse")},
        "dots": {k: kl_height(now[k]) for k in ("forward", "reverse")},
        "at": x(place),
        "says": {k: (now[k], form(now[k])) for k, form in values.items()},
    }


def x(place: float) -> float:
    return LEFT + (RIGHT - LEFT) * place / (BINS - 1)


def height(probability: float) -> float:
    return TALL * min(1.0, probability / MOST)


def kl_height(value: float) -> float:
    return LOW - (LOW - HIGH) * min(value / NATS, 1.04)


def outline(p: list[float]) -> str:
    """The student's peak as the `d` of a path."""
    top = "L".join(f"{x(i):.1f},{FOOT - height(v):.1f}" for i, v in enumerate(p))
    return f"M{x(0):.1f},{FOOT}L{top}L{x(BINS - 1):.1f},{FOOT}Z"


def curve(target: list[float], width: float, kind: str) -> str:
    """KL against the student's place, as the `d` of a path; left out where it is above the axis."""
    path, drawing = "", False
    for step in range(round(5 * PLACES[0]), round(5 * PLACES[1]) + 1):
        value = divergences(target, step / 5, width)[kind]
        inside = value <= NATS
        path += f"{'L' if drawing else 'M'}{x(step / 5):.1f},{kl_height(value):.1f}" if inside else ""
        drawing = inside
    return path


# The run


def _run(run: Run, found: Found, number: int) -> dict[str, Any]:
    record = found.record
    rows = [_row(run, found, i) for i in range(len(record.rows))]
    kl = record.divergence.replace("_kl", " KL")
    whose = "the untrained student’s positions" if record.decile == "shared" else "each model’s own positions"
    where = "each model’s own responses" if record.trajectories == "own" else "the untrained student’s responses"
    words = f"The tenth of all response positions with the largest {kl} from the teacher; {whose}, on {where}."
    return {
        "label": run.label,
        "number": number,
        "table": Table(COLUMNS, rows, "At the positions of largest divergence"),
        "words": words,
        "source": source_line(found, "/rows/0/top1/n", "responses", BY_RESPONSE) if record.rows else "",
        "positions": [_position(found, i) for i in range(len(record.bimodal))],
        "share": datum(found, "/bimodal_share"),
        "after": any(p.after for p in record.bimodal),
        "file": found.source,
        "rule": str(record.settings.get("bimodal", "")).replace(">=", "≥"),
    }


def _row(run: Run, found: Found, i: int) -> tuple[Any, ...]:
    at = f"/rows/{i}"
    names = {"before": "student, before", "after": f"{run.label}, after (N = {run.config.rollout.stops_at})"}
    model = found.record.rows[i].model
    shares = (estimate(found, f"{at}/{key}") for key in ("top1", "rank_1", "rank_2_5", "rank_beyond"))
    return (names.get(model, model), *shares, datum(found, f"{at}/positions", "count"))


def _position(found: Found, i: int) -> dict[str, Any]:
    """A real position: one row for each candidate, with (number, length of the bar) for each model."""
    p = found.record.bimodal[i]
    at = f"/bimodal/{i}"
    rows = []
    for j, candidate in enumerate(p.candidates):
        here = f"{at}/candidates/{j}"
        cells = [_bar(found, f"{here}/teacher", candidate.teacher), _bar(found, f"{here}/student", candidate.student)]
        if j < len(p.after):
            cells.append(_bar(found, f"{at}/after/{j}/student", p.after[j].student))
        rows.append((visible(candidate.token), cells))
    label = f"{i + 1}. {' or '.join(visible(c.token) for c in p.candidates[:2])} · token {p.position} of {p.problem}"
    return {
        "label": label,
        "context": p.context,
        "rows": rows,
        "kl": datum(found, f"{at}/reverse_kl", "nats"),
        "problem": p.problem,
        "position": datum(found, f"{at}/position", "count"),
        "after": bool(p.after),
    }


def _bar(found: Found, pointer: str, value: float) -> tuple[Markup, str]:
    return datum(found, pointer), f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def visible(token: str) -> str:
    """With marks for a line break and for spaces."""
    return token.replace("\r\n", "\n").replace("\n", "↵").replace(" ", "␣")
