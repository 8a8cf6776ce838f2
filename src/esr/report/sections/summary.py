"""The verdict, the pair, and the four numbers that it rests on."""

from typing import Any, NamedTuple

from markupsafe import Markup

from esr.records.base import Estimate
from esr.report import answers, bars, charts
from esr.report.contests import EQUAL, MARGIN, Contest, Paired, contests, gained, moved, outcome, rivals
from esr.report.format import datum, derived, estimate, points, ratio, ratio_of_means, round_pct, several, spoken, where
from esr.report.frames import Point
from esr.report.scales import Axis, span
from esr.report.section import Section
from esr.report.sources import Data, Run

RULES = (
    "Better or worse: the whole 95% interval of the paired difference lies on one side of zero.",
    f"No worse: its lower end lies above −{points(MARGIN).lstrip('+')} points. Otherwise the possible loss is named.",
    "Not told apart: the interval of the difference holds zero; without a paired difference, the two intervals overlap.",
    "A gain over the untrained student is claimed only if the whole interval of the paired gain lies above zero.",
    "The early-stopped arm is named before looking at results; the step is the last one. Nothing is picked by its score.",
)


class Standing(NamedTuple):
    """One accuracy of the first screen: in a table, and on a common axis."""

    name: str
    colour: str
    cell: Any
    """The text in the table."""
    value: Estimate | None
    source: str


def view(data: Data) -> Section:
    """From the first study that compares lengths, or else from the first run."""
    matches = contests(data)
    context = _of_study(data, matches[0]) if matches else _of_run(data) if data.runs else _of_arms(data)
    context["numbers"] = [(name, colour, cell) for name, colour, cell, *_ in context["rows"]]
    context["strip"] = strip(context["rows"])
    context["others"] = [_other(match) for match in matches[1:]]
    return Section("summary", "Summary", "summary.html", {**context, "rules": RULES})


def strip(rows: list[Standing]) -> charts.Chart | None:
    """The same numbers on one axis."""
    known = [(row, row.value) for row in rows if row.value is not None and row.name != "change"]
    if len(known) < 2:
        return None
    low, high = span([v for _, e in known for v in (e.low, e.high)], 0, 1)
    marks = [
        (row.name, row.colour, Point(0, e.value, e.low, e.high, f"{row.name}: {spoken(e)}", row.source), None)
        for row, e in known
    ]
    return bars.strip("Accuracy with 95% intervals", marks, Axis("", low, high, round_pct))


def _of_study(data: Data, match: Contest) -> dict[str, Any]:
    study, (early, full) = match.study, match.arms
    where_to = {"early": f"/arms/{match.early}", "full": f"/arms/{match.full}"}
    longest = match.longest

    def row(name: str, colour: str, pointer: str, value: Estimate | None) -> Standing:
        return Standing(name, colour, estimate(study, pointer), value, where(study, f"{pointer}/value"))

    rows = [
        row("untrained student", "c6", f"{where_to['early']}/before", early.before),
        row(f"ESR, N = {early.n}", "c1", f"{where_to['early']}/avg", early.avg),
        row(f"{longest.removeprefix('the ')}, N = {full.n}", "c2", f"{where_to['full']}/avg", full.avg),
        row("teacher", "c3", f"{where_to['early']}/teacher", early.teacher),
    ]
    costs = [
        (name, ratio(study, f"{where_to['early']}/{key}", study, f"{where_to['full']}/{key}"))
        for name, key in (
            ("seconds a step", "seconds_per_step"),
            ("tokens generated", "generated"),
            ("peak memory", "peak_memory_gib"),
        )
    ]
    record = study.record
    return {
        "verdict": verdict(match, longest),
        "rows": rows,
        "answers": answers.of_study(data, match, costs),
        "facts": [
            ("student", early.student),
            ("teacher", early.teacher_model),
            ("task", record.task),
            (
                "measured",
                Markup("{} problems × {} responses, {}, {} steps").format(
                    datum(study, "/problems", "count"),
                    datum(study, "/samples", "count"),
                    several(len(record.seeds), "seed"),
                    datum(study, f"{where_to['early']}/steps", "count"),
                ),
            ),
            ("ESR is", f"arm {early.name}: {match.reason}"),
        ],
        "source": f"{study.source} · accuracy avg@{record.samples} by the last answer · 95% interval over problems and seeds",
    }


def _other(match: Contest) -> tuple[str, Markup]:
    """A further comparison on the page: its pair, and its verdict."""
    arm, study = match.arms[0], match.study.record
    return f"{study.name}, {arm.student} ← {arm.teacher_model}", verdict(match, match.longest)


def verdict(match: Contest, longest: str) -> Markup:
    """One sentence from intervals alone, by `RULES`; also when it is against ESR."""
    study, (early, full) = match.study, match.arms
    n = datum(study, f"/arms/{match.early}/n", "count")
    if early.avg is None or full.avg is None:
        return Markup(
            "Stopping rollouts after <b>N = {}</b> tokens cannot be judged: one of the two arms has no result."
        ).format(n)
    if gap := match.gap:
        shown = estimate(study, match.difference, "points", unit=" points")
        low, high = gap.low, gap.high
    else:
        sides = (estimate(study, f"/arms/{i}/avg") for i in (match.early, match.full))
        shown = Markup("{} against {}").format(*sides)
        low, high = early.avg.low - full.avg.high, early.avg.high - full.avg.low
    cost = ratio(study, f"/arms/{match.early}/seconds_per_step", study, f"/arms/{match.full}/seconds_per_step")
    gain = estimate(study, f"/arms/{match.early}/gain", "points", unit=" points")
    rule = study.record.rule
    equal = "" if rule == "updates" else f" after equal {EQUAL[rule]}"
    return judged(n, longest + equal, shown, (low, high), cost) + _gain(gain, early.gain)


def judged(n: Markup, longest: str, shown: Markup, interval: tuple[float, float], cost: Markup) -> Markup:
    """Early stopping against longer rollouts, from the interval of the difference."""
    low, high = interval
    lead = Markup("Stopping rollouts after <b>N = {}</b> tokens ").format(n)
    price = Markup(", at {} its time a step").format(cost) if "<data" in cost else ""
    found = outcome(low, high)
    if found != "open":
        word = Markup("<em>worse</em>") if found == "worse" else found
        said = Markup("is {} than {} here: {}{}").format(word, longest, shown, price)
    else:
        said = Markup("and {} are not told apart: {}, so a loss of up to {} points is possible{}").format(
            longest,
            shown,
            points(-low).lstrip("+"),
            Markup("; it takes {} the time a step").format(cost) if price else "",
        )
    return lead + said + Markup(". ")


def _gain(shown: Markup, gain: Estimate | None) -> Markup:
    if gain is None:
        return Markup("")
    if gain.low > 0:
        return Markup("Over the untrained student: {}.").format(shown)
    if gain.high < 0:
        return Markup("It makes the student <em>worse</em>: {}.").format(shown)
    return Markup("No gain over the untrained student is certain: {}.").format(shown)


def _of_run(data: Data) -> dict[str, Any]:
    """The first run, beside the run with longer rollouts if there is one to compare it with."""
    run, rival, change = data.runs[0], rivals(data), gained(data.runs[0])
    config, n = run.config, run.config.rollout.stops_at
    rows = [_row(run, "before", "untrained student", "c6"), _row(run, "after", f"trained, N = {n}", "c1")]
    if rival:
        rows.append(_row(rival[1], "after", f"trained, N = {rival[1].config.rollout.stops_at}", "c2"))
    elif change is not None:
        rows.append(
            Standing("change", "c1", derived(change.value, "points", change.rule, unit=" points"), change.value, "")
        )
    rows.append(_row(run, "teacher", "teacher", "c3"))
    costs = (
        [
            (name, ratio_of_means(run.rows, rival[1].rows, key))
            for name, key in (
                ("seconds a step", "time/step"),
                ("tokens generated", "tokens/generated"),
                ("peak memory of a step", "memory/peak_gib"),
            )
        ]
        if rival
        else []
    )
    asked = answers.of_run(data, run, change, costs, rival[1].config.rollout.stops_at if rival else "")
    said = _rival_verdict(*rival, change) if rival else _run_verdict(run, change)
    return {
        "verdict": said,
        "rows": [row for row in rows if row is not None],
        "answers": asked,
        "facts": [
            ("student", config.student.model),
            ("teacher", config.teacher.model),
            ("task", config.eval.source if config.eval else config.data.source),
            ("steps", Markup("{} of {}").format(len(run.metrics), datum(run.settings, "/optim/steps", "count"))),
            ("seed", datum(run.settings, "/run/seed", "plain")),
        ],
        "source": f"{run.label}/evals · accuracy avg@k by the last answer · 95% interval clustered by problem, changes paired by problem",
    }


def _row(run: Run, model: str, name: str, colour: str) -> Standing | None:
    found = run.evaluation(model)
    if found is None or found.record.avg is None:
        return None
    return Standing(name, colour, estimate(found, "/avg"), found.record.avg, where(found, "/avg/value"))


def _rival_verdict(run: Run, other: Run, pair: Paired, change: Paired | None) -> Markup:
    n = datum(run.settings, "/rollout/max_new_tokens", "count")
    longer = f"rollouts of up to {other.config.rollout.max_new_tokens}"
    shown = derived(pair.value, "points", pair.rule, unit=" points")
    said = judged(
        n, longer, shown, (pair.value.low, pair.value.high), ratio_of_means(run.rows, other.rows, "time/step")
    )
    gain = derived(change.value, "points", change.rule, unit=" points") if change else Markup("")
    return said + _gain(gain, change.value if change else None) + " One seed each."


def _run_verdict(run: Run, change: Paired | None) -> Markup:
    n = run.config.rollout.stops_at
    if not run.complete and not run.going:
        return answers.foretold(run)
    if not run.complete and change is None:
        return Markup("Training with <b>N = {}</b> is going on: {} of {} steps are done.").format(
            n, len(run.metrics), run.config.optim.steps
        )
    if (closer := moved(run).get("kl_common")) is not None:
        shown = derived(closer.value, "change_nats", closer.rule, unit=" nats")
        return Markup(
            "Training with <b>N = {}</b> changed the divergence from the teacher, on the same held-out responses, by {}. The task "
            "has no reference answers, so there is no accuracy."
        ).format(n, shown)
    if change is None:
        return Markup("Trained with <b>N = {}</b>; there is no evaluation before and after, so no verdict.").format(n)
    shown = derived(change.value, "points", change.rule, unit=" points")
    tail = " Whether full rollouts would have done as well takes a study that compares them."
    if change.value.low > 0:
        return Markup("Training with <b>N = {}</b> raised accuracy: {}.").format(n, shown) + tail
    if change.value.high < 0:
        return Markup("Training with <b>N = {}</b> made the student <em>worse</em>: {}.").format(n, shown) + tail
    return Markup("Training with <b>N = {}</b> made no certain difference: {}.").format(n, shown) + tail


def _of_arms(data: Data) -> dict[str, Any]:
    """A study that does not compare lengths: its arms, without a verdict on N."""
    study = data.studies[0]
    rows: list[Standing] = [
        Standing(
            arm.name, f"c{1 + i % 6}", estimate(study, f"/arms/{i}/avg"), arm.avg, where(study, f"/arms/{i}/avg/value")
        )
        for i, arm in enumerate(study.record.arms)
    ]
    facts = [("question", study.record.question), ("task", study.record.task)]
    said = Markup("This study does not compare rollout lengths, so there is no verdict on N.")
    return {"verdict": said, "rows": rows, "answers": [], "facts": facts, "source": study.source}
