"""What somebody with a minute asks of the page: does it fit, which N, how much better, how sure, at what cost, and what next."""

import shlex

from markupsafe import Markup

from esr.report.contests import EQUAL, Contest, Paired, full_of, outcome, sweep
from esr.report.format import datum, derived, estimate, mean_of, points, several
from esr.report.sources import Data, Found, Run

AnswerLine = tuple[str, Markup]
NOT_CHECKED = Markup("Not checked before training: <code>{}</code>")


def of_study(data: Data, match: Contest, costs: list[tuple[str, Markup]]) -> list[AnswerLine]:
    """From an early-stopped arm and the arm with the longest rollouts."""
    study, at = match.study, f"/arms/{match.early}"
    better = estimate(study, f"{at}/gain", "points", unit=" points")
    sure = Markup("{} problems × {} responses, {}; brackets are 95% intervals").format(
        datum(study, "/problems", "count"), datum(study, "/samples", "count"), several(len(study.record.seeds), "seed")
    )
    price = _price(costs)
    return [
        ("Does it fit?", Markup("; ").join(said for said in (_by_result(match), _fits(data)) if said)),
        ("Which N?", _which(data) or Markup("N = {}, the only one here").format(datum(study, f"{at}/n", "count"))),
        ("How much better?", Markup("{} over the untrained student").format(better)),
        ("How sure?", sure),
        ("At what cost?", price + f" of {match.longest}" if price else Markup("not measured")),
        ("What next?", _next(match)),
    ]


def of_run(
    data: Data, run: Run, change: Paired | None, costs: list[tuple[str, Markup]], versus: str
) -> list[AnswerLine]:
    """From one run; `costs` are against a run with `versus` tokens, if there is one."""
    name = shlex.quote(str(run.directory.path))
    evaluated = run.evaluation("after")
    better = derived(change.value, "points", change.rule, unit=" points") if change else Markup("not evaluated yet")
    sure = Markup("no interval yet")
    if evaluated:
        sure = Markup("{} problems × {} responses, one seed; brackets are 95% intervals").format(
            datum(evaluated, "/problems", "count"), datum(evaluated, "/samples", "count")
        )
    fit = _fits(data) or NOT_CHECKED.format(f"esr check {name}/config.json")
    which = _which(data) or Markup("<code>esr analyze decay {}</code> tells").format(name)
    cost = Markup("{} a step").format(mean_of(run.rows, "time/step")) if run.metrics else Markup("no step yet")
    if costs:
        cost = _price(costs) + f" of N = {versus}"
    checked = run.analyses.get("fit")
    if checked and not run.metrics and checked.record.verdict.end:
        gain = estimate(checked, "/verdict/end/gain", "points", unit=" points")
        better = Markup("{} are expected over the untrained student").format(gain)
        sure = Markup("{} problems, one response each, before training; brackets are 95% intervals").format(
            datum(checked, "/problems", "count")
        )
        if checked.record.verdict.faster:
            cost = Markup("a step with full rollouts takes {} the time").format(
                datum(checked, "/verdict/faster", "times")
            )
    return [
        ("Does it fit?", fit),
        ("Which N?", which),
        ("How much better?", better),
        ("How sure?", sure),
        ("At what cost?", cost),
        ("What next?", _after(run, change, name)),
    ]


def _price(costs: list[tuple[str, Markup]]) -> Markup:
    """`0.23× the seconds a step, 0.35× the tokens generated`."""
    return Markup(", ").join(Markup("{} the {}").format(cell, name) for name, cell in costs)


def _fits(data: Data) -> Markup | None:
    """What the check said before training."""
    first = data.first("fit")
    if first is None:
        return None
    found = first[1]
    said = Markup("{}, by the <a href='#fit'>check</a> before training").format(found.record.verdict.answer)
    if found.record.verdict.end is None:
        return said
    return said + Markup(", which expected {}").format(estimate(found, "/verdict/end/accuracy"))


def _by_result(match: Contest) -> Markup:
    gap = match.gap
    if gap is None:
        return Markup("not told: the two lengths are not paired")
    return {
        "better": Markup("yes: better than {}"),
        "no worse": Markup("yes: no worse than {}"),
        "worse": Markup("not at equal {}: {{}} reach more").format(EQUAL[match.study.record.rule]),
        "open": Markup("not certain: a loss of up to {} points against {{}} is possible").format(
            points(-gap.low).lstrip("+")
        ),
    }[outcome(gap.low, gap.high)].format(match.longest)


def _which(data: Data) -> Markup | None:
    """The N of a sweep, and beside it that of the check; without both, that of the decay curve."""
    fit, decay = data.first("fit"), data.first("decay")
    best = next((found for study in data.studies if (found := _plateau(study))), None)
    foretold = None
    if fit and fit[1].record.verdict.n:
        foretold = Markup("N = {}, by the check").format(datum(fit[1], "/verdict/n", "count"))
    if best or foretold:
        return Markup("; ").join(said for said in (best, foretold) if said)
    if decay and decay[1].record.recommendation.n:
        n = datum(decay[1], "/recommendation/n", "count")
        return Markup("up to {}: no loss of the <a href='#decay'>teacher</a> was found there").format(n)
    if decay:
        return Markup("the <a href='#decay'>teacher's decay</a> sets none: it loses after the shortest prefix")
    return None


def _plateau(study: Found) -> Markup | None:
    """The shortest early-stopped N of a sweep whose interval holds the best of them."""
    arms, whole = study.record.arms, sweep(study.record)
    group = [i for i in whole if i != full_of(study.record, whole) and arms[i].avg is not None]
    if len(group) < 2:
        return None
    best = max(arms[i].avg.value for i in group)
    enough = next(i for i in group if arms[i].avg.high >= best)
    return Markup("N = {} is enough: the best of {} early <a href='#sweep'>stops</a> lies in its interval").format(
        datum(study, f"/arms/{enough}/n", "count"), len(group)
    )


def _next(match: Contest) -> Markup:
    """A decision, from the interval of the difference alone."""
    if match.gap is None:
        return Markup("name the longest arm as the study's reference, so that differences are paired")
    keep = Markup("keep the early stop: <code>esr export RUN</code>; spend what it saves on more steps")
    return {
        "better": keep,
        "no worse": keep,
        "worse": Markup("a larger N, or {} for the last steps; other comparisons on this page may go by time").format(
            match.longest
        ),
        "open": Markup("more seeds or problems: the interval is too wide to choose"),
    }[outcome(match.gap.low, match.gap.high)]


def foretold(run: Run) -> Markup:
    """The verdict on a pair that nothing was trained of yet."""
    found = run.analyses.get("fit")
    if found is None:
        return Markup("Nothing has been trained here yet.")
    verdict = found.record.verdict
    if verdict.end is None:
        return Markup("Before any training, ESR: <b>{}</b>. {}").format(verdict.answer, verdict.reasons[-1])
    return Markup("Before any training, ESR: <b>{}</b>. At <b>N = {}</b> an accuracy of {} is expected.").format(
        verdict.answer, datum(found, "/verdict/n", "count"), estimate(found, "/verdict/end/accuracy")
    )


def _train(run: Run) -> Markup:
    """What to do with a pair that nothing was trained of yet."""
    found = run.analyses.get("fit")
    if found is None or found.record.verdict.answer == "fits":
        return Markup("train it: <code>esr train CONFIG --n auto</code>")
    if found.record.verdict.answer == "cannot tell":
        return Markup("more problems: <code>esr check CONFIG --budget MINUTES</code>")
    return Markup("{} instead").format(found.record.verdict.better)


def _after(run: Run, change: Paired | None, name: str) -> Markup:
    if not run.complete and not run.going:
        return _train(run)
    if not run.complete:
        return Markup("wait, or go on with <code>esr train {}</code>").format(name)
    if change is None:
        return Markup("evaluate it: <code>esr eval {}</code>").format(name)
    if change.value.low > 0:
        return Markup(
            "keep it: <code>esr export {}</code>; compare with longer rollouts: <code>esr study</code>"
        ).format(name)
    return Markup("no gain is certain: see what lies within N with <code>esr check {}/config.json</code>").format(name)
