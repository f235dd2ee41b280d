"""A headless Chromium, driven through its DevTools protocol as a reader would use it.

with Chromium() as browser, browser.tab(width=390, dark=True) as tab:
    tab.open("file:///…/index.html")
    tab.run("document.title")
"""

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import websocket

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-renderer-backgrounding",
    "--disable-dev-shm-usage", "--remote-debugging-port=0",
]  # fmt: skip
# A page is ready when its formulas are set, its fonts are there and its pictures are decoded,
# except those that load only when a reader comes near.
READY = """(async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    const pictures = document.querySelectorAll("img:not([loading=lazy])");
    await Promise.all(Array.from(pictures, (image) => image.decode().catch(() => null)));
    return true;
})()"""


class Chromium:
    """A running browser; `with` ends it."""

    def __init__(self, timeout=300):
        if PROGRAM is None:
            raise SystemExit("no Chromium here (on Debian: apt-get install chromium)")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [PROGRAM, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        port, path = self._where(Path(self.folder.name) / "DevToolsActivePort")
        # A browser lets no page of the web speak to it, so the connection names no origin.
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}", suppress_origin=True, timeout=timeout
        )
        self.count, self.events = 0, []

    def _where(self, written):
        """Return the port and the path that the browser writes once it listens."""
        started = time.monotonic()
        while not (written.exists() and len(written.read_text().split()) == 2):
            if time.monotonic() - started > 60 or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit("Chromium did not start")
            time.sleep(0.05)
        return written.read_text().split()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def call(self, method, session=None, **params):
        """Send a command and return its result; what happens meanwhile is kept in `events`."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while (answer := json.loads(self.socket.recv())).get("id") != self.count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    @contextmanager
    def tab(self, dark=False, **size):
        """Open an empty tab, which shares nothing with others, of a size as in `Tab.resize`."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        place = {"url": "about:blank", "browserContextId": context}
        target = self.call("Target.createTarget", **place)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ["Page", "Network", "Runtime", "Log"]:
            tab.call(f"{domain}.enable")
        tab.call("Page.setLifecycleEventsEnabled", enabled=True)
        tab.resize(**size)
        tab.show_as(dark=dark)
        try:
            yield tab
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Tab:
    """One tab, with a reader's hands."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    @property
    def events(self):
        """What has happened in this tab since it opened its page."""
        return [event for event in self.browser.events if event.get("sessionId") == self.session]

    def resize(self, width=1400, height=1000, scale=1, phone=False):
        """Give the window a size in pixels; `scale` is the zoom, and a phone has a touch screen."""
        size = {"width": round(width / scale), "height": round(height / scale)}
        size |= {"deviceScaleFactor": scale, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def show_as(self, media="", dark=False):
        """Show the page as on a screen or in print, to one who prefers light or dark."""
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[theme])

    def open(self, url):
        """Open a page and wait until it is ready."""
        self.browser.events.clear()
        # The load of an empty tab may be told of late: this page's is known by its loader.
        loaded = {"name": "load", "loaderId": self.call("Page.navigate", url=url)["loaderId"]}
        while not any(loaded.items() <= event["params"].items() for event in self.events):
            self.browser.events.append(json.loads(self.browser.socket.recv()))
        self.run(READY)

    def run(self, expression):
        """Return the value of a JavaScript expression, awaited."""
        how = {"awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", expression=expression, **how)
        if details := answer.get("exceptionDetails"):
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait(self, condition):
        """Wait until a JavaScript expression is true, for a minute at most."""
        end = time.monotonic() + 60
        while not self.run(f"Boolean({condition})"):  # an element itself has no value here
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {condition}")
            time.sleep(0.05)

    def box(self, selector):
        """Scroll to an element; return its left, its top, its width and its height."""
        return self.run(
            f"""(element => {{ element.scrollIntoView({{block: "center"}});
            const {{x, y, width, height}} = element.getBoundingClientRect();
            return [x, y, width, height]; }})(document.querySelector({json.dumps(selector)}))"""
        )

    def press(self, key, times=1, shift=False):
        """Press and release a key by its name, such as "Tab" or "a"."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        same = {"key": key, "modifiers": 8 if shift else 0}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
            self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def drag(self, points, how="mouse"):
        """Press at the first point, go along the others and release, by mouse or by touch."""
        for i, (x, y) in enumerate([*points, points[-1]]):
            down = i < len(points)
            if how == "mouse":
                kind = "mouseReleased" if not down else "mouseMoved" if i else "mousePressed"
                button = {"button": "left", "buttons": int(down), "clickCount": 1}
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)
            else:
                kind = "touchEnd" if not down else "touchMove" if i else "touchStart"
                touches = [{"x": x, "y": y}] if down else []
                self.call("Input.dispatchTouchEvent", type=kind, touchPoints=touches)
