"""`esr report`."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from esr.cli import show


def report(
    paths: Annotated[list[Path], typer.Argument(help="Run directories and studies.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what the page holds as JSON.")] = False,
) -> None:
    """Write one self-contained HTML page from runs and studies, and print its path.

    Example: `esr report runs/lab runs/studies/n-sweep -o report.html --open`
    """
    from esr.report import page
    from esr.report import sources as data
    from esr.runs.files import write_page

    found = data.load(paths)
    text = page.render(found)
    write_page(output, text)
    if json:
        shown = {section.id: bool(section.template) for section in page.sections(found)}
        show.emit({"report": str(output), "bytes": len(text.encode()), "sections": shown, "trouble": found.trouble})
    else:
        show.out.print(str(output), soft_wrap=True)
    if open_page:
        webbrowser.open(output.resolve().as_uri())
