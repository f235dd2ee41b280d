"""What the tests of pages share: a browser, a server, and the modules of the book's folder."""

import functools
import http.server
import importlib.util
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "book"


def load(name, folder=BOOK):
    """Import a module of the book's folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser():
    pytest.importorskip("websocket", reason="no websocket-client here to drive a browser")
    chromium = load("chromium")
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium here to open the pages in")
    with chromium.Chromium(timeout=120) as running:
        yield running


@pytest.fixture
def tab(browser):
    with browser.tab() as tab:
        yield tab


@contextmanager
def serve(folder, over="http"):
    """Return the address of a folder: on a server, or over "file" that on the disk."""
    if over == "file":
        yield folder.as_uri()
        return

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def complaints(tab):
    """Return what the console of a tab says against its page, and requests to other hosts."""
    tab.run("1")  # fetches the events that are still under way
    found = []
    for event in tab.events:
        what = event["params"]
        level = what.get("type", what.get("entry", {}).get("level"))
        # The theme itself says so where a reader has not chosen light or dark yet.
        loud = level in ("error", "warning") and "theme mode" not in str(what)
        url = what.get("request", {}).get("url", "data:")
        abroad = not url.startswith(("file:", "data:", "http://127.0.0.1:"))
        if loud or abroad or event["method"] == "Runtime.exceptionThrown":
            found.append(what)
    return found
