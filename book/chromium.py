"""A headless Chromium with one page, driven through its DevTools protocol.

with Chromium() as page:
    page.open("file:///…/index.html")
    page.run("document.title")
"""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import websocket

NAMES = ["chromium", "chromium-browser", "google-chrome"]
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-renderer-backgrounding",
    "--disable-dev-shm-usage", "--remote-debugging-port=0",
]  # fmt: skip
# A page is ready when its formulas are set, its fonts are there and its pictures are decoded.
READY = """(async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    await Promise.all(Array.from(document.images, (image) => image.decode().catch(() => null)));
    return true;
})()"""


class Chromium:
    """A running browser with one page; `with` ends it."""

    def __init__(self, timeout=300):
        if PROGRAM is None:
            raise SystemExit("no Chromium here (on Debian: apt-get install chromium)")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [PROGRAM, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        port = self._port(Path(self.folder.name) / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (target,) = [x for x in json.load(answer) if x["type"] == "page"]
        # A browser lets no page of the web speak to it, so the connection names no origin.
        self.socket = websocket.create_connection(
            target["webSocketDebuggerUrl"], suppress_origin=True, timeout=timeout
        )
        self.count, self.events = 0, []
        for domain in ["Page", "Network", "Runtime", "Log"]:
            self.call(f"{domain}.enable")

    def _port(self, written):
        started = time.monotonic()
        while not (written.exists() and written.read_text().count("\n")):
            if time.monotonic() - started > 60 or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit("Chromium did not start")
            time.sleep(0.05)
        return written.read_text().split("\n")[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def call(self, method, **params):
        """Send a command and return its result; what happens meanwhile is kept in `events`."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        """Open a page and wait until it is ready."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))
        self.run(READY)

    def run(self, expression):
        """Return the value of a JavaScript expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")
