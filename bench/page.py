"""How heavy a report is, and how soon it can be read: python bench/page.py [PAGE] [--times 7] [--out FILE]

Opens the page in a headless Chromium on a wide screen, on a phone, and on a phone whose processor is a quarter as fast, and reads the
browser's own clock: the first paint, the first paint that shows something, and when the document was complete. Each is the median of
`--times` openings; one before them is left out.
"""

import argparse
import gzip
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from clock import machine

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from chromium import Chromium, find  # noqa: E402

SCREENS = {"1280 px": (1280, 1), "390 px": (390, 1), "390 px, a quarter of the speed": (390, 4)}
"""By name: width, and by what the processor is slowed."""
CLOCK = """(() => { const at = (name) => performance.getEntriesByName(name)[0]?.startTime;
const whole = performance.getEntriesByType('navigation')[0];
return [at('first-paint'), at('first-contentful-paint'), whole.domContentLoadedEventEnd, whole.loadEventEnd]; })()"""
MOMENTS = ("first_paint", "first_content", "interactive", "complete")


def opening(browser: Chromium, page: Path, width: int, slowed: int) -> list[float]:
    """Milliseconds from the start of the navigation to each of `MOMENTS`."""
    shown = browser.open(page, width, slowed=slowed)
    for _ in range(100):
        found = shown.js(CLOCK)
        if all(found):
            return found
        shown.js("new Promise((done) => setTimeout(done, 50))")
    sys.exit("The page was never painted.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs" / "lab-report.html")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    program = find()
    if program is None:
        sys.exit("There is no Chromium: `make browser` installs it where it can.")
    content = args.page.read_bytes()
    record: dict[str, Any] = {
        "machine": machine(), "page": args.page.name, "bytes": len(content), "compressed": len(gzip.compress(content)),
        "times": args.times, "screens": {},
    }  # fmt: skip
    browser = Chromium(program)
    try:
        for name, (width, slowed) in SCREENS.items():
            opening(browser, args.page.resolve(), width, slowed)
            found = [opening(browser, args.page.resolve(), width, slowed) for _ in range(args.times)]
            record["screens"][name] = dict(zip(MOMENTS, map(statistics.median, zip(*found, strict=True)), strict=True))
            print(name, {moment: round(at) for moment, at in record["screens"][name].items()}, file=sys.stderr)
    finally:
        browser.close()
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
