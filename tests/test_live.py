"""The live figures, in a real browser: their numbers are PyTorch's, and a reader can use them."""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import websocket

import vaebook as vb
from vaebook.sampling import spherical

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "book" / "_static" / "live"
SITE = ROOT / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

spec = importlib.util.spec_from_file_location(
    "live_figures", ROOT / "book" / "_ext" / "live_figures.py"
)
live_figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(live_figures)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
pytestmark = pytest.mark.slow

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="live.css">
{scripts}<body style="max-width: 700px">{figures}</body>"""


def page(kinds, before=""):
    scripts = [live_figures.WEIGHTS, "live.js", *(f"{kind}.js" for kind in kinds)]
    return PAGE.format(
        scripts=before + "".join(f'<script defer src="{name}"></script>' for name in scripts),
        figures="".join(
            live_figures.markup(kind, "A still picture.", ".") + "A caption.</figcaption></figure>"
            for kind in kinds
        ),
    )


@pytest.fixture(scope="module")
def model():
    return vb.pretrained("mnist-2d")


@pytest.fixture(scope="module")
def data():
    return vb.load("mnist", offline="digits", download=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page for each figure, and pages on which something is wrong, made as the build does."""
    made = tmp_path_factory.mktemp("live")
    shutil.copytree(SCRIPTS, made, dirs_exist_ok=True)
    live_figures.write(made)
    for kind in live_figures.HELP:
        (made / f"{kind}.html").write_text(page([kind]), encoding="utf-8")
    no_canvas = "<script>HTMLCanvasElement.prototype.getContext = () => null</script>"
    (made / "no-canvas.html").write_text(page(live_figures.HELP, no_canvas), encoding="utf-8")
    for name, change in DAMAGES.items():
        text = (made / live_figures.WEIGHTS).read_text(encoding="utf-8")
        (made / f"{name}.js").write_text(change(text), encoding="utf-8")
        html = page(live_figures.HELP).replace(live_figures.WEIGHTS, f"{name}.js")
        (made / f"{name}.html").write_text(html, encoding="utf-8")
    html = page(live_figures.HELP).replace(live_figures.WEIGHTS, "nothing.js")
    (made / "missing.html").write_text(html, encoding="utf-8")
    return made


def flip(text):
    """Change one letter in the middle of the weights."""
    start = text.index('"weights": "') + 100_000
    return text[:start] + ("A" if text[start] != "A" else "B") + text[start + 1 :]


DAMAGES = {"flipped": flip, "cut": lambda text: text[: len(text) // 2], "empty": lambda text: ""}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module", params=["file", "http"])
def address(request, folder):
    """Where the pages are: in a folder, or on a server."""
    if request.param == "file":
        yield folder.as_uri()
        return
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def files(folder):
    return folder.as_uri()


# --- a browser, through its DevTools protocol -----------------------------------------------


class Tab:
    """A tab of headless Chromium: opens pages, runs JavaScript, and acts as a reader would."""

    def __init__(self, url):
        self.socket = websocket.create_connection(url, timeout=60, suppress_origin=True)
        self.count, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, program):
        """Return what an expression, or a promise, evaluates to."""
        result = self.send(
            "Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, url, width=1000, height=1200):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def wait(self, condition):
        end = time.monotonic() + 60
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def settle(self):
        """Wait until all work is done, that which may wait, too."""
        for condition in ("true", "vaebookLive.pending() === 0", "true"):
            self.wait(condition)
            frames = "(n) => n ? requestAnimationFrame(() => wait(n - 1)) : done()"
            self.run(f"new Promise((done) => {{ const wait = {frames}; wait(3); }})")

    def box(self, selector):
        self.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
        return self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )

    def text(self, selector):
        return self.run(f"document.querySelector('{selector}').textContent")

    def pixels(self, selector):
        """Return the red channel of a canvas."""
        program = f"""(() => {{ const from = document.querySelector('{selector}');
            const [width, height] = [from.width, from.height];
            const to = new OffscreenCanvas(width, height).getContext('2d');
            to.drawImage(from, 0, 0);
            const all = to.getImageData(0, 0, width, height).data;
            return [height, width, ...all.filter((_, i) => i % 4 === 0)]; }})()"""
        height, width, *values = self.run(program)
        return np.array(values).reshape(height, width) / 255

    def follow(self, points, how):
        """Press at the first point, go along the others and release."""
        for i, (x, y) in enumerate([*points, points[-1]]):
            last = i == len(points)
            if how == "mouse":
                kind = "mouseReleased" if last else "mouseMoved" if i else "mousePressed"
                self.send(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                    buttons=0 if last else 1, clickCount=1,
                )  # fmt: skip
            else:
                kind = "touchEnd" if last else "touchMove" if i else "touchStart"
                touches = [] if last else [{"x": x, "y": y}]
                self.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)

    def press(self, key, times=1, shift=False):
        text = {"text": key} if len(key) == 1 else {}
        for _ in range(times):
            modifiers = 8 if shift else 0
            self.send(
                "Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text
            )
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def click(self, name):
        self.run(
            f"[...document.querySelectorAll('button')].find((b) => b.textContent === '{name}')"
            ".click()"
        )

    def complaints(self):
        """Return what the console says, and requests to other hosts."""
        self.run("1")  # fetches the events that are still under way
        found = []
        for event in self.events:
            kind, what = event["method"], event["params"]
            if kind == "Runtime.exceptionThrown":
                found.append(what["exceptionDetails"]["exception"].get("description"))
            elif kind == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
                found.append(what["entry"]["text"])
            elif kind == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning"):
                # The theme's own word about a reader who has not chosen light or dark yet.
                if "theme mode" not in str(what["args"]):
                    found.append(what["args"])
            elif kind == "Network.requestWillBeSent":
                url = what["request"]["url"]
                if not url.startswith(("file:", "data:", "http://127.0.0.1")):
                    found.append(url)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile")
    flags = ["--headless", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, **quiet)
    try:
        end = time.monotonic() + 60
        while not (port := profile / "DevToolsActivePort").exists() or not port.read_text():
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
        number = port.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/json/list") as answer:
            found = [tab for tab in json.load(answer) if tab["type"] == "page"]
        tab = Tab(found[0]["webSocketDebuggerUrl"])
        yield tab
        tab.socket.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def numbers(text):
    return [float(n.replace("−", "-")) for n in re.findall(r"[-−]?\d+\.\d+", text)]


def shown_code(tab):
    return torch.tensor([numbers(tab.text(".live-shown"))[:2]])


# --- the numbers ----------------------------------------------------------------------------


@needs_browser
def test_codes_pixels_and_both_terms_are_those_of_pytorch(browser, address, model, data):
    browser.open(f"{address}/latent-plane.html")
    images = data.test[::311][:24]
    codes = []
    hook = model.decoder.register_forward_pre_hook(lambda _, arguments: codes.append(arguments[0]))
    rows = [vb.evaluate(model, images[i : i + 1], seed=i) for i in range(len(images))]
    hook.remove()
    mean, std = vb.posterior(model, images)
    for i, row in enumerate(rows):
        x, z = images.pixels[i].flatten().tolist(), codes[i][0]
        found = browser.run(
            f"""(() => {{
            const live = vaebookLive, model = live.load();
            const x = Float32Array.from({x}, (v) => v / 255);
            const q = model.encode(x), logits = model.decode({z.tolist()});
            return {{...q, pixels: [...live.sigmoid(logits)], ...live.terms(x, logits, q)}};
            }})()"""
        )
        torch.testing.assert_close(torch.tensor(found["mean"]), mean[i], atol=0.003, rtol=0)
        found_std = (0.5 * torch.tensor(found["logVar"])).exp()
        torch.testing.assert_close(found_std, std[i], atol=0, rtol=0.01)
        pixels = vb.decode(model, z[None]).flatten()
        assert np.abs(np.array(found["pixels"]) - pixels.numpy()).max() < 0.01
        assert found["reconstruction"] == pytest.approx(row["reconstruction"], abs=0.1)
        assert found["kl"] == pytest.approx(row["kl"], abs=0.1)


@needs_browser
@pytest.mark.parametrize("z", [(0, 0), (3.2, -3.2), (-40, 90)])
def test_far_codes_are_decoded_as_by_pytorch(browser, files, model, z):
    browser.open(f"{files}/latent-plane.html")
    program = f"[...vaebookLive.sigmoid(vaebookLive.load().decode({list(z)}))]"
    wanted = vb.decode(model, torch.tensor([z]).float()).flatten()
    np.testing.assert_allclose(browser.run(program), wanted, atol=0.01)


@needs_browser
@pytest.mark.parametrize(
    ("start", "end"),
    [((1, 0), (0, 3)), ((-1.6, 0.4), (1.2, -0.8)), ((1, 0), (-2, 0)), ((0, 0), (1, 2)),
     ((1, 2), (1, 2))],
)  # fmt: skip
def test_spherical_walks_are_those_of_the_package(browser, files, start, end):
    browser.open(f"{files}/latent-plane.html")
    shares = [0, 0.25, 0.5, 1]
    program = f"{shares}.map((s) => vaebookLive.spherical({list(start)}, {list(end)}, s))"
    first, last = torch.tensor([start]).float(), torch.tensor([end]).float()
    wanted = spherical(first, last, torch.tensor(shares)[:, None])
    np.testing.assert_allclose(browser.run(program), wanted, atol=1e-5)


# --- the latent plane -----------------------------------------------------------------------


def assert_image_is_of(tab, model, z, selector=".live-side > .live-pixels"):
    assert np.abs(tab.pixels(selector) - vb.decode(model, z)[0, 0].numpy()).max() < 0.02


@needs_browser
def test_the_plane_shows_what_a_dragged_code_decodes_to(browser, address, model):
    browser.open(f"{address}/latent-plane.html")
    browser.settle()
    assert_image_is_of(browser, model, shown_code(browser))
    x, y, side, _ = browser.box(".live-square")
    browser.follow([(x + side * s, y + side / 2) for s in (0.25, 0.4, 0.75)], "mouse")
    browser.settle()
    z = shown_code(browser)
    torch.testing.assert_close(z, torch.tensor([[1.6, 0.0]]), atol=0.04, rtol=0)
    assert_image_is_of(browser, model, z)
    path = browser.pixels(".live-strips canvas")
    for i in range(10):  # equal steps from z₁ = −1.6 to 1.6
        code = torch.tensor([[-1.6 + 3.2 * i / 9, 0.0]])
        wanted = vb.decode(model, code)[0, 0].numpy()
        assert np.abs(path[:, 28 * i : 28 * i + 28] - wanted).mean() < 0.02
    browser.click("Clear path")
    browser.settle()
    assert browser.pixels(".live-strips canvas").max() == 0
    assert not browser.complaints()


@needs_browser
def test_a_finger_drags_the_code_on_a_narrow_screen(browser, files, model):
    browser.open(f"{files}/latent-plane.html", width=390, height=844)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    x, y, side, _ = browser.box(".live-square")
    browser.follow([(x + side * s, y + side * 0.25) for s in (0.3, 0.5, 0.7, 0.8)], "touch")
    browser.settle()
    z = shown_code(browser)
    torch.testing.assert_close(z, torch.tensor([[1.92, 1.6]]), atol=0.05, rtol=0)
    assert_image_is_of(browser, model, z)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=False)


@needs_browser
def test_keys_move_and_pin_the_code_and_the_walks_follow(browser, files, model):
    browser.open(f"{files}/latent-plane.html")
    browser.run("document.querySelector('.live-square').focus()")
    browser.press("Home")
    browser.press("ArrowLeft", 12)
    browser.press("ArrowDown", 2, shift=True)
    browser.press("a")
    browser.press("Home")
    browser.press("ArrowUp", 13)
    browser.press("b")
    browser.settle()
    browser.wait("document.querySelector('.live-read').textContent.includes('pinned as B')")
    browser.press("ArrowUp", 40)
    browser.settle()
    assert shown_code(browser)[0].tolist() == pytest.approx([0, 3.2])
    a, b = torch.tensor([[-1.2, -0.04]]), torch.tensor([[0.0, 1.3]])
    share = torch.linspace(0, 1, 10)[:, None]
    for place, walk in ((4, torch.lerp(a, b, share)), (6, spherical(a, b, share))):
        strip = browser.pixels(f".live-strips :nth-child({place})")
        wanted = torch.cat(list(vb.decode(model, walk)[:, 0]), dim=1).numpy()
        assert np.abs(strip - wanted).max() < 0.02
    assert not browser.complaints()


@needs_browser
def test_dragging_is_smooth(browser, files):
    """A frame of a drag takes at most 33 ms of one core, and of the clock if the core is free."""
    browser.open(f"{files}/latent-plane.html")
    browser.settle()
    browser.run(
        """window.took = []; (function next(then) { requestAnimationFrame((now) => {
        if (then) took.push(now - then); next(now); }); })()"""
    )
    browser.send("Performance.enable")

    def computed():
        metrics = browser.send("Performance.getMetrics")["metrics"]
        return 1000 * next(m["value"] for m in metrics if m["name"] == "ProcessTime")

    x, y, side, _ = browser.box(".live-square")
    around = np.linspace(0, 2 * np.pi, 90)
    points = np.stack([np.cos(around), np.sin(around)], 1) * side / 4 + [x, y] + side / 2
    before = computed()
    browser.run("took.length = 0")
    browser.follow(points.tolist(), "mouse")
    took = browser.run("took")
    each, median = (computed() - before) / min(len(took), len(points)), statistics.median(took)
    browser.send("Performance.disable")
    print(f"a frame computes for {each:.1f} ms; the median frame takes {median:.1f} ms")
    assert each < 33
    if hasattr(os, "getloadavg") and os.getloadavg()[0] < os.cpu_count():
        assert median < 34  # two of the screen's 60 frames a second


# --- draw your own --------------------------------------------------------------------------

SEVEN = [(0.25, 0.2), (0.5, 0.2), (0.75, 0.2), (0.6, 0.5), (0.45, 0.85)]


def cell(tab, row):
    return numbers(tab.text(f".live-numbers tr:nth-child({row + 1}) td"))


@needs_browser
@pytest.mark.parametrize("how", ["mouse", "touch"])
def test_a_drawing_has_the_numbers_of_its_pixels(browser, address, model, how):
    browser.open(f"{address}/draw-your-own.html")
    x, y, side, _ = browser.box(".live-square")
    browser.follow([(x + side * a, y + side * b) for a, b in SEVEN], how)
    browser.settle()
    seen = browser.pixels(".live-part canvas")
    rows, columns = seen.nonzero()
    assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22  # as in MNIST, from corner to corner
    centre = (seen.sum(axis=0) @ (np.arange(28) + 0.5)) / seen.sum()
    assert centre == pytest.approx(14, abs=0.3)
    image = torch.tensor(seen).float()[None, None]
    mean, std = vb.posterior(model, image)
    with torch.no_grad():
        logits = model.decode(mean)
    terms = [-model.likelihood.log_prob(logits, image).item()]
    terms.append((0.5 * (mean**2 + std**2 - 1) - std.log()).sum().item())
    assert cell(browser, 1) == pytest.approx(mean[0].tolist(), abs=0.011)
    assert cell(browser, 2) == pytest.approx(std[0].tolist(), abs=0.011)
    for row, wanted in enumerate([*terms, sum(terms)], 3):
        assert cell(browser, row)[0] == pytest.approx(wanted, abs=0.15)  # with one decimal
    assert_image_is_of(browser, model, mean, ".live-part:nth-child(2) canvas")
    assert not browser.complaints()


@needs_browser
def test_a_draw_comes_from_the_posterior(browser, files, model):
    browser.open(f"{files}/draw-your-own.html")
    browser.click("A test image")
    browser.settle()
    mean, std = np.array(cell(browser, 1)), np.array(cell(browser, 2))
    draws = []
    for _ in range(20):
        browser.click("Draw from the posterior")
        browser.settle()
        draws.append(numbers(browser.text(".live-shown"))[:2])
        z = torch.tensor(draws[-1:])
    distances = (np.array(draws) - mean) / std
    assert 0.4 < distances.std() < 1.7
    assert np.abs(distances).max() < 5
    drawn = browser.pixels(".live-part:nth-child(2) canvas")
    assert np.abs(drawn - vb.decode(model, z)[0, 0].numpy()).mean() < 0.02


@needs_browser
def test_an_empty_pad_shows_the_prior(browser, files, model):
    browser.open(f"{files}/draw-your-own.html")
    for draws in (0, 1):
        for _ in range(draws):
            browser.click("Draw from the posterior")
        browser.settle()
        assert cell(browser, 1) == [0, 0]
        assert cell(browser, 2) == [1, 1]
        assert "prior" in browser.text(".live-shown")
        assert "NaN" not in browser.run("document.body.textContent")
    browser.click("Clear")
    browser.click("Undo")
    browser.settle()
    assert_image_is_of(browser, model, torch.zeros(1, 2), ".live-part:nth-child(2) canvas")
    assert not browser.complaints()


@needs_browser
def test_a_drawing_is_made_and_taken_back_with_keys_alone(browser, files):
    browser.open(f"{files}/draw-your-own.html")
    browser.run("document.querySelector('.live-square').focus()")
    browser.press(" ")
    browser.press("ArrowDown", 10)
    browser.press(" ")
    browser.press("ArrowRight", 3)
    browser.settle()
    seen = browser.pixels(".live-part canvas")
    rows, columns = seen.nonzero()
    assert np.ptp(rows) > 3 * np.ptp(columns)  # a one
    assert cell(browser, 3)[0] < 200
    browser.press("Backspace")
    browser.settle()
    assert browser.pixels(".live-part canvas").max() == 0


@needs_browser
@pytest.mark.parametrize("stroke", [[(0.5, 0.5)], 20 * [(0.02, 0.02), (0.98, 0.98), (0.02, 0.98)]])
def test_odd_drawings_have_finite_numbers(browser, files, stroke):
    browser.open(f"{files}/draw-your-own.html")
    x, y, side, _ = browser.box(".live-square")
    browser.follow([(x + side * a, y + side * b) for a, b in stroke], "mouse")
    browser.settle()
    assert browser.pixels(".live-part canvas").max() > 0.9
    assert np.isfinite(cell(browser, 5)).all()
    assert "NaN" not in browser.run("document.body.textContent")


@needs_browser
def test_what_is_no_digit_costs_more(browser, files):
    browser.open(f"{files}/draw-your-own.html")
    x, y, side, _ = browser.box(".live-square")
    for stroke in ([(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]):
        browser.follow([(x + side * a, y + side * b) for a, b in stroke], "mouse")
    browser.settle()
    yours, average = (
        numbers(browser.text(f".live-numbers tr:nth-child(4) td:nth-of-type({i})"))[0]
        for i in (1, 2)
    )
    assert average == pytest.approx(vb.pretrained_card("mnist-2d")["reconstruction"], abs=0.06)
    assert yours > 1.5 * average


# --- the page around them -------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("name", [*DAMAGES, "missing", "no-canvas"])
def test_what_cannot_come_alive_stays_a_picture_with_a_sentence(browser, files, name):
    browser.open(f"{files}/{name}.html")
    for kind in live_figures.HELP:
        figure = f'[data-live="{kind}"]'
        note = browser.text(f"{figure} .live-still-note")
        assert re.fullmatch(r"This picture is still: [^.]+\.", note)
        assert ("canvas" if name == "no-canvas" else "weights") in note
        shown = "getClientRects().length"
        assert browser.run(f"document.querySelector('{figure} .live-still').{shown}")
        assert not browser.run(f"document.querySelector('{figure} .live-stage').{shown}")
    thrown = [e for e in browser.events if e["method"] == "Runtime.exceptionThrown"]
    assert len(thrown) == (name == "cut")  # the browser's own, of half a script


@needs_browser
@pytest.mark.parametrize("kind", live_figures.HELP)
def test_paper_and_browsers_without_scripts_get_the_picture(browser, files, kind):
    shown = "document.querySelector('.live-still').getClientRects().length"
    browser.open(f"{files}/{kind}.html")
    assert not browser.run(shown)
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.run(shown)
    assert not browser.run("document.querySelector('.live-stage').getClientRects().length")
    browser.send("Emulation.setEmulatedMedia", media="")
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.send("Page.navigate", url=f"{files}/{kind}.html?plain")
    time.sleep(1)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run(shown)
    assert "JavaScript" in browser.text(".live-still-note")


@needs_browser
@pytest.mark.parametrize("kind", live_figures.HELP)
def test_the_plane_follows_the_theme(browser, files, kind):
    browser.open(f"{files}/{kind}.html")
    browser.settle()
    plane = ".live-row > .live-square"
    light = browser.pixels(plane)
    browser.run("document.documentElement.dataset.theme = 'dark'")
    browser.settle()
    assert browser.pixels(plane).sum() > 1.1 * light.sum()  # lighter lines and dots


def test_pages_without_a_figure_load_nothing_and_mistakes_are_named(tmp_path):
    conf = "extensions = ['myst_parser', 'live_figures']\nhtml_static_path = ['static']\n"
    (tmp_path / "conf.py").write_text(conf, encoding="utf-8")
    shutil.copytree(SCRIPTS, tmp_path / "static" / "live")
    directive = "```{{live}} {}\n---\nalt: A & B\n---\nThe *caption*.\n```\n"
    pages = {
        "index": "# Plain\n\n```{toctree}\nlive\nwrong\n```\n",
        "live": "# Live\n\n" + directive.format("latent-plane"),
        "wrong": "# Wrong\n\n" + directive.format("plane"),
    }
    for name, text in pages.items():
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(ROOT / "book" / "_ext"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(tmp_path), str(tmp_path / "out")],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "expected one of latent-plane, draw-your-own, got 'plane'" in done.stderr
    out = tmp_path / "out"
    html = (out / "live.html").read_text(encoding="utf-8")
    assert 'alt="A &amp; B"' in html
    assert "<em>caption</em>" in html
    loaded = re.findall(r'src="(_static/live/[^"?]+)', html)
    assert all((out / name).is_file() for name in loaded)
    names = [Path(name).name for name in loaded]
    assert names[-1] == "latent-plane.png"
    assert names[:-1] == [live_figures.WEIGHTS, "live.js", "latent-plane.js"]
    assert "live/" not in (out / "index.html").read_text(encoding="utf-8")


@needs_browser
@pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make book` makes the pages")
@pytest.mark.parametrize("name", ["00-welcome", "01-a-first-vae", "02-inside-the-latent-space"])
def test_the_books_own_pages_come_alive(browser, name):
    page = SITE / "book" / f"{name}.html"
    if "live-figure" not in page.read_text(encoding="utf-8"):
        pytest.skip("the pages were built before there were live figures")
    browser.open(page.as_uri())
    browser.wait("document.querySelectorAll('.live-on').length === 1")
    browser.settle()
    assert numbers(browser.text(".live-figure"))
    assert not browser.complaints()
    files = browser.run(
        """[...document.querySelectorAll("script[src], link[href], img[src]")]
        .map((e) => new URL(e.src || e.href).pathname)
        .filter((path) => path.includes("/_static/live/"))"""
    )
    added = [Path(urllib.request.url2pathname(file)) for file in files]
    assert 4 <= len(added) <= 6
    assert sum(path.stat().st_size for path in added) < 1_500_000
