"""Everything that was evaluated: arms of studies and evaluations of runs, grouped by task."""

from collections import defaultdict
from typing import Any

from markupsafe import Markup

from esr.records.closeness import MEASURES
from esr.records.evaluation import grouped
from esr.report.contests import gained, moved
from esr.report.figure import Table, without_empty
from esr.report.format import PAGE_FORMS, datum, derived, estimate, lookup
from esr.report.section import Section
from esr.report.sources import Data, Found, Run, name_of, order

TITLE = "Results"
LENGTHS = ("p10", "p50", "p90", "mean")


def view(data: Data) -> Section:
    """Tables by task: comparable numbers stand together, others apart."""
    groups: dict[str, list[Table]] = defaultdict(list)
    for study in data.studies:
        groups[study.record.task] += [_arms(study), _seeds(study)]
    for run in data.runs:
        for alike in grouped(order(list(run.evaluations.values())), lambda found: found.record):
            table = _closeness if alike[0].record.closeness else _evaluations
            groups[alike[0].record.task].append(table(run, alike))
    lengths = [_lengths(found) for _, found in data.all("lengths")]
    if not groups and not lengths:
        config = data.runs[0].directory.config_file if data.runs else "CONFIG"
        return Section("results", TITLE, missing="Nothing has been evaluated yet.", commands=(f"esr eval {config}",))
    marks = {mark: words for study in data.studies for mark, words in study.record.rules.items()}
    context = {
        "groups": list(groups.items()),
        "lengths": lengths,
        "marks": list(marks.items()),
        "lengths_command": "" if lengths else data.command("lengths"),
    }
    return Section("results", TITLE, "results.html", context)


def _stops_at(study: Found, i: int) -> Markup:
    """N of an arm; where it changes from step to step, its mean, and the largest."""
    arm, n = study.record.arms[i], datum(study, f"/arms/{i}/n", "count")
    if arm.stops_at == str(arm.n):
        return n
    return Markup("{} of {}").format(datum(study, f"/arms/{i}/mean_n", "count"), n)


def _arms(study: Found) -> Table:
    rows: list[tuple[Any, ...]] = []
    for i, arm in enumerate(study.record.arms):
        at = f"/arms/{i}"
        rows.append(
            (
                arm.name,
                _stops_at(study, i),
                estimate(study, f"{at}/avg"),
                estimate(study, f"{at}/gain", "points"),
                _difference(study, i),
                estimate(study, f"{at}/to_teacher", "points"),
                Markup(" ").join(Markup('<span class="mark-word">{}</span>').format(mark) for mark in arm.marks),
                estimate(study, f"{at}/before"),
                estimate(study, f"{at}/teacher"),
                datum(study, f"{at}/steps", "count"),
                datum(study, f"{at}/seconds", "seconds"),
                f"{arm.student} ← {arm.teacher_model}",
            )
        )
    references = study.record.reference
    against = f"against {references[0]}" if len(references) == 1 else "against its reference"
    columns: tuple[str, ...] = (
        "arm",
        "N",
        "accuracy",
        "gain",
        against,
        "against the teacher",
        "marks",
        "untrained",
        "teacher",
        "steps",
        "training time",
        "pair",
    )
    reading = (
        f"Source: {study.source} · pooled over seeds. Gains and differences are paired, in percentage points; brackets are 95% "
        "intervals over problems and seeds."
    )
    one_pair = len({row[-1] for row in rows}) == 1
    if one_pair:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(columns, rows, f"Study {study.record.name}: {study.record.question}", (reading,))


def _difference(study: Found, i: int) -> Markup:
    """An arm against its reference, which is named where a study has several."""
    shown = estimate(study, f"/arms/{i}/difference", "points")
    arm = study.record.arms[i]
    named = len(study.record.reference) > 1 and arm.difference is not None
    return Markup("{} to {}").format(shown, arm.reference) if named else shown


def _seeds(study: Found) -> Table:
    rows = []
    for i, arm in enumerate(study.record.arms):
        for s, seed in enumerate(arm.seeds):
            at = f"/arms/{i}/seeds/{s}"
            name = f"{arm.name}, seed {seed.seed}"
            if seed.error:
                rows.append((Markup('{}: <span class="error">{}</span>').format(name, seed.error), *[""] * 7))
                continue
            rows.append(
                (
                    name,
                    estimate(study, f"{at}/avg"),
                    estimate(study, f"{at}/avg_first"),
                    estimate(study, f"{at}/avg_any"),
                    estimate(study, f"{at}/finish_rate"),
                    estimate(study, f"{at}/repetition_rate"),
                    estimate(study, f"{at}/strategy_rate"),
                    quantiles(study, f"{at}/tokens"),
                )
            )
    columns = (
        "run",
        "last answer",
        "first answer",
        "any answer",
        "finished",
        "repetitive",
        "right strategy",
        "tokens, p10 / p50 / p90 / mean",
    )
    return Table(columns, rows, f"Study {study.record.name}: each seed, by first, last and any answer", folds=True)


def quantiles(found: Found, at: str) -> Markup:
    """Response lengths, one after the other."""
    keys = [k for k in LENGTHS if k in _mapping(found, at)]
    return Markup(" / ").join(datum(found, f"{at}/{key}", "tokens") for key in keys)


def _mapping(found: Found, at: str) -> dict[str, float]:
    value = lookup(found.record, at)
    return value if isinstance(value, dict) else {}


def _failures(found: Found) -> Markup:
    """Responses without a verdict, and the accuracy if each of them is wrong."""
    count = datum(found, "/grader_failures", "count")
    if not found.record.grader_failures or found.record.avg_at_least is None:
        return count
    return Markup("{}; with them wrong {}").format(count, estimate(found, "/avg_at_least"))


def _evaluations(run: Run, evaluations: list[Found]) -> Table:
    change = gained(run)
    rows = []
    for found in evaluations:
        paired = derived(change.value, "points", change.rule) if change and found.record.name == run.last else ""
        rows.append(
            (
                name_of(found),
                estimate(found, "/avg"),
                paired,
                estimate(found, "/avg_first"),
                estimate(found, "/avg_any"),
                estimate(found, "/maj"),
                estimate(found, "/pass_at_k"),
                estimate(found, "/finish_rate"),
                estimate(found, "/avg_given_finish"),
                estimate(found, "/repetition_rate"),
                estimate(found, "/strategy_rate"),
                quantiles(found, "/tokens"),
                _failures(found),
            )
        )
    columns = (
        "model",
        "last answer",
        "change, paired",
        "first answer",
        "any answer",
        "maj@k",
        "pass@k",
        "finished",
        "accuracy if finished",
        "repetitive",
        "right strategy",
        "tokens, p10 / p50 / p90 / mean",
        "grader failures",
    )
    first, cap = evaluations[0], evaluations[0].record.settings.get("max_new_tokens")
    note = Markup(
        "Source: {}/evals · {} problems × {} responses{}; brackets are 95% intervals clustered by problem. A grader failure is left "
        "out, not counted as wrong."
    ).format(
        run.label,
        datum(first, "/problems", "count"),
        datum(first, "/samples", "count"),
        Markup(", at most {} tokens").format(datum(first, "/settings/max_new_tokens", "count"))
        if isinstance(cap, int)
        else "",
    )
    return Table(*without_empty(columns, rows), f"Run {run.label}, N = {run.config.rollout.stops_at}", (note,))


def _closeness(run: Run, evaluations: list[Found]) -> Table:
    """A task without references: one row a measure, one column a model, and the paired change."""
    change = moved(run)
    rows = []
    for name, (words, form) in MEASURES.items():
        if name in evaluations[0].record.closeness:
            shown, paired = PAGE_FORMS[form]
            gap = derived(change[name].value, paired, change[name].rule) if name in change else ""
            rows.append((words, *(estimate(found, f"/closeness/{name}", shown) for found in evaluations), gap))
    columns = ("", *(name_of(found) for found in evaluations), "change, paired")
    note = Markup(
        "Source: {}/evals · {} prompts without a reference answer × {} responses; means over prompts with 95% intervals. Divergence: "
        "reverse KL to the teacher in nats a position. Common: the untrained student's responses."
    ).format(run.label, datum(evaluations[0], "/problems", "count"), datum(evaluations[0], "/samples", "count"))
    return Table(columns, rows, f"Run {run.label}, N = {run.config.rollout.stops_at}", (note,))


def _lengths(found: Found) -> Table:
    rows = [
        (
            row.model,
            datum(found, f"/rows/{i}/responses", "count"),
            estimate(found, f"/rows/{i}/finish_rate"),
            *(estimate(found, f"/rows/{i}/{key}", "tokens") for key in LENGTHS),
        )
        for i, row in enumerate(found.record.rows)
    ]
    columns = ("model", "responses", "finished", "p10", "median", "p90", "mean")
    note = Markup("Source: {} · lengths in tokens, at most {}; 95% intervals by a bootstrap over problems.").format(
        found.source, datum(found, "/max_new_tokens", "count")
    )
    return Table(columns, rows, "Response lengths", (note,))
