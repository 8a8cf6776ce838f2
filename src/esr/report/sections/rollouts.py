"""Responses to read: each token with its divergence, and what both models would rather have said."""

from collections.abc import Sequence
from typing import Any

from esr.records.rollouts import RolloutView, TokenView
from esr.report.section import Section
from esr.report.sources import Data, Run

TITLE = "Rollouts"
CAP = 2.0
"""Nats at which the colour of a token is full, on every page, so that pages can be compared."""
WITHOUT_SCRIPT = 2
"""Responses that are readable without script."""
FIELDS = (
    "token", "reverse_kl", "student_entropy", "teacher_entropy", "student_rank", "teacher_rank", "student_top", "teacher_top",
    "parts",
)  # fmt: skip


def view(data: Data) -> Section:
    """A reader of all responses on the page."""
    views = [(run, found.source, v) for run, found in data.all("rollouts") for v in found.record.rollouts]
    if not views:
        kept = sum(len(run.rollouts) for run in data.runs)
        why = "No response has been scored token by token by both models."
        why += (
            f" Training kept {kept} of its rollouts in rollouts.jsonl, without what the models thought." if kept else ""
        )
        return Section("rollouts", TITLE, missing=why, commands=(data.command("rollouts"),))
    context = {
        "block": block(views),
        "articles": [article(run, v) for run, _, v in views[:WITHOUT_SCRIPT]],
        "total": len(views),
        "ungraded": any(v.right is None for _, _, v in views),
        "models": {v.model for _, _, v in views},
        "sources": sorted({source for _, source, _ in views}),
        "scale": scale(),
    }
    return Section("rollouts", TITLE, "rollouts.html", context)


def heat(nats: float) -> str:
    """How strong a token is coloured, 0 to 1: the root, for most tokens have very little."""
    return f"{min(1.0, max(nats, 0.0) / CAP) ** 0.5:.2f}"


def scale() -> list[tuple[str, str]]:
    """(nats, colour) for the key."""
    return [(f"{nats:g}", heat(nats)) for nats in (0, 0.02, 0.1, 0.5, 1)] + [(f"{CAP:g} and more", "1")]


def shown(token: str) -> str:
    """With a mark where a line breaks."""
    return token.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "↵\n")


def state(v: RolloutView) -> str:
    """`before training · wrong · 86 tokens`; says so if the length limit cut it."""
    grade = {True: "right", False: "wrong", None: "not graded"}[v.right]
    end = "" if v.finished else ", cut by the length limit"
    return f"{v.model} training · {grade} · {len(v.tokens)} tokens{end}"


def kind(v: RolloutView, i: int, n: int) -> str:
    """Classes of a token: the terminator, and the last one inside the window of training."""
    return "tok" + (" end" if v.finished and i == len(v.tokens) - 1 else "") + (" last-in" if i == n - 1 else "")


def article(run: Run, v: RolloutView) -> dict[str, Any]:
    """A response for the reader without script."""
    n = run.config.rollout.max_new_tokens
    tokens = [(shown(t.token), heat(t.reverse_kl), kind(v, i, n)) for i, t in enumerate(v.tokens)]
    return {"question": v.question, "problem": v.problem, "state": state(v), "tokens": tokens}


def block(views: Sequence[tuple[Run, str, RolloutView]]) -> dict[str, Any]:
    """All responses as data for the script: strings once, tokens as rows of `FIELDS`."""
    strings: dict[str, int] = {}

    def number(text: str) -> int:
        return strings.setdefault(text, len(strings))

    rows = [
        {
            "run": run.label,
            "n": run.config.rollout.max_new_tokens,
            "source": source,
            "problem": v.problem,
            "question": v.question,
            "model": v.model,
            "right": v.right,
            "finished": v.finished,
            "tokens": [_row(t, number) for t in v.tokens],
        }
        for run, source, v in views
    ]
    note = "token and the names in *_top are numbers of strings; *_top has name, probability, name, probability, ..."
    return {"note": note, "cap": CAP, "fields": FIELDS, "rollouts": rows, "strings": list(strings)}


def _row(t: TokenView, number: Any) -> list[Any]:
    tops = [[part for name, p in top for part in (number(name), p)] for top in (t.student_top, t.teacher_top)]
    parts = [[" | ".join(t.student_parts), " | ".join(t.teacher_parts)]] if t.student_parts else []
    numbers = [t.reverse_kl, t.student_entropy, t.teacher_entropy, t.student_rank, t.teacher_rank]
    return [number(t.token), *numbers, *tops, *parts]
