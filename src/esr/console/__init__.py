"""What people see while something runs. Everything here goes to stderr; stdout is for results."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from esr.console.foreign import visible


class Terminal(Console):
    """A terminal that does only what `esr` itself says: text from elsewhere neither colours it nor moves its cursor."""

    def __init__(self, stderr: bool = False):
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """Every string on its way to the screen, in tables too, before its width is measured."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The same for text that comes with a style."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


console = Terminal(stderr=True)
LOG_EVERY = 20.0
"""Seconds between progress lines where there is no terminal."""

Advance = Callable[..., None]


def say(message: str) -> None:
    """One line for the user."""
    console.print(message, soft_wrap=True)


def loading() -> None:
    """Say that the heavy libraries come now: they take seconds, and a command shows a sign of life at once."""
    if "torch" not in sys.modules:
        say("Loading torch and transformers ...")


class _Rate(ProgressColumn):
    """Units per second, or seconds per unit where that reads better."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.finished_speed or task.speed, task.fields["unit"]))


def rate(speed: float | None, unit: str) -> str:
    """`3.2 problems/s` or `8.1 s/step`."""
    if not speed:
        return ""
    return f"{speed:.1f} {unit}s/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


@contextlib.contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """A bar with rate and ETA on a terminal, a line now and then elsewhere.

    Yields `advance(amount=1, note="")`.
    """
    title = visible(title)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console, transient=False, speed_estimate_period=120) as bar:
            task = bar.add_task(title, total=total, completed=done, unit=unit, note="")

            def advance(amount: int = 1, note: str = "") -> None:
                bar.advance(task, amount)
                if note:
                    bar.update(task, note=visible(note))

            yield advance
    elif console.quiet:
        yield lambda amount=1, note="": None
    else:
        yield _Lines(title, total, unit, done).advance


class _Lines:
    """Progress as occasional lines."""

    def __init__(self, title: str, total: int, unit: str, done: int):
        self.title, self.total, self.unit, self.done, self.first = title, total, unit, done, done
        self.start = self.last = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        ends = amount > 0 and self.done >= self.total
        if now - self.last < LOG_EVERY and not ends:
            return
        self.last = now
        speed = (self.done - self.first) / max(now - self.start, 1e-9)
        left = f"{duration((self.total - self.done) / speed)} left" if speed and self.done < self.total else ""
        known = ", ".join(
            part for part in (f"{self.done}/{self.total} {self.unit}s", rate(speed, self.unit), left) if part
        )
        text = f"{self.title}: {known}{'; ' + note if note else ''}"
        print(visible(text), file=sys.stderr, flush=True)
