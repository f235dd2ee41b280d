"""The pages on paper, tried on a small book that is built like the large one."""

import io
import re
import shutil
import subprocess
import sys
import unicodedata

import pytest

from tests.browser import BOOK, load

pypdf = pytest.importorskip("pypdf", reason="no pypdf here to read what was printed")
pytest.importorskip("websocket", reason="no websocket-client here to drive a browser")
pytest.importorskip("jupyter_book", reason="no jupyter-book here to build a page")
ROOT = BOOK.parent


load("chromium")  # which the next one imports by its name
printing = load("print")
pytestmark = [pytest.mark.slow, pytest.mark.pages]

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n"
LONG = "total = " + " + ".join(f"number_{i}" for i in range(40))
PAGES = {
    "00-welcome": "# Welcome\n\nGo to [](08-small.md), or to [its end](08-small.md#the-end).\n",
    "08-small": f"""{HEAD}# A small chapter

```{{code-cell}} python
{LONG}
```

```{{literalinclude}} r/small.R
:language: r
:class: r-half
```

```{{code-cell}} python
:tags: [hide-input]

only_draws_a_picture = 1
```

```{{exercise}} Easy
:label: ex-small
What is $e^{{i\\pi}}$?
```

```{{solution}} ex-small
:class: dropdown
It is one below zero.
```

```{{live-estimators}}
:name: fig-small

A live figure.
```

## The end

Nothing follows.
""",
}
TOC = """format: jb-book
root: book/00-welcome
parts:
  - caption: The only part
    numbered: true
    chapters:
      - file: book/08-small
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the small book; return the folder of its pages."""
    root = tmp_path_factory.mktemp("book")
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    config = config.replace("execute_notebooks: cache", 'execute_notebooks: "off"')
    (root / "_config.yml").write_text(config, encoding="utf-8")
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    for name in ["_static", "_ext", "_templates"]:
        shutil.copytree(BOOK / name, root / "book" / name)
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(BOOK / "references.bib", root / "book")
    (root / "book" / "glossary.yml").write_text("[]", encoding="utf-8")
    (root / "book" / "r").mkdir()
    (root / "book" / "r" / "small.R").write_text("total <- sum(numbers)\n", encoding="utf-8")
    for name, text in PAGES.items():
        (root / "book" / f"{name}.md").write_text(text, encoding="utf-8")
    built = subprocess.run(
        [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return root / "_build" / "html"


@pytest.fixture(scope="module")
def pdf(browser, site, tmp_path_factory):  # skipped where there is no browser
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(printing, "ROOT", site.parents[1])
        patch.setattr(printing, "SITE", site)
        target = tmp_path_factory.mktemp("pdf") / "book.pdf"
        pages = printing.print_book(target)
    reader = pypdf.PdfReader(target)
    assert pages == len(reader.pages)
    return reader


def titles(outline):
    """Return the titles of bookmarks, those below others as lists."""
    return [titles(x) if isinstance(x, list) else x.title for x in outline]


def test_only_the_page_with_the_live_figure_loads_its_script(site):
    loads = {
        path.stem for path in site.rglob("*.html") if "estimators.js" in path.read_text("utf-8")
    }
    assert loads == {"08-small"}


def test_book_has_a_title_page_and_bookmarks(pdf):
    assert "Variational Autoencoders, Properly" in " ".join(pdf.pages[0].extract_text().split())
    chapters = ["1. A small chapter", ["1.1. The end"]]
    assert titles(pdf.outline) == ["Welcome", "The only part", chapters]


def test_contents_lead_to_the_pages_they_name(pdf):
    text = pdf.pages[1].extract_text()
    assert "The only part" in text
    (end,) = [i for i, page in enumerate(pdf.pages) if "Nothing follows" in page.extract_text()]
    for entry, start in [("Welcome", 3), ("1. A small chapter", 4), ("1.1. The end", end + 1)]:
        assert re.search(rf"^{re.escape(entry)}\s*{start}$", text, re.MULTILINE), text
    led = [
        pdf.get_destination_page_number(pdf.named_destinations[link.get_object()["/Dest"]])
        for link in pdf.pages[1]["/Annots"]
    ]
    assert led == [2, 3, end]
    # A link from one chapter to another stays in the book.
    assert {a.get_object()["/Dest"] for a in pdf.pages[2]["/Annots"]} == {
        "/08-small", "/08-small--the-end",
    }  # fmt: skip


def test_paper_has_what_the_page_folds_away(pdf):
    text = "".join(page.extract_text() for page in pdf.pages[3:])
    text = unicodedata.normalize("NFKC", text)  # no ligatures
    assert "number_39" in text
    assert "total <- sum(numbers)" in text
    assert "one below zero" in text
    assert "A live figure." in text
    assert "only_draws_a_picture" not in text
    assert "mjx-container" not in text
    assert r"e^{i\pi}" not in text, "the formula is set before the page is printed"
    assert sum(len(page.images) for page in pdf.pages[3:]) == 1


def test_every_page_has_text(pdf):
    assert all(len(page.extract_text()) > 20 for page in pdf.pages)


@pytest.mark.parametrize("media", ["screen", "print"])
def test_code_wraps_on_paper(tab, site, media):
    tab.open((site / "book" / "08-small.html").as_uri())
    tab.show_as(media)
    tab.resize(width=665, height=940)
    overhang = tab.run(
        "Math.max(...[...document.querySelectorAll('pre')].map(x => x.scrollWidth - x.clientWidth))"
    )
    # The line is long enough to be cut, were it not wrapped.
    assert overhang > 100 if media == "screen" else overhang <= 1


def test_dark_page_prints_light_and_is_dark_again(tab, site):
    tab.show_as(dark=True)
    tab.open((site / "book" / "08-small.html").as_uri())
    theme = "document.documentElement.dataset.theme"
    assert tab.run(theme) == "dark"
    tab.run(f"void addEventListener('beforeprint', () => {{ window.printed = {theme} }})")
    reader = pypdf.PdfReader(io.BytesIO(printing.print_pdf(tab)))
    assert tab.run("window.printed") == "light"
    assert tab.run(theme) == "dark"
    text = "".join(page.extract_text() for page in reader.pages)
    assert "one below zero" in text
    assert "total <- sum(numbers)" in text
    assert "Welcome" not in text, "no navigation"
