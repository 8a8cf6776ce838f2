"""docs/lab-report.html and its two pictures, from the runs of the lab's studies (studies/lab/).

python tools/write_lab_report.py runs/studies/pool/esr-seed1-* runs/studies/pool/full-seed1-*
"""

import sys
from pathlib import Path

from make_results import STUDIES

from esr.cli.main import run

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = {"lab-report-summary": "#summary", "lab-report-sweep": "#sweep"}


def main(runs: list[str]) -> int:
    page = DOCS / "lab-report.html"
    studies = [place for name in STUDIES if Path(place := f"runs/studies/{name}").exists()]
    code = run(["report", *studies, *runs, "-o", str(page)])
    sys.path.insert(0, str(DOCS.parent / "tests" / "browser"))
    from chromium import Chromium, find

    program = find()
    if code or program is None:
        return code or 1
    browser = Chromium(program)
    try:
        browser.open(page, width=1100)
        browser.js("for (const d of document.querySelectorAll('details')) d.open = false")
        for name, selector in PICTURES.items():
            browser.screenshot(DOCS / f"{name}.png", selector)
    finally:
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
