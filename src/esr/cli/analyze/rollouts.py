"""What `esr analyze rollouts` prints."""

from rich.table import Table
from rich.text import Text

from esr.cli import show
from esr.records.rollouts import Rollouts, RolloutView


def display(record: Rollouts) -> None:
    """One row for each response, and the token at which the models differ most."""
    title = f"Responses to {record.problems} problems of {record.task}; the record holds every token"
    table = Table(title=title, title_justify="left")
    for name in (
        "problem",
        "by",
        "answer",
        "tokens",
        "mean KL, nats",
        "largest KL at",
        "student's first",
        "teacher's first",
    ):
        table.add_column(name, justify="right" if name in ("tokens", "mean KL, nats") else "left", overflow="fold")
    for view in record.rollouts:
        table.add_row(*map(Text, cells(view)))
    show.out.print(table)
    if record.problems < record.settings["asked_for"]:
        show.out.print(
            f"{record.settings['asked_for']} problems were asked for; the record holds as many as fit "
            f"{record.settings['largest_file']:,} characters."
        )


def cells(view: RolloutView) -> list[str]:
    """A response's row."""
    verdict = {True: "right", False: "wrong", None: "not graded"}[view.right]
    position = max(range(len(view.tokens)), key=lambda i: view.tokens[i].reverse_kl)
    token = view.tokens[position]
    mean = sum(t.reverse_kl for t in view.tokens) / len(view.tokens)
    firsts = [f"{top[0][0]!r} {top[0][1]:.2f}" for top in (token.student_top, token.teacher_top)]
    where = f"{position}: {token.token!r} ({token.reverse_kl:.2f})"
    ending = "" if view.finished else ", cut"
    return [view.problem, view.model, verdict + ending, str(len(view.tokens)), f"{mean:.3f}", where, *firsts]
