"""What two tokenizers share: at how many positions a student and a teacher with different ones can be compared, and how well."""

from markupsafe import Markup

from esr.report.figure import Table
from esr.report.format import datum
from esr.report.section import Section
from esr.report.sources import Data, Found

TITLE = "What two tokenizers share"
COLUMNS = (
    "run", "tokens of the student", "of the teacher", "spelled alike", "event classes", "tokens in the largest", "common starts",
    "a perfect student disagrees", "longer chunks", "text measured, bytes",
)  # fmt: skip


def view(data: Data) -> Section:
    """A row for each run whose models have different tokenizers."""
    rows = [_row(run.label, run.tokenizers) for run in data.runs if run.tokenizers]
    if not rows:
        return Section("tokenizers", TITLE, missing="Student and teacher have one vocabulary: every token is compared.")
    return Section("tokenizers", TITLE, "tokenizers.html", {"table": Table(COLUMNS, rows, TITLE)})


def _row(label: str, found: Found) -> tuple[Markup | str, ...]:
    counts = ("student_tokens", "teacher_tokens", "shared", "classes", "largest")
    shares = ("common", "disagreement", "chunk_rest")
    return (
        label,
        *(datum(found, f"/{name}", "count") for name in counts),
        *(datum(found, f"/{name}") for name in shares),
        datum(found, "/text_bytes", "count"),
    )
