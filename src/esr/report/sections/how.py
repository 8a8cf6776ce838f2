"""How the method works: the way of the data, the loss with its shapes, and the window of training in a real rollout."""

import math
from typing import Any

from markupsafe import Markup

from esr.records.rollouts import RolloutView, TokenView
from esr.report.format import datum, pct
from esr.report.section import Section
from esr.report.sections.rollouts import heat, kind, scale, shown
from esr.report.sources import Data, Found, Run

TITLE = "How it works"
MOST = 600
"""Tokens of the strip; a longer response is cut there, and said to be."""
MEASURES = (
    ("reverse_kl", "reverse KL"),
    ("student_entropy", "student entropy"),
    ("teacher_entropy", "teacher entropy"),
)


def view(data: Data) -> Section:
    """Picture and formula are always there; the strip needs rollouts."""
    first = data.first("rollouts")
    chosen = choose(first[1].record.rollouts, first[0].config.rollout.max_new_tokens) if first else None
    context = {
        "sizes": _sizes(data.runs[0]) if data.runs else {},
        "measures": MEASURES,
        "scale": scale(),
        "strip": _strip(*first, chosen) if first and chosen is not None else None,
        "command": data.command("rollouts"),
    }
    return Section("how", TITLE, "how.html", context)


def choose(rollouts: list[RolloutView], n: int) -> int | None:
    """The response to show: the first of the untrained student that goes on beyond N; else its longest; else the first."""
    before = [i for i, r in enumerate(rollouts) if r.model == "before" and r.tokens]
    beyond = [i for i in before if len(rollouts[i].tokens) > n]
    longest = sorted(before, key=lambda i: -len(rollouts[i].tokens))
    others = [i for i, r in enumerate(rollouts) if r.tokens]
    return next(iter([*beyond, *longest, *others]), None)


def share(tokens: list[TokenView], n: int) -> float | None:
    """Share of the summed reverse KL that lies in the first n tokens; None if there is none at all."""
    total = sum(t.reverse_kl for t in tokens)
    return sum(t.reverse_kl for t in tokens[:n]) / total if 0 < total < math.inf else None


def _sizes(run: Run) -> dict[str, Any]:
    """This run's own B and N."""
    rollout = run.config.rollout
    b = Markup('<data value="{}" data-product="{}">{}</data>').format(
        rollout.prompts_per_step * rollout.samples_per_prompt,
        f"{run.settings.source}#/rollout/prompts_per_step /rollout/samples_per_prompt",
        f"{rollout.prompts_per_step * rollout.samples_per_prompt:,}",
    )
    return {"b": b, "n": datum(run.settings, "/rollout/max_new_tokens", "count")}


def _strip(run: Run, found: Found, chosen: int) -> dict[str, Any]:
    v: RolloutView = found.record.rollouts[chosen]
    n, length = run.config.rollout.max_new_tokens, len(v.tokens)
    return {
        "tokens": [_token(v, i, n) for i in range(min(length, MOST))],
        "more": max(0, length - MOST),
        "question": v.question,
        "problem": v.problem,
        "source": f"{found.source}, response {chosen + 1}",
        "model": v.model,
        "esr": _esr(run, found, chosen),
        "full": _full(length),
        "averages": [(key, name, _mean(found, chosen, key, n)) for key, name in MEASURES],
    }


def _token(v: RolloutView, i: int, n: int) -> tuple[str, str, str]:
    """Text, classes and the colours of the three measures."""
    t = v.tokens[i]
    style = f"--k:{heat(t.reverse_kl)};--s:{heat(t.student_entropy)};--t:{heat(t.teacher_entropy)}"
    return shown(t.token), kind(v, i, n) + (" beyond" if i >= n else ""), style


def _esr(run: Run, found: Found, chosen: int) -> Markup:
    """What the window holds."""
    tokens = found.record.rollouts[chosen].tokens
    n, length = run.config.rollout.max_new_tokens, len(tokens)
    size = datum(run.settings, "/rollout/max_new_tokens", "count")
    inside = share(tokens, n)
    if length <= n:
        return Markup("This response has {} tokens, no more than the window of N = {}: nothing is cut.").format(
            length, size
        )
    said = Markup(
        "ESR writes, scores and trains on the first {} of these {} tokens; the dimmed ones would never be written."
    ).format(size, length)
    if inside is None:
        return said
    where = f"{found.source}#/rollouts/{chosen}/tokens/*/reverse_kl first {n}"
    return said + Markup(
        ' The window holds <data value="{}" data-share="{}">{}</data> of the summed reverse KL.'
    ).format(repr(inside), where, pct(inside))


def _full(length: int) -> Markup:
    return Markup("Full on-policy distillation writes, scores and trains on all {} tokens.").format(length)


def _mean(found: Found, chosen: int, key: str, n: int) -> Markup:
    """Mean of a measure inside the window and beyond it."""
    values = [getattr(t, key) for t in found.record.rollouts[chosen].tokens]
    parts = [(values[:n], f"first {n}", "inside the window"), (values[n:], f"after {n}", "beyond it")]
    cells = [
        Markup('<data value="{}" data-part-mean="{}">{}</data> nats {}').format(
            repr(sum(part) / len(part)),
            f"{found.source}#/rollouts/{chosen}/tokens/*/{key} {rule}",
            f"{sum(part) / len(part):.3f}",
            words,
        )
        for part, rule, words in parts
        if part
    ]
    return Markup("a token on average: ") + Markup(", ").join(cells)
