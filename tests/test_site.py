"""The built pages: they read offline, show no failure, describe their pictures, lead somewhere."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

import vaebook as vb

SITE = Path(__file__).parent.parent / "_build" / "html"

pytestmark = [
    pytest.mark.pages,
    pytest.mark.skipif(
        not (SITE / "index.html").exists(), reason="no built pages here; `make book` makes them"
    ),
]

# What a browser fetches by itself, by tag and attribute. <a href> is the reader's own choice.
FETCHED = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("image", "href"), ("img", "src"),
    ("img", "srcset"), ("input", "src"), ("link", "href"), ("object", "data"), ("script", "src"),
    ("source", "src"), ("source", "srcset"), ("track", "src"), ("use", "href"), ("video", "poster"),
    ("video", "src"),
}  # fmt: skip
OUTSIDE = re.compile(r"^\s*(https?:|wss?:|//)", re.IGNORECASE)
CSS_FETCH = re.compile(r"""(?:@import\s*|url\(\s*)["']?\s*((?:https?:)?//[^"')\s]+)""")


@pytest.fixture(scope="module")
def pages():
    """Every page, parsed, by its path; `_static` holds parts of pages only."""
    paths = sorted(p for p in SITE.rglob("*.html") if "_static" not in p.relative_to(SITE).parts)
    return {p: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in paths}


def where(page):
    return page.relative_to(SITE).as_posix()


def of_stand_ins(pages):
    """Return the pages of which an output tells that it is of other data than it should be."""
    outputs = ((page, soup.select(".cell_output")) for page, soup in pages.items())
    return [where(page) for page, found in outputs if any("stand-in for" in o.text for o in found)]


@pytest.mark.skipif(not os.environ.get("STRICT_DATA"), reason="make book STRICT_DATA=1 asks for it")
def test_no_page_ran_on_a_stand_in(pages):
    assert not of_stand_ins(pages)


def test_a_page_that_ran_on_a_stand_in_is_found():
    written = {
        "told.html": "<p>A stand-in for MNIST would be told below.</p>",
        "ran.html": f"<div class='cell_output'>{vb.load('digits', offline='digits').source}</div>",
        "stood-in.html": "<div class='cell_output'><p>stand-in for mnist: digits</p></div>",
    }
    pages = {SITE / name: BeautifulSoup(text, "html.parser") for name, text in written.items()}
    assert of_stand_ins(pages) == ["stood-in.html"]


def test_nothing_comes_from_another_host(pages):
    found = []
    for page, soup in pages.items():
        for tag, attribute in FETCHED:
            for element in soup.find_all(tag, attrs={attribute: OUTSIDE}):
                if element.get("rel") != ["canonical"]:
                    found.append(f"{where(page)}: <{tag} {attribute}={element[attribute]!r}>")
        for script in soup.find_all("script", src=False):
            if script.get("type") != "application/ld+json":
                hosts = re.findall(r"""["'`](?:https?:)?//[\w.-]+\.[^"'`\s]*""", script.text)
                found += [f"{where(page)}: a script names {host}" for host in hosts]
        for style in [s.text for s in soup.find_all("style")] + [
            e["style"] for e in soup.find_all(style=True)
        ]:
            found += [f"{where(page)}: a style fetches {url}" for url in CSS_FETCH.findall(style)]
    assert not found, "\n".join(found)


def test_style_sheets_fetch_nothing_from_another_host():
    found = [
        f"{where(sheet)}: {url}"
        for sheet in SITE.rglob("*.css")
        for url in CSS_FETCH.findall(sheet.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_every_picture_has_a_text_in_its_place(pages):
    # For a figure that a cell draws, the text stands in the cell: mystnb: image: alt: …
    found = [
        f"{where(page)}: {image.get('src', '')[:80]}"
        for page, soup in pages.items()
        for image in soup.find_all("img")
        if not image.get("alt", "").strip()
        or image["alt"] == image.get("src")
        # Sphinx takes the file's name where a picture has no text of its own.
        or Path(image["alt"]).name == Path(unquote(image.get("src", ""))).name
    ]
    assert not found, "\n".join(found)


def test_a_page_begins_with_the_picture_of_one_of_its_figures(pages):
    openings = [(soup, place) for soup in pages.values() for place in soup.select(".opening")]
    assert len(openings) > 10
    for soup, place in openings:
        assert place.img["src"] in [image["src"] for image in soup.select("figure img")]


def test_a_dark_drawing_stands_beside_its_light_one(pages):
    found = [image for soup in pages.values() for image in soup.select(".figure-scroll .only-dark")]
    assert len(found) > 40
    for image in found:
        other = image.find_previous_sibling("img")
        assert "only-light" in other["class"]
        assert other["alt"] == image["alt"]
        assert (SITE / "_images" / Path(image["src"]).name).exists()


def test_no_page_shows_a_failure(pages):
    found = []
    failures = ".cell_output .traceback, .cell_output .error, .cell_output .stderr"
    for page, soup in pages.items():
        shown = soup.select(f"{failures}, .system-message, .problematic")
        shown += [o for o in soup.select(".cell_output") if "Traceback (most recent" in o.text]
        found += [f"{where(page)}: {element.get_text()[:200]}" for element in shown]
    assert not found, "\n".join(found)


def test_links_within_the_book_lead_somewhere(pages):
    anchors = {
        page.resolve(): {e["id"] for e in soup.find_all(id=True)}
        | {e["name"] for e in soup.find_all("a", attrs={"name": True})}
        for page, soup in pages.items()
    }
    found = []
    for page, soup in pages.items():
        for link in soup.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
            if target.is_dir():
                target = target / "index.html"
            fragment = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{where(page)}: no file for {link['href']}")
            elif fragment and target in anchors and fragment not in anchors[target]:
                found.append(f"{where(page)}: no anchor for {link['href']}")
    assert not found, "\n".join(found)


def test_every_r_half_stands_in_a_tab(pages):
    loose = [
        f"{where(page)}: {block.get_text()[:80]}"
        for page, soup in pages.items()
        for block in soup.select(".r-half")
        if block.find_parent(class_="r-beside-python") is None
    ]
    assert not loose, "\n".join(loose)


def test_no_formula_is_left_as_it_was_typed(pages):
    # What a cell says in Markdown is not searched for formulas between dollars.
    found = [
        f"{where(page)}: {text.strip()[:80]}"
        for page, soup in pages.items()
        for text in soup.find_all(string=re.compile(r"\$[^$\s][^$]*\$"))
        if text.find_parent(["code", "pre", "script", "style"]) is None
        and text.find_parent(class_="math") is None
    ]
    assert not found, "\n".join(found)


def test_every_header_of_a_table_has_a_name(pages):
    found = [
        f"{where(page)}: {header.find_parent('table').get_text(' ', strip=True)[:80]}"
        for page, soup in pages.items()
        for header in soup.find_all("th")
        if not header.get_text(strip=True)
    ]
    assert not found, "\n".join(found)


def test_checks_and_imports_are_folded_away(pages):
    found = []
    for page, soup in pages.items():
        for cell in soup.select(".cell:not(.sd-tab-content *)"):
            code = cell.find(class_="cell_input", recursive=False)
            lines = code.get_text().strip().splitlines() if code else [""]
            silent = cell.find(class_="cell_output", recursive=False) is None
            bare = all(re.match("import |from ", line) for line in lines)
            # A definition is there to be read, with what checks it.
            defines = any(re.match("def |class |@", line) for line in lines)
            if bare or (silent and not defines and lines[-1].startswith("assert ")):
                found.append(f"{where(page)}: {lines[-1][:80]}")
    assert not found, "\n".join(found)


def test_every_fold_says_what_it_holds(pages):
    found = []
    for page, soup in pages.items():
        for bar in soup.select("details.fold > summary"):
            words = bar.get_text(" ", strip=True)
            if not re.match(r"Show Hide the \w+|Solution to Exercise \d", words):
                found.append(f"{where(page)}: {words[:80]}")
    assert not found, "\n".join(found)
