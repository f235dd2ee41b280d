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
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
LEFT_OUT = "script, input, button, a.headerlink, a.download"

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
    for element in text.select(LEFT_OUT):
        element.decompose()
    here = posixpath.dirname(name)
    for element in text.find_all(id=True):
        element["id"] = anchor(name, element["id"])
    for image in text.find_all("img"):
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


def contents(soup, name):
    """Return the entries of one page in the table of contents."""

    def entry(heading, target):
        for link in heading.select("a.headerlink"):
            link.decompose()
        text = html.escape(heading.get_text().strip())
        return f'<a href="#{target}">{text}</a><span class="page" data-to="{target}"></span>'

    lines = [f"<li>{entry(soup.select_one('article h1'), anchor(name))}</li>"]
    for section in soup.select("article section > section:has(> h2)"):
        lines.append(f"<li>{entry(section.h2, anchor(name, section['id']))}</li>")
    first, *rest = lines
    return f"<ul>{first}<li><ul>{''.join(rest)}</ul></li></ul>" if rest else f"<ul>{first}</ul>"


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
    """Return the whole book as one page, for a file in the folder above that of the pages."""
    pages = chapters(only)
    if not pages:
        raise SystemExit(f"no chapter begins with {' or '.join(only)}")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    soups, listed, printed, last = {}, [], [], ""
    for _, name in pages:
        path = SITE / f"{name}.html"
        if not path.exists():
            raise SystemExit(f"no page {path.relative_to(ROOT)}: run `make book` first")
        soups[name] = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    for part, name in pages:
        if part != last:
            listed.append(f"<p>{html.escape(part)}</p>")
            last = part
        listed.append(contents(soups[name], name))
        text = article(soups[name], name, soups)
        printed.append(f'<section class="chapter" id="{anchor(name)}">{text}</section>')
    named = {key: html.escape(config[key]) for key in ["title", "author", "copyright"]}
    return PAGE.format(
        head=head(soups), contents="".join(listed), chapters="\n".join(printed), **named
    )


def print_pdf(page):
    """Return the open page as a PDF."""
    look = {"preferCSSPageSize": True, "printBackground": True}
    answer = page.call("Page.printToPDF", **look, generateDocumentOutline=True)
    return base64.b64decode(answer["data"])


def page_numbers(pdf):
    """Return the number of the page on which each anchor of a PDF stands."""
    reader = PdfReader(io.BytesIO(pdf))
    found = reader.named_destinations.items()
    return {
        name.lstrip("/"): reader.get_destination_page_number(place) + 1 for name, place in found
    }


def print_book(target, only=()):
    """Print the book, or some chapters of it, into a file; return the number of pages."""
    source = SITE.parent / "print.html"
    source.write_text(assemble(only), encoding="utf-8")
    with Chromium(timeout=1800) as page:  # hundreds of pages, perhaps on a busy machine
        page.open(source.as_uri())
        # Only a printed book tells on which page a section stands, so it is printed twice.
        numbers = page_numbers(print_pdf(page))
        page.run(
            f"(numbers => document.querySelectorAll('[data-to]').forEach(entry => "
            f"{{ entry.textContent = numbers[entry.dataset.to] }}))({json.dumps(numbers)})"
        )
        pdf = print_pdf(page)
    target.write_bytes(pdf)
    source.unlink()
    return len(PdfReader(io.BytesIO(pdf)).pages)


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
