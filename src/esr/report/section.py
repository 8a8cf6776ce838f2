"""What a section of the page is, and what stands in its place when its data are missing."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section, ready for its template."""

    id: str
    """Anchor and element id."""
    title: str
    template: str = ""
    """File in `templates/`; it gets `section` and everything in `context`. Empty for a missing one."""
    context: dict[str, Any] | None = None
    missing: str = ""
    """Why there is nothing to show, in one sentence; said at the end of the page."""
    commands: tuple[str, ...] = ()
    """Commands that would make the missing data."""


"""A section module in `esr.report.sections` has one function, `view(data: Data) -> Section`, and no other effect."""
