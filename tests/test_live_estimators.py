"""The live figure of the two estimators: its numbers are PyTorch's, and a reader can use it."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from tests.browser import BOOK, complaints, load, serve

# The page has what the build writes: the figure's picture and caption, and the two files.
PAGE = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>live</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="estimators.css"><script defer src="estimators.js"></script>
<figure class="live-estimators"><img class="still" alt="A hill." src="data:,">
<figcaption>A caption.</figcaption></figure></html>"""
PARAMETERS = ["mean", "std"]


pytestmark = [pytest.mark.slow, pytest.mark.pages]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(BOOK / "_static" / "live", folder, dirs_exist_ok=True)
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    return folder


@pytest.fixture
def page(tab, folder):
    tab.open((folder / "page.html").as_uri())
    return tab


def now(page, key):
    return float(page.run(f"document.querySelector('.handle.{key}').getAttribute('aria-valuenow')"))


def compute(page, mean=0.3, std=0.8, **others):
    """Return what the script computes for these settings."""
    setting = {"mean": mean, "std": std, "draws": 4, "baseline": False, "seed": 1} | others
    script = f"vaebookEstimators.compute({json.dumps(setting)})"
    return page.run(f"(found => ({{...found, noise: [...found.noise]}}))({script})")


def table(page):
    """Return the numbers of the table, a row for each parameter and estimator."""
    rows = page.run(
        "[...document.querySelectorAll('tbody tr')].map(row =>"
        " [...row.querySelectorAll('td')].map(cell => Number(cell.innerText.replace('−', '-'))))"
    )
    return np.array(rows).reshape(2, 2, 5)


def hill(z):
    """Return the chapter's f(z)."""
    return 1.2 + 2 * torch.exp(-0.5 * ((z - 1.8) / 1.1) ** 2)


def by_autograd(noise, mean, std, baseline):
    """Return the gradients of PyTorch for each draw, by parameter and estimator."""
    noise = torch.as_tensor(noise, dtype=torch.float64)
    mean, std = (torch.full_like(noise, x).requires_grad_() for x in (mean, std))
    z = mean + std * noise
    path = torch.autograd.grad(hill(z).sum(), [mean, std])
    surrogate = (hill(z.detach()) - baseline) * Normal(mean, std).log_prob(z.detach())
    score = torch.autograd.grad(surrogate.sum(), [mean, std])
    return np.array([[path[i].numpy(), score[i].numpy()] for i in range(2)])


def closed_form(mean, std):
    """Return E f and its gradient: a bell under a normal density is a wider bell."""
    mean, std = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (mean, std))
    wide = 1.1**2 + std**2
    bell = 2 * 1.1 / wide.sqrt() * torch.exp(-0.5 * (mean - 1.8) ** 2 / wide)
    level = 1.2 + bell
    return level.item(), [g.item() for g in torch.autograd.grad(level, [mean, std])]


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize(("mean", "std", "draws"), [(0.3, 0.8, 4), (1.5, 0.1, 1), (-1.5, 1.5, 16)])
def test_numbers_are_those_of_autograd_and_of_the_closed_form(page, mean, std, draws, baseline):
    found = compute(page, mean, std, draws=draws, baseline=baseline, seed=7)
    level, gradient = closed_form(mean, std)
    expected = by_autograd(found["noise"], mean, std, level if baseline else 0.0)
    expected = expected.reshape(2, 2, 200, draws).mean(-1)
    for p in range(2):
        for e, name in enumerate(["pathwise", "score"]):
            g = found[name][p]
            np.testing.assert_allclose(g["estimates"], expected[p, e], rtol=1e-9, atol=1e-9)
            assert g["average"] == pytest.approx(expected[p, e].mean(), rel=1e-9, abs=1e-9)
            assert g["variance"] == pytest.approx(expected[p, e].var(ddof=1), rel=1e-9)
            assert g["exact"] == pytest.approx(gradient[p], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.8), (1.5, 0.1)])
def test_exact_variance_is_that_of_a_million_draws(page, mean, std, baseline):
    found = compute(page, mean, std, baseline=baseline)
    noise = np.random.default_rng(0).standard_normal(1_000_000)
    variance = by_autograd(noise, mean, std, closed_form(mean, std)[0] * baseline).var(-1) / 4
    for p in range(2):
        for e, name in enumerate(["pathwise", "score"]):
            assert found[name][p]["exactVariance"] == pytest.approx(variance[p, e], rel=0.02)


def test_draws_are_normal_and_depend_on_the_seed(page):
    noise = [np.array(compute(page, draws=64, seed=seed)["noise"]) for seed in [1, 1, 2]]
    assert (noise[0] == noise[1]).all()
    assert abs(np.corrcoef(noise[0], noise[2])[0, 1]) < 0.05
    for draws in [noise[0], noise[2]]:
        n = len(draws)
        assert abs(draws.mean()) < 4 / math.sqrt(n)
        assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
        assert abs((draws**3).mean()) < 4 * math.sqrt(15 / n)
        assert abs((draws**4).mean() - 3) < 4 * math.sqrt(96 / n)


def test_still_picture_is_drawn_from_the_same_estimators():
    still = load("live_estimators", BOOK / "_ext")
    noise = np.random.default_rng(3).standard_normal((50, 4))
    found = still.estimates(0.3, 0.8, noise)
    expected = by_autograd(noise, 0.3, 0.8, 0.0).mean(-1)
    for e, name in enumerate(["pathwise", "score function"]):
        np.testing.assert_allclose(found[name], expected[:, e], atol=1e-9)


@pytest.mark.parametrize("over", ["file", "http"])
def test_page_shows_the_figure_without_errors_or_other_hosts(tab, folder, over):
    with serve(folder, over) as address:
        tab.open(f"{address}/page.html")
    found = compute(tab, seed=5)
    for p in range(2):
        for e, name in enumerate(["pathwise", "score"]):
            g = found[name][p]
            shown = [g["exact"], g["estimates"][0], g["average"], g["variance"], g["exactVariance"]]
            np.testing.assert_allclose(table(tab)[p, e], shown, rtol=5e-3)
    assert tab.run("getComputedStyle(document.querySelector('.still')).display") == "none"
    assert not complaints(tab)


def test_keys_move_the_handles_and_stop_at_the_ends(page):
    assert [now(page, key) for key in PARAMETERS] == [0.3, 0.8]
    page.run("document.querySelector('select').focus()")
    for _ in range(3):  # on to the box, the button and the first handle
        page.press("Tab")
    for keys, key, value in [
        (["ArrowRight"], "mean", 0.35),
        (["End", "ArrowUp"], "mean", 4),
        (["Tab", "PageDown"], "std", 0.55),
        (["Home", "ArrowLeft"], "std", 0.1),
    ]:
        for each in keys:
            page.press(each)
        assert now(page, key) == value
    exact = closed_form(4.0, 0.1)[1]
    np.testing.assert_allclose(table(page)[:, 0, 0], exact, rtol=5e-3)
    assert page.run("document.querySelector('.handle.std').getAttribute('aria-valuetext')") == (
        "σ = 0.10"
    )
    assert not complaints(page)


def test_shortcuts_of_the_browser_go_past_the_handles(page):
    """Alt with an arrow goes back in the history, Ctrl with one jumps between words."""
    page.run("document.addEventListener('keydown', () => window.heard = (window.heard ?? 0) + 1)")
    for count, held in enumerate((None, "altKey", "ctrlKey", "metaKey")):
        keys = {"key": "ArrowLeft", "cancelable": True, "bubbles": True}
        keys = json.dumps(keys | ({held: True} if held else {}))
        event = f"new KeyboardEvent('keydown', {keys})"
        before = now(page, "mean")
        left_alone = page.run(f"document.querySelector('.handle.mean').dispatchEvent({event})")
        assert left_alone == (held is not None)
        assert (now(page, "mean") == before) == (held is not None)
        assert page.run("window.heard ?? 0") == count  # by what turns pages, say


def test_what_is_said_has_the_numbers(page):
    page.run("new Promise(done => setTimeout(done, 500))")  # it waits for the reader to pause
    said = page.run("document.querySelector('.said').innerText")
    noise = np.random.default_rng(0).standard_normal(1_000_000)
    variance = by_autograd(noise, 0.3, 0.8, 0.0).var(-1)
    assert said.startswith("μ = 0.30, σ = 0.80. Gradient for μ: exact 0.714")
    times = [float(x) for x in re.findall(r"([\d.]+) times", said)]
    np.testing.assert_allclose(times, variance[:, 1] / variance[:, 0], rtol=0.03)


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_handles_are_dragged(page, kind):
    scene = page.run("document.querySelector('.scene').clientWidth")
    for key in PARAMETERS:
        before = now(page, key)
        x, y, width, height = page.box(f".handle.{key} .knob")
        start = x + width / 2, y + height / 2
        page.drag([start, (start[0] + 0.05 * scene, start[1])], kind)
        # The scene is 10 units wide.
        assert now(page, key) == pytest.approx(before + 0.5, abs=0.02)


def test_a_finger_on_the_scene_never_turns_back_to_the_last_page(page):
    """Where a dot has just been is no dot: the scene, too, has to say that it takes drags."""
    scene = "getComputedStyle(document.querySelector('.scene'))"
    assert page.run(f"{scene}.touchAction") == "pan-y"


def test_baseline_draws_and_new_draws_change_what_they_should(page):
    before = table(page)
    page.run("document.querySelector('input').click()")
    with_baseline = table(page)
    np.testing.assert_array_equal(with_baseline[:, :, 0], before[:, :, 0])
    np.testing.assert_array_equal(with_baseline[:, 0], before[:, 0])
    assert (with_baseline[:, 1, 4] < before[:, 1, 4] / 2).all()
    page.run("document.querySelector('button').click()")
    again = table(page)
    np.testing.assert_array_equal(again[:, :, [0, 4]], with_baseline[:, :, [0, 4]])
    assert (again[:, :, 1] != with_baseline[:, :, 1]).all()
    page.run("(s => {s.value = 16; s.dispatchEvent(new Event('change'))})"
             "(document.querySelector('select'))")  # fmt: skip
    np.testing.assert_allclose(table(page)[:, :, 4], again[:, :, 4] / 4, rtol=1e-2)
    assert not complaints(page)


def test_narrow_screen_needs_no_sideways_scrolling(page):
    page.resize(width=390, height=1200, phone=True)
    page.run("new Promise(done => setTimeout(done, 200))")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("document.querySelector('.numbers').scrollWidth") <= 374


def test_paper_and_a_blocked_script_get_the_picture(page, folder):
    page.show_as("print")
    shown = "['.still', '.live'].map(s => getComputedStyle(document.querySelector(s)).display)"
    assert page.run(shown) == ["block", "none"]
    page.show_as()
    text = PAGE.replace('src="estimators.js"', 'src="missing.js"')
    (folder / "blocked.html").write_text(text, encoding="utf-8")
    page.open((folder / "blocked.html").as_uri())
    assert page.run("getComputedStyle(document.querySelector('.still')).display") != "none"
