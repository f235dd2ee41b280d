"""What is made of all chapters: the list of figures, and the record of how the book was built."""

import importlib.metadata
import os
import platform
import re
from html import escape
from pathlib import Path

import torch
from docutils import nodes
from glossary import chapter_label, link
from myst_nb.sphinx_ import NbMetadataCollector
from PIL import Image
from search import words
from sphinx.util.docutils import SphinxDirective

import vaebook

THUMBNAIL = (240, 180)  # pixels, at most
SOURCE = re.compile(r"\w+, [^:;()\n]+: [\d,]+ training and [\d,]+ test images")


class Made(nodes.General, nodes.Element):
    """Stands for what can be made only when all chapters are read."""


class MadeOf(SphinxDirective):
    """Leave a place for what is made of all chapters: `figures`, `times`, `data` or `versions`."""

    required_arguments = 1

    def run(self):
        """Return the place."""
        if self.arguments[0] not in MAKERS:
            raise self.error(f"expected one of {', '.join(MAKERS)}, got {self.arguments[0]!r}")
        self.env.metadata[self.env.docname]["made_of_chapters"] = True
        return [Made(kind=self.arguments[0])]


def in_order(env):
    """Return the pages in the book's order."""
    return sorted(env.found_docs)


def table(head, rows):
    """Return a table of nodes or texts."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]

    def row(cells):
        line = nodes.row()
        for cell in cells:
            content = cell if isinstance(cell, nodes.Node) else nodes.Text(cell)
            line += nodes.entry("", nodes.paragraph("", "", content))
        return line

    group += [nodes.thead("", row(head)), nodes.tbody("", *map(row, rows))]
    return nodes.table("", group, classes=["table"])


def beginning(caption):
    """Return a caption's first sentence, or two if the first is short."""
    first, *others = re.split(r"(?<=[.?!])\s+(?=[A-Z“])", caption)
    return f"{first} {others[0]}" if others and len(first) < 30 else first


def thumbnail(app, docname, figure, prefix):
    """Write a small copy of a figure's picture; return it as HTML, or nothing without a picture."""
    image = next((i for i in figure.findall(nodes.image)), None)
    source = Path(app.srcdir, image["uri"].lstrip("/")) if image else None
    if source is None or not source.exists() or source.suffix not in (".png", ".jpg", ".jpeg"):
        return ""
    folder = Path(app.outdir, "_images")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"small-{Path(docname).name}-{figure['ids'][0]}.webp"
    with Image.open(source) as picture:
        small = picture.convert("RGBA")
    small.thumbnail(THUMBNAIL)
    ground = Image.new("RGB", small.size, "white")
    ground.paste(small, mask=small.getchannel("A"))
    ground.save(folder / name, quality=75)
    alt = escape(image.get("alt", ""))
    size = f'width="{small.width}" height="{small.height}"'
    return f'<img loading="lazy" {size} src="{prefix}_images/{name}" alt="{alt}">'


def figures(app, docname):
    """Return all figures with numbers and captions, by chapter."""
    env, found = app.env, []
    prefix = "../" * docname.count("/")
    for chapter in in_order(env):
        numbers = env.toc_fignumbers.get(chapter, {}).get("figure", {})
        items = []
        for figure in env.get_doctree(chapter).findall(nodes.figure):
            caption = next(iter(figure.findall(nodes.caption)), None)
            if caption is None or not figure["ids"]:
                continue
            anchor = figure["ids"][0]
            number = ".".join(map(str, numbers.get(anchor, ())))
            text = nodes.paragraph()
            text += link(app, docname, chapter, anchor, f"Fig. {number}" if number else "Figure")
            text += nodes.Text(f" {beginning(words(caption))}")
            picture = thumbnail(app, chapter, figure, prefix)
            items.append(nodes.list_item("", nodes.raw("", picture, format="html"), text))
        if items:
            anchor = f"figures-{Path(chapter).name}"
            section = nodes.section(ids=[anchor], classes=["made-of-chapters"])
            section += nodes.title("", chapter_label(env, chapter))
            section += nodes.bullet_list("", *items, classes=["figure-index"])
            found.append(section)
    return found


def runs(env):
    """Return the record of each page that was executed, by name."""
    records = {name: NbMetadataCollector.get_exec_data(env, name) for name in in_order(env)}
    return {name: record for name, record in records.items() if record}


def seconds(time):
    """Return a time in seconds, or in minutes where that reads better."""
    if time is None:
        return "not measured"
    return f"{time:.1f} s" if time < 100 else f"{time / 60:.1f} min"


def times(app, docname):
    """Return how long each chapter took."""
    rows, total = [], 0.0
    for name, record in runs(app.env).items():
        total += record["runtime"] or 0
        rows.append([link(app, docname, name, "", chapter_label(app.env, name))])
        rows[-1].append(seconds(record["runtime"]))
    return [table(["page", "time"], [*rows, ["together", seconds(total)]])]


def data(app, docname):
    """Return where the pixels came from: what the chapters said of their data when they ran."""
    used = {}
    for name in runs(app.env):
        said = [words(p) for p in app.env.get_doctree(name).findall(nodes.paragraph)]
        for source in dict.fromkeys(SOURCE.findall("\n".join(said))):
            used.setdefault(source, []).append(name)
    rows = []
    for source, names in used.items():
        links = nodes.inline()
        for name in names:
            links += nodes.Text(", " if len(links) else "")
            links += link(app, docname, name, "", number(app.env, name))
        rows.append([source, links])
    return [table(["data", "chapters"], rows)]


def number(env, docname):
    """Return a chapter's number, or its title where it has none."""
    found = env.toc_secnumbers.get(docname, {}).get("", ())
    return str(found[0]) if found else words(env.titles[docname])


def versions(app, docname):
    """Return the machine and the versions of everything that requirements.txt names."""
    text = Path(app.srcdir, "requirements.txt").read_text(encoding="utf-8")
    wanted = re.findall(r"^([A-Za-z][\w.-]*)", text, re.MULTILINE)
    rows = [
        ["device", vaebook.provenance(vaebook.pick_device(), torch.float32, 0)["device"]],
        ["processor cores", str(os.cpu_count())],
        ["system", f"{platform.system()} {platform.machine()}"],
        ["Python", platform.python_version()],
        ["vaebook", vaebook.__version__],
    ]
    for name in sorted(wanted, key=str.lower):
        try:
            rows.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([name, "not installed"])  # what only some chapters need
    return [table(["what", "version"], rows)]


MAKERS = {"figures": figures, "times": times, "data": data, "versions": versions}


def fill(app, doctree, docname):
    """Put into their places what was made."""
    for place in list(doctree.findall(Made)):
        place.replace_self(MAKERS[place["kind"]](app, docname))


def pages(app, env):
    """Return the pages to be written again when any chapter has changed."""
    return [name for name in env.found_docs if "made_of_chapters" in env.metadata[name]]


def setup(app):
    """Register the directive with Sphinx."""
    app.add_node(Made)
    app.add_directive("made-of-chapters", MadeOf)
    app.connect("env-updated", pages)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
