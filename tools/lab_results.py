"""The lab's part of docs/results.md, from the records in results/lab/. Sentences that judge follow stated rules on intervals."""

import html
import json
import re
from typing import Any

from make_results import STUDIES
from write_results import RESULTS, nats, pct, table

from esr.records.study import Arm, Study

LAB = RESULTS / "lab"
Json = dict[str, Any]


def record(name: str) -> Json | None:
    file = LAB / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def verdict(e: Json, better: str, worse: str) -> str:
    """What a paired difference says, by its interval."""
    if e["low"] > 0:
        return f"{better} ({pct(e, sign=True)})"
    if e["high"] < 0:
        return f"{worse} ({pct(e, sign=True)})"
    return f"no difference found ({pct(e, sign=True)})"


def arms(study: Json) -> dict[str, Json]:
    return {arm["name"]: arm for arm in study["arms"] if arm["avg"]}


def study_section(study: Json) -> list[str]:
    """One study: its question, how it was made, its arms."""
    rows = []
    for start in {(a["student"], a["teacher_model"]): a for a in study["arms"] if a["avg"]}.values():
        rows.append([f"untrained `{start['student']}`", "", pct(start["before"]), *[""] * 8])
    teacher = next(a for a in study["arms"] if a["avg"])
    rows.append([f"teacher `{teacher['teacher_model']}`", "", pct(teacher["teacher"]), *[""] * 8])
    for a in study["arms"]:
        rows.append(arm_row(a))
    head = ["arm", "N", "accuracy", "against its reference", "against untrained", "each seed", "right strategy", "finished",
            "median tokens", "s a step", "marks"]  # fmt: skip
    equal = {
        "updates": "equal numbers of updates",
        "tokens": "equal generated tokens",
        "seconds": "equal seconds of training",
    }[study["rule"]]
    cores = study["environment"].get("cpus")
    references = ", ".join(Study.model_validate(study).reference)
    lines = [
        f"### {study['name']}: {study['question']}", "",
        f"`{study['command']}`; {study['task']}, {study['problems']} problems x {study['samples']} responses, seeds "
        f"{', '.join(map(str, study['seeds']))}, {equal}; references: {references}. Percent, 95% interval over problems and seeds. "
        f"Runs shared {cores} cores with others, so seconds are indicative.", "", *table(head, rows),
    ]  # fmt: skip
    marks = {m for a in study["arms"] for m in a["marks"]}
    return lines + [f"*{m}*: {study['rules'][m]}." for m in sorted(marks)] + ([""] if marks else [])


def mean_of(a: Json, key: str) -> str:
    """An estimate that each seed of an arm has, in percent: its mean over the seeds that are there."""
    values = [s[key]["value"] for s in a["seeds"] if s["error"] is None and s[key]]
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"


def arm_row(a: Json) -> list[str]:
    good = [s for s in a["seeds"] if s["error"] is None]
    tokens = sum(s["tokens"]["p50"] for s in good) / len(good) if good else 0
    against = f"{pct(a['difference'], sign=True)} ({a['reference']})" if a["difference"] else "-"
    each = " / ".join(
        ("-" if s["error"] == "not run yet" else "failed") if s["error"] else f"{100 * s['avg']['value']:.1f}"
        for s in a["seeds"]
    )
    return [
        a["name"], Arm.model_validate(a).stops_at, pct(a["avg"]), against, pct(a["gain"], sign=True), each,
        mean_of(a, "strategy_rate"), mean_of(a, "finish_rate"),
        f"{tokens:.0f}", f"{a['seconds_per_step']:.2f}", ", ".join(a["marks"]),
    ]  # fmt: skip


def claims() -> list[str]:
    """The paper's claims, and what the lab says to each."""
    rows: list[list[str]] = []
    main, pairs, tuned, crossed = record("main"), record("pairs"), record("finetune"), record("two-tokenizers")
    if main:
        by = arms(main)
        esr, full = by["esr"], by["full"]
        rows.append(
            ["ESR is as good as full rollouts, or better", verdict(esr["difference"], "ESR better", "ESR worse")]
        )
        ratio, memory = (
            full["seconds_per_step"] / esr["seconds_per_step"],
            full["peak_memory_gib"] / esr["peak_memory_gib"],
        )
        rows.append([
            "at a fraction of the time and memory",
            f"a full step takes {ratio:.1f} times the seconds and {memory:.2f} times the process's memory (which is mostly libraries here)",
        ])  # fmt: skip
        rows.append(["ESR can exceed the teacher", verdict(esr["to_teacher"], "exceeds it", "stays below it")])
    if seconds := record("main-seconds"):
        rows.append([
            f"at equal training time ({seconds['arms'][0]['seconds']:.0f} s)",
            verdict(arms(seconds)["esr"]["difference"], "ESR better", "ESR worse"),
        ])  # fmt: skip
    if sweep := record("n-sweep"):
        reached = [f"{a['n']}: {pct(a['avg'])}" for a in sweep["arms"] if a["avg"]]
        rows.append(["accuracy saturates at a small N", f"N = {', '.join(reached)}"])
    if decay := record("decay"):
        rows.append(["the teacher follows the student astray (decay)", curve_words(decay, "student", "teacher", "all")])
        rows.append(
            [
                "... completing its mistakes: prefixes of wrong responses",
                curve_words(decay, "student", "teacher", "wrong"),
            ]
        )
        rows.append(["... and of right ones", curve_words(decay, "student", "teacher", "right")])
        rows.append(["the student after the teacher's first k tokens (what ESR can hope for at N = k)",
                     curve_words(decay, "teacher", "student", "all")])  # fmt: skip
    if profile := record("profile"):
        beyond = profile["beyond"]
        inside = f"inside the window {nats(profile['inside'], sign=True)} nats"
        outside = "the untrained student's responses end within the window"
        if beyond:
            outside = f"beyond it {nats(beyond, sign=True)} nats, on the {beyond['n']} common responses that reach it"
        rows.append(["training the first N tokens aligns the rest too (cascading alignment)", f"{inside}; {outside}"])
    if swap := record("prefix-swap"):
        by_part = {(c["prefix"], c["tail"]): c for c in swap["conditions"]}
        rows.append([
            "the gain sits in the first N tokens",
            f"trained prefix, raw tail {pct(by_part['after', 'before']['change'], sign=True)}; raw prefix, trained tail "
            f"{pct(by_part['before', 'after']['change'], sign=True)}; both {pct(by_part['after', 'after']['change'], sign=True)}",
        ])  # fmt: skip
    if selection := record("selection"):
        by = arms(selection)
        judged = [
            f"`{name}` {verdict(a['difference'], 'better', 'worse')}" for name, a in by.items() if a["difference"]
        ]
        rows.append(
            [
                "the first tokens beat as many others, chosen by their signal on full rollouts",
                f"against full: {'; '.join(judged)}",
            ]
        )
    if submode := record("submode"):
        both = [submode, *([shared] if (shared := record("submode-shared")) else [])]
        rows.append(
            ["students commit to secondary modes of the teacher; ESR less so", "; ".join(map(submode_words, both))]
        )
    if pairs:
        for a in arms(pairs).values():
            if a["difference"]:
                rows.append([f"... for the pair `{a['student']}` <- `{a['teacher_model']}`",
                             f"ESR against full: {verdict(a['difference'], 'better', 'worse')}; ESR against untrained: "
                             f"{verdict(a['gain'], 'better', 'worse')}"])  # fmt: skip
    if base := record("pairs-base"):
        by = arms(base)
        rows.append([
            "full rollouts collapse for a base student whose terminator is not the teacher's (`base-1`); ESR does not",
            "; ".join(
                f"{say}: ESR {pct(by[f'{name}-esr']['gain'], sign=True)} against untrained, {mean_of(by[f'{name}-esr'], 'finish_rate')}% "
                f"finished; full {pct(by[f'{name}-full']['gain'], sign=True)}, {mean_of(by[f'{name}-full'], 'finish_rate')}%"
                for name, say in (("plain", "terminators apart, as published"), ("merged", "terminators as one event"))
            ),
        ])  # fmt: skip
    if crossed:
        by = arms(crossed)
        rows.append([
            "(the paper's hardest setting) between different tokenizers, `merged-1` <- `teacher-2-best`",
            f"ESR against full: {verdict(by['esr']['difference'], 'better', 'worse')}; ESR against untrained: "
            f"{verdict(by['esr']['gain'], 'better', 'worse')}",
        ])  # fmt: skip
        rows.append([
            "(not the paper's) event classes beat the usual ways to compare two vocabularies, at one learning rate for all",
            "; ".join(
                f"`{name}` against classes: {verdict(by[name]['difference'], 'better', 'worse')}" for name in ("shared-plus-rest", "uld")
            ),
        ])  # fmt: skip
    if tuned:
        a = arms(tuned)["finetune-esr"]
        rows.append(
            [
                "(the paper's own loss) full fine-tuning",
                f"ESR against full: {verdict(a['difference'], 'better', 'worse')}",
            ]
        )
    return table(["claim", "in the lab"], rows) if rows else []


def curve_words(decay: Json, prefix: str, continued_by: str, subset: str) -> str:
    """One series in one sentence."""
    key = (prefix, continued_by, subset)
    series = next(s for s in decay["series"] if (s["prefix"], s["continued_by"], s["subset"]) == key)
    parts = [f"k = {p['k']}: {pct(p['avg'])}" for p in series["points"] if p["avg"]]
    return ", ".join(parts)


def submode_words(submode: Json) -> str:
    rows = [f"{r['model']} {pct(r['rank_1'])}" for r in submode["rows"] if r["model"] != "teacher"]
    where = f"at the top tenth of positions, on {submode['trajectories']} responses"
    return f"own first choice is the teacher's first {where}: {', '.join(rows)}"


def decay_section(decay: Json) -> list[str]:
    rows = []
    for s in decay["series"]:
        for p in s["points"]:
            name = f"{s['continued_by']} after {s['prefix']} prefix" + (
                "" if s["subset"] == "all" else f" ({s['subset']} ones)"
            )
            rows.append(
                [
                    name,
                    str(p["k"]),
                    f"{p['continued']} / {p['finished']}",
                    pct(p["avg"]),
                    pct(p["change"], sign=True),
                    pct(p["with_finished"]),
                ]
            )
    return [
        "### Teacher decay", "",
        f"`esr analyze decay`, {decay['problems']} problems x {decay['samples']} continuations, {decay['models']['student']} and "
        f"{decay['models']['teacher']}. Percent, 95% interval clustered by problem.", "",
        *table(["who continues whom", "k", "continued / finished", "accuracy", "change against k = 0", "finished ones included"], rows),
        f"Recommended N by the curve: {decay['recommendation']['n']} ({decay['recommendation']['rule']})", "",
    ]  # fmt: skip


def selection_section(shares: Json) -> list[str]:
    rows = [
        [f"`{s['by']}`", pct(s["share_of_kl"]), f"{s['mean_kl']:.3f}", f"{s['mean_position']:.0f}"]
        for s in shares["selections"]
    ]
    return ["### What selections keep", "",
            f"`esr analyze selection`, K = {shares['selections'][0]['k']}, {shares['responses']} responses of the untrained student.", "",
            *table(["selection", "share of the KL, percent", "mean KL, nats", "mean position"], rows)]  # fmt: skip


def models_section() -> list[str]:
    """The shipped models, from the scores beside their weights."""
    rows = []
    home = RESULTS.parent / "src" / "esr" / "lab" / "models"
    for file in sorted(home.glob("*/scores.json")):
        s = json.loads(file.read_text())
        accuracy = pct({"value": s["accuracy"], "low": s["low"], "high": s["high"], "n": s["count"]})
        shares = [
            "-" if s[key] is None else f"{100 * s[key]:.1f}"
            for key in ("right", "accuracy_when_right", "concise", "finished")
        ]
        rows.append(
            [f"`lab:{file.parent.name}`", f"{s['parameters']:,}", accuracy, *shares, " / ".join(map(str, s["length"]))]
        )
    head = [
        "model",
        "weights",
        "accuracy",
        "right strategy",
        "executes it",
        "concise",
        "finished",
        "tokens p10 / p50 / p90",
    ]
    return ["### The models", "", "`esr lab list`: 500 test problems, one response each, temperature 0.7, top-p 0.95. Percent.", "",
            *table(head, rows)]  # fmt: skip


def first_screen() -> list[str]:
    """What the lab's page says to somebody who looks at its first screen alone."""
    page = (RESULTS.parent / "docs" / "lab-report.html").read_text()
    plain = lambda text: " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())  # noqa: E731
    found = re.search(r'<dl class="answers">(.*?)</dl>', page, re.DOTALL)
    said = re.search(r'<p class="verdict">(.*?)</p>', page, re.DOTALL)
    asked = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", found[1] if found else "", re.DOTALL)
    return [
        "### The page at a glance", "",
        "A stranger's questions, answered by the first screen of [the lab's page](lab-report.html) alone: "
        f"{plain(said[1]) if said else ''}", "",
        *table(["question", "answer"], [[plain(question), plain(answer)] for question, answer in asked]),
    ]  # fmt: skip


def lab() -> list[str]:
    """Everything about the lab."""
    if not LAB.exists():
        return []
    lines = [
        "## The lab: a model system", "",
        "Tiny transformers on generated arithmetic ([lab.md](lab.md)); what holds here need not hold for language models, and the other "
        "way round. Learning rates and steps were chosen on the development split (the two `tune` studies); the tables below are on the "
        "test split. A verdict needs a paired 95% interval that excludes zero; there is no correction for the number of comparisons.", "",
        "### The paper's claims", "", *claims(), *first_screen(), *models_section(),
    ]  # fmt: skip
    for name in STUDIES:
        if study := record(name):
            lines += study_section(study)
    if decay := record("decay"):
        lines += decay_section(decay)
    if shares := record("selection-shares"):
        lines += selection_section(shares)
    return lines
