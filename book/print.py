"""Print the built pages into one PDF with bookmarks, by a headless Chromium.

python book/print.py                   the whole book, into _build/vaebook.pdf
python book/print.py 08 09 -o a.pdf    some chapters only
"""

import argparse
import base64
import html
import io
import json
import posixpath
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import yaml
from bs4 import BeautifulSoup
from chromium import Chromium
from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
LEFT_OUT = "article :is(script, input, button, a.headerlink, a.download)"

PAGE = """<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{title}</title>
{head}
<style>
.cover {{ padding-top: 80mm; text-align: center; }}
.cover .title {{ font-size: 3em; line-height: 1.2; }}
.chapter, .contents {{ break-before: page; }}
.contents :is(ul, p) {{ margin: 0.2em 0 0; padding: 0; list-style: none; }}
.contents p {{ margin-top: 1em; font-weight: 600; }}
.contents li {{ display: flex; }}
.contents li > ul {{ flex: 1; padding-left: 2em; }}
.contents li a {{ flex: 1; color: inherit; text-decoration: none; }}
@page :first {{ @bottom-center {{ content: none; }} }}
</style></head>
<body><main class="bd-main"><div class="bd-content"><article class="bd-article">
<section class="cover"><p class="title">{title}</p><p>{author}</p><p>{copyright}</p></section>
<section class="contents"><h1>Contents</h1>{contents}</section>
{chapters}
</article></div></main></body></html>"""


def chapters(only=()):
    """Return the pages to print in their order, each as its part's caption and its name."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [("", toc["root"])]
    found += [(part["caption"], c["file"]) for part in toc["parts"] for c in part["chapters"]]
    return [(part, name) for part, name in found if not only or Path(name).name[:2] in only]


def article(soup, name, names):
    """Return a page's text, its anchors made unique and its links leading within the book."""
    text = soup.select_one("article.bd-article")
    here = posixpath.dirname(name)
    for element in text.find_all(id=True):
        element["id"] = anchor(name, element["id"])
    for image in text.find_all("img"):
        image.attrs.pop("loading", None)  # no reader of paper comes near
        if not image["src"].startswith("data:"):
            image["src"] = posixpath.normpath(posixpath.join("html", here, image["src"]))
    for link in text.find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme:
            continue
        page = posixpath.normpath(posixpath.join(here, parts.path)) if parts.path else name
        page = page.removesuffix(".html")
        if page in names:
            link["href"] = f"#{anchor(page, parts.fragment)}"
        else:  # a file beside the page, which paper cannot hold
            link.unwrap()
    return text.decode_contents()


def anchor(name, fragment=""):
    """Return an id of one page as the id in the book; without a fragment, that of the chapter."""
    return f"{Path(name).name}--{quote(fragment)}" if fragment else Path(name).name


def headings(soup, name):
    """Return the titles of a page and of its sections, each with its anchor."""
    found = [(soup.select_one("article h1"), anchor(name))]
    for section in soup.select("article section > section:has(> h2)"):
        found.append((section.h2, anchor(name, section["id"])))
    return [(title.get_text().strip(), target) for title, target in found]


def contents(entries):
    """Return the entries of one page in the table of contents."""
    first, *rest = [
        f'<li><a href="#{target}">{html.escape(title)}</a><span data-to="{target}"></span></li>'
        for title, target in entries
    ]
    return f"<ul>{first}<li><ul>{''.join(rest)}</ul></li></ul>"


def head(soups):
    """Return the style sheets of all pages, and the scripts that set formulas."""
    kept = {}
    for name, soup in soups.items():
        for tag in soup.select("link[rel=stylesheet], script"):
            where = "href" if tag.name == "link" else "src"
            if tag.name == "script" and "mathjax" not in str(tag).lower():
                continue
            if tag.get(where):
                path = posixpath.join("html", posixpath.dirname(name), tag[where])
                tag[where] = posixpath.normpath(path)
            kept[str(tag)] = None
    return "\n".join(kept)


def assemble(only=()):
    """Return the book as one page, for a file above the folder of the pages, and its headings."""
    pages = chapters(only)
    if not pages:
        raise SystemExit(f"no chapter begins with {' or '.join(only)}")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    soups, entries, listed, printed = {}, {}, [], []
    for _, name in pages:
        path = SITE / f"{name}.html"
        if not path.exists():
            raise SystemExit(f"no page {path.relative_to(ROOT)}: run `make book` first")
        soups[name] = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for element in soups[name].select(LEFT_OUT):
            element.decompose()
    for part, name in pages:
        if part not in entries:
            entries[part] = []
            listed.append(f"<p>{html.escape(part)}</p>")
        entries[part].append(headings(soups[name], name))
        listed.append(contents(entries[part][-1]))
        text = article(soups[name], name, soups)
        printed.append(f'<section class="chapter" id="{anchor(name)}">{text}</section>')
    named = {key: html.escape(config[key]) for key in ["title", "author", "copyright"]}
    text = PAGE.format(
        head=head(soups), contents="".join(listed), chapters="\n".join(printed), **named
    )
    return text, entries


def print_pdf(page):
    """Return the open page as a PDF."""
    answer = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    return base64.b64decode(answer["data"])


def page_numbers(reader):
    """Return the number of the page, from 1, on which each anchor stands."""
    places = reader.named_destinations.items()
    return {
        name.lstrip("/"): reader.get_destination_page_number(place) + 1 for name, place in places
    }


def with_bookmarks(reader, entries):
    """Return a PDF with bookmarks for its parts, their chapters and the sections of these."""
    writer, numbers = PdfWriter(clone_from=reader), page_numbers(reader)

    def add(title, target, parent=None):
        top = Fit.xyz(top=reader.named_destinations[f"/{target}"].top)
        return writer.add_outline_item(
            title=title, page_number=numbers[target] - 1, parent=parent, fit=top
        )

    for part, pages in entries.items():
        under = add(part, pages[0][0][1]) if part else None
        for chapter, *sections in pages:
            chapter = add(*chapter, under)
            for section in sections:
                add(*section, chapter)
    return writer


def print_book(target, only=()):
    """Print the book, or some chapters of it, into a file; return the number of pages."""
    source = SITE.parent / "print.html"
    text, entries = assemble(only)
    source.write_text(text, encoding="utf-8")
    # Hundreds of pages, perhaps on a busy machine.
    with Chromium(timeout=1800) as browser, browser.tab() as page:
        page.open(source.as_uri())
        # Only a printed book tells on which page a section stands, so it is printed twice.
        numbers = page_numbers(PdfReader(io.BytesIO(print_pdf(page))))
        page.run(
            f"(numbers => document.querySelectorAll('[data-to]').forEach(entry => "
            f"{{ entry.textContent = numbers[entry.dataset.to] }}))({json.dumps(numbers)})"
        )
        reader = PdfReader(io.BytesIO(print_pdf(page)))
    source.unlink()
    with_bookmarks(reader, entries).write(target)
    return len(reader.pages)


def main(argv=None):
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="numbers of chapters, such as 08")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "_build" / "vaebook.pdf")
    asked = parser.parse_args(argv)
    pages = print_book(asked.output, asked.only)
    print(f"{asked.output}: {pages} pages, {asked.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
