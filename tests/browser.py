"""A headless Chromium for the tests of the pages, driven through its DevTools protocol.

with Chromium() as browser, browser.page(width=390) as page:
    page.open(path.as_uri())
    page.run("document.title")
"""

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

websocket = pytest.importorskip("websocket", reason="no websocket-client here to drive a browser")

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-port=0",
]  # fmt: skip


class Chromium:
    """A running browser; `with` ends it."""

    def __init__(self):
        if PROGRAM is None:
            pytest.skip("no chromium here")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [PROGRAM, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        where = Path(self.folder.name) / "DevToolsActivePort"
        started = time.monotonic()
        while not where.exists() or len(where.read_text().split()) < 2:
            if time.monotonic() - started > 60:
                self.process.kill()
                pytest.fail("the browser did not start within a minute")
            time.sleep(0.05)
        port, path = where.read_text().split()
        # A browser lets no page of the web speak to it, so the connection names no origin.
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}", suppress_origin=True, timeout=120
        )
        self.count, self.events = 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def call(self, method, session=None, **params):
        """Send a command and return its result; what happens meanwhile is kept as events."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method, session):
        """Wait until an event has come in a tab."""
        while not any(e["method"] == method and e.get("sessionId") == session for e in self.events):
            self.events.append(json.loads(self.socket.recv()))

    @contextmanager
    def page(self, width=1400, height=1000, scale=1, dark=False):
        """Open a tab of this size; `scale` is the zoom."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call("Page.enable")
        page.call("Network.enable")
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[theme])
        size = {"width": round(width / scale), "height": round(height / scale)}
        page.call(
            "Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=scale, mobile=False
        )
        yield page
        self.call("Target.closeTarget", targetId=target)


class Page:
    """One tab."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def open(self, url):
        """Open a page and wait until it is loaded and its formulas are set."""
        self.browser.events.clear()
        self.call("Page.navigate", url=url)
        self.browser.wait_for("Page.loadEventFired", self.session)
        self.run("Promise.resolve(window.MathJax?.startup?.promise).then(() => true)")

    def run(self, expression):
        """Return the value of a JavaScript expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if details := answer.get("exceptionDetails"):
            error = details.get("exception", {}).get("description", details["text"])
            raise RuntimeError(error)
        return answer["result"].get("value")

    def press(self, key, code, text=""):
        """Press and release a key; one that types or confirms has a text."""
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)
