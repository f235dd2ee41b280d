"""The built pages in a browser: for every reader, at every width, by keyboard, not too heavy."""

import importlib.util
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parent.parent / "_build" / "html"
# All but parts of pages, and the first, which only leads on to the welcome.
PAGES = sorted(
    page
    for page in SITE.rglob("*.html")
    if page != SITE / "index.html" and "_static" not in page.relative_to(SITE).parts
)
# The rules for the web (WCAG 2.2, AA), and what else axe-core can tell.
RULES = [
    "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental",
]  # fmt: skip
MAX_BYTES = 3_500_000

# A page of each kind, for every build; the others take minutes.
SAMPLE = ["00-welcome", "02-inside-the-latent-space", "08-two-gradients", "plot", "search"]

pytestmark = pytest.mark.skipif(not PAGES, reason="no built pages here; `make book` makes them")


def each_page_and_theme():
    for page in PAGES:
        kind = pytest.mark.pages if page.stem in SAMPLE else pytest.mark.every_page
        for theme in ("light", "dark"):
            name = f"{page.relative_to(SITE).as_posix()}-{theme}"
            yield pytest.param(page, theme, marks=kind, id=name)


@pytest.fixture(scope="module")
def axe():
    """axe-core, the newest that is installed."""
    for package in ("axe_playwright_python", "axe_core_python"):
        if spec := importlib.util.find_spec(package):
            return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    pytest.skip("no axe-core here; `pip install axe-core-python` brings it")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "theme"), list(each_page_and_theme()))
def test_axe_finds_nothing(browser, axe, page, theme):
    with browser.tab(dark=theme == "dark") as tab:
        tab.open(page.as_uri())
        # The colours of code are few and the same on every page, so three blocks stand for all;
        # a formula is one thing to a reader, and thousands of elements to the page.
        tab.run(
            """document.querySelectorAll("mjx-container").forEach(
                formula => formula.textContent = "x");
            [...document.querySelectorAll(".highlight pre")].slice(3).forEach(
                block => block.textContent = block.textContent)"""
        )
        tab.run(axe + "; 0")
        found = tab.run(
            f"""axe.run(document, {{runOnly: {RULES}, resultTypes: ["violations"]}}).then(
                result => result.violations.flatMap(rule => rule.nodes.map(node =>
                    `${{rule.id}}: ${{node.target.join(" ")}}: ${{node.html.slice(0, 120)}}`)))"""
        )
    assert not found, "\n".join(found)


@pytest.mark.every_page
@pytest.mark.parametrize(("width", "zoom"), [(390, 1), (700, 2)], ids=["phone", "zoomed"])
def test_no_page_scrolls_sideways(browser, width, zoom):
    found = []
    with browser.tab(width=width, scale=zoom) as tab:
        for page in PAGES:
            tab.open(page.as_uri())
            wider = tab.run(
                "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
            )
            found += [f"{page.relative_to(SITE)}: {wider} pixels too wide"] if wider > 0 else []
    assert not found, "\n".join(found)


@pytest.mark.pages
def test_a_dark_drawing_stands_on_the_page_without_a_frame(browser):
    page = next(p for p in PAGES if p.name.startswith("07-"))
    with browser.tab(dark=True) as tab:
        tab.open(page.as_uri())
        said = tab.run(
            """(style => [style.padding, style.backgroundColor, style.display].join("; "))(
                getComputedStyle(document.querySelector(".figure-scroll > .only-dark")))"""
        )
    assert said == "0px; rgba(0, 0, 0, 0); block"


@pytest.mark.pages
def test_no_page_is_heavy(browser):
    found = []
    for page in PAGES:
        with browser.tab() as tab:
            tab.open(page.as_uri())
            asked = [e for e in tab.events if e["method"] == "Network.requestWillBeSent"]
        urls = [urlsplit(e["params"]["request"]["url"]) for e in asked]
        paths = {Path(unquote(url.path)) for url in urls if url.scheme == "file"}
        size = sum(path.stat().st_size for path in paths if path.is_file())
        found += [f"{page.relative_to(SITE)}: {size:,} bytes"] if size > MAX_BYTES else []
    assert not found, "\n".join(found)


@pytest.mark.pages
def test_folds_open_by_keyboard_and_by_a_click_on_their_bar(browser):
    page = next(p for p in PAGES if p.name.startswith("07-"))
    with browser.tab() as tab:
        tab.open(page.as_uri())
        opened = "document.querySelector('details.fold').open"
        tab.run("document.querySelector('details.fold > summary').focus()")
        assert not tab.run(opened)
        tab.press("Enter")
        assert tab.run(opened)
        assert tab.run("document.querySelector('details.fold > summary').innerText").startswith(
            "Hide"
        )
        tab.run("document.querySelector('details.solution > summary').click()")
        assert tab.run("document.querySelector('details.solution').open")


@pytest.mark.pages
def test_what_the_tab_key_reaches_can_be_seen(browser):
    page = next(p for p in PAGES if p.name.startswith("07-"))
    names, unseen = [], []
    with browser.tab() as tab:
        tab.open(page.as_uri())
        for _ in range(70):
            tab.press("Tab")
            name, outline, visible = tab.run(
                """(() => {
                    const at = document.activeElement;
                    // What shows the focus of a tab's radio button is its label.
                    const shown = at.matches(".sd-tab-set > input") ? at.nextElementSibling : at;
                    const box = shown.getBoundingClientRect(), style = getComputedStyle(shown);
                    return [`${at.tagName} ${at.className} ${at.textContent.trim().slice(0, 40)}`,
                            style.outlineStyle, box.width > 0 && style.visibility === "visible"];
                })()"""
            )
            names.append(name)
            if outline == "none" or not visible:
                unseen.append(name)
    assert not unseen, "\n".join(unseen)
    for part in ("primary-toggle", "dropdown-toggle", "theme-switch", "SUMMARY", "INPUT"):
        assert any(part in name for name in names), f"{part} is not among {names}"
