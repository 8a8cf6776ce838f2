"""Is it position, or the largest signal? What each selection keeps of the divergence, and what training on it gives."""

from markupsafe import Markup

from esr.config.keys import flatten
from esr.records.study import Arm, Study
from esr.report import bars, charts
from esr.report.contests import selection_of, selections, stops_early
from esr.report.figure import BY_RESPONSE, BY_SEED_AND_PROBLEM, Figure, Table, source_line
from esr.report.format import datum, estimate, pct, round_pct, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Found

PUBLISHED = {
    "first": (0.456, 0.6585), "top_teacher_entropy": (0.505, 0.6330), "top_student_entropy": (0.670, 0.6270),
    "top_kl": (0.932, 0.5335), "random": (0.211, 0.6125), "last": (0.139, 0.6230),
}  # fmt: skip
"""Share of KL kept and best avg@4 at K = 100, MATH-500, one seed; first four of the paper, last two of its drafts."""
WORDS = {
    "all": "all positions", "first": "first", "last": "last", "random": "random", "top_kl": "top KL",
    "top_student_entropy": "top student entropy", "top_teacher_entropy": "top teacher entropy",
    "top_kl_student_entropy": "top KL × student entropy", "top_student_teacher_entropy": "top entropy product",
    "top_kl_student_teacher_entropy": "top KL × entropies",
}  # fmt: skip
TITLE = "Selection"
COUNT = "loss.selection.k"


def view(data: Data) -> Section:
    """Shares from the analysis; accuracies from a study over selections."""
    shares = [found for _, found in data.all("selection")]
    studies = [found for found in data.studies if selections(found.record)]
    if not shares and not studies:
        why = "What each selection of positions keeps of the divergence has not been measured."
        return Section("selection", TITLE, missing=why, commands=(data.command("selection"),))
    alike = [
        study for study in studies if shares and trained_k(study.record) == {s.k for s in shares[0].record.selections}
    ]
    context = {
        "shares": [_shares(found) for found in shares],
        "tokens": [_tokens(found) for found in shares],
        "against": [_against(shares[0], study) for study in alike],
        "other_k": "The shares were measured at another K than the study trained with, so they are not drawn against accuracy."
        if shares and len(alike) < len(studies)
        else "",
        "lack": ""
        if studies
        else "Accuracy after training on each is not on this page; it takes a study over loss.selection.by.",
        "lacking_shares": "" if shares else f"The share of KL that each keeps: {data.command('selection')}",
        "studies": [_accuracies(study) for study in studies if study not in alike],
    }
    return Section("selection", TITLE, "selection.html", context)


def trained_k(study: Study) -> set[int]:
    """K of the arms that select positions."""
    base = flatten(study.base).get(COUNT)
    return {
        int(flatten(arm.overrides).get(COUNT) or base or 0) for arm in study.arms if selection_of(study, arm) != "all"
    }


def _shares(found: Found) -> Figure:
    record = found.record
    ordered = sorted(range(len(record.selections)), key=lambda i: -record.selections[i].share_of_kl.value)
    marks = []
    for i in ordered:
        s = record.selections[i]
        tip = f"{WORDS[s.by]}: keeps {spoken(s.share_of_kl)} of all KL"
        e = s.share_of_kl
        point = Point(0, e.value, e.low, e.high, tip, where(found, f"/selections/{i}/share_of_kl/value"))
        share = PUBLISHED[s.by][0] if s.by in PUBLISHED else None
        ghost = Point(0, share, tip=f"published, K = 100: {WORDS[s.by]} keeps {pct(share)}") if share else None
        marks.append((WORDS[s.by], "c1" if s.by == "first" else "c5", point, ghost))
    chart = bars.strip("Share of the summed KL that each selection keeps", marks, Axis("", 0, 1, round_pct))
    rows = [
        (
            WORDS[record.selections[i].by],
            datum(found, f"/selections/{i}/k", "count"),
            estimate(found, f"/selections/{i}/share_of_kl"),
            datum(found, f"/selections/{i}/mean_kl", "nats"),
            datum(found, f"/selections/{i}/mean_position", "tokens"),
            datum(found, f"/selections/{i}/overlap/first"),
        )
        for i in ordered
    ]
    columns = (
        "selection",
        "K",
        "share of KL kept",
        "KL kept, nats a position",
        "mean position",
        "of which among the first",
    )
    caption = "Every selection keeps K positions of the same full rollouts. Stopping early is “first”. Hollow: published, K = 100."
    return Figure(chart, columns, rows, source_line(found, "/responses", "responses", BY_RESPONSE), caption)


def _tokens(found: Found) -> Table:
    """The most frequent tokens of each selection."""
    rows = [
        (
            WORDS[s.by],
            Markup(" ").join(
                Markup("<code>{}</code> {}").format(t.token, datum(found, f"/selections/{i}/tokens/{j}/count", "count"))
                for j, t in enumerate(s.tokens[:8])
            ),
        )
        for i, s in enumerate(found.record.selections)
    ]
    return Table(("selection", "most frequent tokens, and how often"), rows, "What each selection trains on")


def _against(shares: Found, study: Found) -> Figure:
    """Accuracy after training against the share of KL kept."""
    kept = {s.by: (i, s) for i, s in enumerate(shares.record.selections)}
    arms = {a: study.record.arms[a] for a in selections(study.record)}
    early = {a for a, arm in arms.items() if stops_early(study.record, arm)}
    by = {a: "first" if a in early else selection_of(study.record, arm) for a, arm in arms.items()}
    named = {a: _name(study.record, arm) for a, arm in arms.items()}
    marks = {
        a: Point(
            1.0 if by[a] == "all" else kept[by[a]][1].share_of_kl.value,
            e.value,
            e.low,
            e.high,
            f"{named[a]}: {spoken(e)}",
            where(study, f"/arms/{a}/avg/value"),
        )
        for a, arm in arms.items()
        if (e := arm.avg) is not None and (by[a] in kept or by[a] == "all")
    }
    ghosts = [
        Point(x, y, tip=f"published, {WORDS[name]}: {pct(y)} at {pct(x)} of KL") for name, (x, y) in PUBLISHED.items()
    ]
    lines = [
        charts.Line("one selection each", "c1", list(marks.values()), "whiskers", join=False, size=5),
        charts.Line("published: MATH-500, K = 100, one seed", "ghost-line", ghosts, "none", join=False, ghost=True),
    ]
    low, high = span(charts.heights(lines), 0, 1)
    x = Axis("share of the summed KL that is kept", 0, 1.04, round_pct, (0, 0.25, 0.5, 0.75, 1))
    labels = [(named[a], point) for a, point in marks.items()]
    chart = charts.plot(
        "Accuracy against share of KL kept", lines, x, Axis("accuracy at the end", low, high, round_pct), names=labels
    )
    rows = [
        (
            named[a],
            datum(shares, f"/selections/{kept[by[a]][0]}/share_of_kl/value") if by[a] in kept else "all",
            *_scores(study, a),
        )
        for a in arms
    ]
    columns = ("selection", "share of KL kept", "accuracy, pooled", "against the reference, points")
    source = source_line(study, "/problems", "problems", BY_SEED_AND_PROBLEM, f", and {shares.source}")
    return Figure(chart, columns, rows, source, "If the largest signal taught most, points would rise to the right.")


def _scores(study: Found, a: int) -> tuple[Markup, Markup]:
    return estimate(study, f"/arms/{a}/avg"), estimate(study, f"/arms/{a}/difference", "points")


def _name(study: Study, arm: Arm) -> str:
    """What an arm trains on, in words."""
    return f"ESR, N = {arm.n}" if stops_early(study, arm) else WORDS[selection_of(study, arm)]


def _accuracies(study: Found) -> Table:
    """A study over selections without shares to draw it against."""
    rows = [(_name(study.record, study.record.arms[a]), *_scores(study, a)) for a in selections(study.record)]
    return Table(("selection", "accuracy, pooled", "against the reference, points"), rows, study.source)
