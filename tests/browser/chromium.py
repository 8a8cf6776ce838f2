"""A headless Chromium, driven over its DevTools protocol through a pipe: no driver and no Python package is needed.

`make browser` installs it where it can; elsewhere install it, or set CHROMIUM to the program's path.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
PATIENCE = 180
"""Seconds to wait for an answer."""
KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9, "Enter": 13, " ": 32,
}  # fmt: skip


def find() -> str | None:
    """The program, if there is one."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One process with one page at a time."""

    def __init__(self, program: str):
        self.profile = tempfile.mkdtemp(prefix="esr-chromium-")
        (theirs_in, self.out), (self.into, theirs_out) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self.process = subprocess.Popen(
            [program, f"--user-data-dir={self.profile}", *ARGUMENTS], preexec_fn=place, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self.profile},
        )  # fmt: skip
        for fd in (theirs_in, theirs_out, *ends):
            os.close(fd)
        self.numbers, self.buffer, self.session, self.target = itertools.count(1), b"", "", ""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End the process and forget its profile."""
        try:
            self.call("Browser.close", page=False)
            self.process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        for fd in (self.out, self.into):
            os.close(fd)
        shutil.rmtree(self.profile, ignore_errors=True)

    # The protocol

    def call(self, method: str, page: bool = True, **params: Any) -> dict[str, Any]:
        """One command and its answer; events that come meanwhile are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self.session} if page else {})
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.into], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self.into, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("Chromium does not answer." if not ready else "Chromium has ended.")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, method: str) -> None:
        """Until an event of the current page has come."""
        while not any(e.get("method") == method and e.get("sessionId") == self.session for e in self.events):
            self.events.append(self._receive())

    # A page

    def open(
        self,
        file: Path,
        width: int = 1280,
        dark: bool = False,
        script: bool = True,
        colour: bool = True,
        slowed: float = 1,
    ) -> "Chromium":
        """Load a file in a page of its own that remembers nothing. `colour` False leaves the preferred scheme as it is; the page
        has a processor `slowed` times as slow."""
        if self.target:
            self.call("Target.closeTarget", page=False, targetId=self.target)
        self.target = self.call("Target.createTarget", page=False, url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", page=False, targetId=self.target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setCPUThrottlingRate", rate=slowed)
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        features = [("prefers-reduced-motion", "reduce")]
        features += [("prefers-color-scheme", "dark" if dark else "light")] if colour else []
        self.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features])
        self.call("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait_for("Page.loadEventFired")
        return self

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element says, in one line."""
        return " ".join(self.js(f"document.querySelector({json.dumps(selector)}).textContent").split())

    def value(self, selector: str) -> float:
        """Its `data-value`."""
        return float(self.js(f"document.querySelector({json.dumps(selector)}).dataset.value"))

    def trouble(self) -> list[str]:
        """Errors and warnings on the console, exceptions included."""
        self.js("new Promise((done) => setTimeout(done, 30))")
        found = []
        for e in self.events:
            params = e.get("params", {})
            bad = (
                e.get("method") == "Runtime.exceptionThrown"
                or (e.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"))
                or (e.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"))
            )
            found += [json.dumps(params)[:500]] if bad else []
        return found

    def requests(self) -> list[str]:
        """Addresses that the page has asked for, itself first."""
        self.js("new Promise((done) => setTimeout(done, 30))")
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    # The reader's hands

    def point(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Bring an element into view; where on the screen a place in it is."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.js(f"(({{x, y, width, height}}) => [x, y, width, height])({element}.getBoundingClientRect())")
        assert box[2] > 0 and box[3] > 0, f"{selector} is not shown"
        return box[0] + x * box[2], box[1] + y * box[3]

    def mouse(self, kind: str, at: tuple[float, float]) -> None:
        """`mouseMoved`, `mousePressed` or `mouseReleased`."""
        press = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        held = {"buttons": 1} if kind == "mousePressed" else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **press, **held)

    def hover(self, selector: str) -> None:
        self.mouse("mouseMoved", self.point(selector))

    def click(self, selector: str) -> None:
        at = self.point(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, at)

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From one place in an element to another; both in parts of its size."""
        self.mouse("mousePressed", self.point(selector, *start))
        for part in (0.25, 0.5, 0.75, 1.0):
            where = tuple(a + part * (b - a) for a, b in zip(start, end))
            self.mouse("mouseMoved", self.point(selector, *where))
        self.mouse("mouseReleased", self.point(selector, *end))

    def focus(self, selector: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")

    def key(self, name: str, times: int = 1) -> None:
        """Press and release a key of `KEYS`."""
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=KEYS[name])

    def choose(self, selector: str, index: int) -> None:
        """Take an option of a select, as a reader does."""
        self.js(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)}); s.selectedIndex = {index};"
            " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    # What it can keep

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def download(self, selector: str, folder: Path, name: str) -> Path:
        """Click, and wait for the file."""
        self.call("Browser.setDownloadBehavior", page=False, behavior="allow", downloadPath=str(folder))
        self.click(selector)
        until = time.monotonic() + PATIENCE
        while not (folder / name).exists() and time.monotonic() < until:
            self.js("new Promise((done) => setTimeout(done, 30))")
        return folder / name

    def screenshot(self, file: Path, selector: str = "body") -> Path:
        """An element, whole, as wide as the page."""
        y, height = self.js(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.top + scrollY, b.height]; })()"
        )
        clip = {"x": 0, "y": y, "width": self.js("innerWidth"), "height": max(1, min(height, 8000)), "scale": 1}
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(answer["data"]))
        return file
