"""The pages at the back, what every page says of itself, and the buttons of a published book."""

import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
SITE = ROOT / "_build" / "html"
TERMS = yaml.safe_load((BOOK / "glossary.yml").read_text(encoding="utf-8"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

built = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="no built pages here; `make book` makes them"
)


@cache
def page(name):
    return BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def chapters():
    """The pages made from files of the book, by name."""
    return {p.stem: page(f"book/{p.name}") for p in sorted((SITE / "book").glob("*.html"))}


# --- the files they are made from -----------------------------------------------------------


def test_each_term_is_there_once_and_its_chapter_speaks_of_it():
    names = [name.lower() for t in TERMS for name in [t["term"], *t.get("also", [])]]
    assert len(names) == len(set(names))
    for term in TERMS:
        text = (BOOK / f"{term['chapter']}.md").read_text(encoding="utf-8").lower()
        spoken = [term["term"], *term.get("also", []), *term.get("finds", [])]
        assert any(name.lower() in text for name in spoken), term["term"]


def test_r_words_are_those_that_the_book_shows():
    files = [*BOOK.glob("*.md"), *(BOOK / "r").glob("*.R")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert not [t["r"] for t in TERMS if "r" in t and not re.search(rf"\b{t['r']}\b", text)]


def test_citation_file_has_what_the_format_requires():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["cff-version"] == "1.2.0"
    assert found["message"]
    assert found["title"] == yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["title"]
    assert found["authors"] == [{"name": "the vaebook authors"}]
    assert str(found["version"]) == VERSION


# --- the pages at the back ------------------------------------------------------------------


@pytest.mark.pages
@built
def test_glossary_leads_from_each_term_to_a_section_that_has_it(chapters):
    soup = chapters["82-glossary"]
    assert len(soup.select("dl dt")) == len(TERMS)
    for term in soup.select("dl dt"):
        name, anchor = unquote(term.find_next("dd").select("a.internal")[-1]["href"]).split("#")
        section = page(f"book/{name}").find(id=anchor)
        entry = max(
            (t for t in TERMS if term.text.startswith(t["term"])), key=lambda t: len(t["term"])
        )
        names = [entry["term"], *entry.get("also", []), *entry.get("finds", [])]
        assert any(name.lower() in section.text.lower() for name in names), entry["term"]
        assert "further-reading" not in anchor


@pytest.mark.pages
@built
def test_glossary_has_every_symbol_in_its_table(chapters):
    rows = chapters["82-glossary"].select("table tbody tr")
    assert len(rows) == sum("symbol" in term for term in TERMS)


@pytest.mark.pages
@built
def test_index_leads_to_terms_and_to_names_of_the_package():
    links = {a.text: a["href"] for a in page("genindex.html").select(".genindextable a")}
    assert links["vb.fit"].startswith("book/01-a-first-vae.html#")
    assert links["posterior collapse"].startswith("book/07-posterior-collapse.html#")
    assert len(links) > 100
    chapter, anchor = links["vb.traversal"].split("#")
    assert "vb" in [span.text for span in page(chapter).find(id=anchor).select("pre span")]


@pytest.mark.pages
@built
def test_the_contents_end_with_the_index_and_lead_to_the_pages_at_the_back(chapters):
    links = [a["href"].rsplit("/", 1)[-1] for a in chapters["90-references"].select("nav a[href]")]
    for name in [
        "82-glossary.html",
        "83-figures.html",
        "86-how-it-was-built.html",
        "genindex.html",
    ]:
        assert name in links


@pytest.mark.pages
@built
def test_list_of_figures_has_each_figure_with_its_number_and_a_small_picture(chapters):
    drawn = {
        f"{name}.html#{number.find_parent('figure')['id']}": number.text.strip()
        for name, soup in chapters.items()
        for number in soup.select("figure[id] figcaption .caption-number")
    }
    listed = chapters["83-figures"].select(".figure-index li")
    assert {li.a["href"]: li.a.text.strip() for li in listed} == drawn
    pictures = [li.img for li in listed]
    assert all((SITE / "book" / picture["src"]).stat().st_size < 40_000 for picture in pictures)
    assert all(picture["alt"] for picture in pictures)


@pytest.mark.pages
@built
def test_build_record_names_each_notebook_and_the_version_of_pytorch(chapters):
    soup = chapters["86-how-it-was-built"]
    times, data, versions = soup.select("table")
    linked = {Path(a["href"]).stem for a in times.select("a")}
    assert linked == {path.stem for path in BOOK.glob("*.ipynb")}
    assert "training and" in data.text
    *each, together = [row.select("td")[-1].text for row in times.select("tbody tr")]
    seconds = [float(t.split()[0]) * (60 if "min" in t else 1) for t in [*each, together]]
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], rel=0.02)
    cells = [row.text.split() for row in versions.select("tbody tr")]
    assert ["vaebook", VERSION] in cells
    assert {"torch", "Python"} <= {cell[0] for cell in cells}


@pytest.mark.pages
@built
def test_references_have_the_labels_of_their_citations(chapters):
    labels = {
        e["id"]: e.select_one(".label").text for e in chapters["90-references"].select(".citation")
    }
    assert "[Kingma and Welling, 2014]" in labels.values()
    for name, soup in chapters.items():
        for link in soup.select("a.internal[href^='90-references.html#']"):
            said = re.sub(r"[\[\]()]", "", link.text).replace("\xa0", " ")
            label = labels[link["href"].split("#")[1]].strip("[]")
            assert said in (
                label,
                re.sub(r"[a-h]$", "", label),
                label.rsplit(", ")[0],
                label[-4:],
            ), name
    assert not chapters["90-references"].select("[role=doc-biblioentry]")
    for item in chapters["90-references"].select("[role=list] > *"):
        assert item["role"] == "listitem"


# --- every page -----------------------------------------------------------------------------


@pytest.mark.pages
@built
def test_each_page_describes_itself_and_tells_version_and_date(chapters):
    seen = []
    for name, soup in chapters.items():
        text = soup.select_one("meta[name=description]")["content"]
        assert 20 < len(text) <= 162, f"{name}: {text}"
        assert not re.search(r"\\[a-z]|\$", text), f"{name}: {text}"
        assert soup.select_one("meta[property='og:title']")["content"]
        assert soup.select_one("meta[property='og:description']")["content"] == text
        said = soup.select_one(".book-version").text
        assert VERSION in said
        assert re.search(r"\d{1,2} \w+ 20\d\d", said)
        seen.append(text)
    assert len(set(seen)) == len(seen)


@pytest.mark.pages
@built
def test_the_download_menu_offers_the_notebook_beside_the_chapter(chapters):
    for path in BOOK.glob("*.ipynb"):
        link = chapters[path.stem].select_one(".btn-download-notebook-button")
        offered = nbformat.read(SITE / "book" / link["href"], as_version=4)
        assert offered.cells[0].source == nbformat.read(path, as_version=4).cells[0].source


@pytest.mark.pages
@built
def test_without_an_address_nothing_speaks_of_one(chapters):
    assert not (SITE / "sitemap.xml").exists()
    for soup in chapters.values():
        assert not soup.select(
            "link[rel=canonical], meta[property='og:url'], .btn-source-edit-button"
        )


# --- a published book -----------------------------------------------------------------------


@pytest.mark.pages
def test_two_lines_of_configuration_turn_on_buttons_and_addresses(tmp_path):
    pytest.importorskip("jupyter_book")
    for name in ["_ext", "_static", "_templates"]:
        shutil.copytree(BOOK / name, tmp_path / "book" / name)
    shutil.copy(BOOK / "references.bib", tmp_path / "book")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    config, changed = re.subn(
        r'^  url: ""', "  url: https://github.com/org/repo", config, flags=re.M
    )
    config, also = re.subn(
        r'^  baseurl: ""', "  baseurl: https://example.org/b/", config, flags=re.M
    )
    assert (changed, also) == (1, 1)
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
    files = {
        "_config.yml": config,
        "_toc.yml": "format: jb-book\nroot: book/page\n",
        "book/glossary.yml": "[]",
        "book/page.md": f"{head}# Page\n\nWhat this page says.\n",
        "book/page.ipynb": "{}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    build = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", build, "build", "-n", "-W", "--keep-going", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    html = (tmp_path / "_build" / "html" / "book" / "page.html").read_text(encoding="utf-8")
    links = {a["href"] for a in BeautifulSoup(html, "html.parser").select("a[href]")}
    repository = "https://github.com/org/repo"
    assert repository in links
    assert f"{repository}/edit/main/book/page.md" in links
    assert any(link.startswith(f"{repository}/issues/new") for link in links)
    colab = "https://colab.research.google.com/github/org/repo/blob/main/book/page.ipynb"
    binder = "https://mybinder.org/v2/gh/org/repo/main?urlpath=lab/tree/book/page.ipynb"
    assert {colab, binder} <= links
    address = "https://example.org/b/book/page.html"
    assert f'<link rel="canonical" href="{address}" />' in html
    assert f'property="og:url" content="{address}"' in html
    assert address in (tmp_path / "_build" / "html" / "sitemap.xml").read_text(encoding="utf-8")
