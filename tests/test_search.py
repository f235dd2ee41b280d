"""The search of the built pages, as a browser shows it: from a reader's disk and from a server."""

import functools
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.browser import complaints, serve

SITE = Path(__file__).parent.parent / "_build" / "html"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.pages,
    pytest.mark.skipif(
        not (SITE / "search-index.js").exists(),
        reason="no built pages here; `make book` makes them",
    ),
]


@pytest.fixture(scope="module", params=["file", "http"])
def site(request):
    """The address of the pages: on this disk, or of a server."""
    with serve(SITE, request.param) as address:
        yield address


def visit(browser, address, done="true"):
    """Return a page as it stands once a condition is true; its console has nothing to say."""
    with browser.tab() as tab:
        tab.open(address)
        tab.wait(done)
        assert not complaints(tab)
        return BeautifulSoup(tab.run("document.documentElement.outerHTML"), "html.parser")


@pytest.fixture(scope="module")
def search(browser, site):
    """A function that returns the results of a search, as the page shows them."""

    @functools.cache
    def results(query):
        said = "document.querySelector('#search-count[aria-live]').textContent"
        soup = visit(browser, f"{site}/search.html?q={query}", said)
        return soup.select("#search-results li")

    return results


# The chapter that teaches a word, by the number of its file.
FIRST = {
    "reparameterization": "01-a-first-vae",
    "KL": "01-a-first-vae",
    "collapse": "07-posterior-collapse",
    "nn_conv2d": "80-from-r-torch-to-pytorch",
    "vb.fit": "01-a-first-vae",
}


@pytest.mark.parametrize("query", FIRST)
def test_the_section_that_teaches_a_word_comes_first(search, query):
    first = search(query)[0]
    assert FIRST[query] in first.a["href"]
    assert [mark.text for mark in first.select("mark")], "the word is marked in the result"
    assert len(first.select_one(".search-excerpt").text) > 60


@pytest.mark.parametrize("name", ["fit", "load", "plot.traversal"])
def test_the_reference_of_a_name_is_among_the_first(search, name):
    links = [item.a["href"] for item in search(f"vb.{name}")[:3]]
    assert any(link.endswith(f"#vaebook.{name}") for link in links), links


def test_words_are_found_whole_and_in_their_other_forms(search):
    for item in search("KL"):
        assert {mark.text.lower().removesuffix("s") for mark in item.select("mark")} == {"kl"}
    marks = {m.text.lower() for i in search("interpolating") for m in i.select("mark")}
    assert "interpolation" in marks


def test_results_show_no_latex_and_a_name_is_one_word(search):
    for query in ["reparameterization", "nn_conv2d"]:
        for item in search(query):
            excerpt = item.select_one(".search-excerpt")
            latex = re.search(r"\\[a-zA-Z]+|\$[^$]+\$", excerpt.text)
            assert excerpt.code or not latex, excerpt.text
            if query == "nn_conv2d":
                assert {mark.text for mark in item.select("mark")} == {"nn_conv2d"}


def test_the_page_marks_the_word_and_shows_its_section(browser, site, search):
    link = search("reparameterization")[0].a["href"]
    soup = visit(browser, f"{site}/{link}", "document.querySelector('.highlighted')")
    section = soup.find(id=link.partition("#")[2])
    assert {m.text.lower() for m in section.select(".highlighted")} >= {"reparameterization"}
    assert all(
        "\\(" in math.text or math.find("mjx-container") for math in soup.select("span.math")
    )


def test_what_nobody_wrote_is_not_found_and_the_page_says_so(browser, site):
    said = "document.querySelector('#search-count').textContent"
    soup = visit(browser, f"{site}/search.html?q=xyzzyplugh", said)
    assert not soup.select("#search-results li")
    assert "Nothing found" in soup.select_one("#search-count").text


def test_the_index_is_loaded_by_the_search_page_alone():
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert ("search-index.js" in text) == (page == SITE / "search.html")
        assert not re.search(r"searchtools|language_data|searchindex|sphinx_highlight", text)


def test_the_index_holds_every_section_that_a_link_can_reach():
    text = (SITE / "search-index.js").read_text(encoding="utf-8")
    pages = json.loads(text.removeprefix("window.SEARCH_INDEX = ").rstrip().rstrip(";"))
    assert len(pages) > 20
    for address, title, sections in pages:
        soup = BeautifulSoup((SITE / address).read_text(encoding="utf-8"), "html.parser")
        headed = [
            section["id"] for section in soup.select("article section[id]")
            if section.find(["h1", "h2", "h3", "h4"], recursive=False)
        ]  # fmt: skip
        headed += [term["id"] for term in soup.select("article dl > dt[id^='term-']")]
        names = soup.select("article dt.sig[id]")
        headed += [name["id"] for name in names if not name.find_parent("dd")]
        if address != "book/83-figures.html":  # whose figures are found where they stand
            assert sorted(anchor for anchor, *_ in sections) == sorted(headed), address
        assert title
