"""Pages at the back that nobody types: glossary, index, figures, how the book was built.

`glossary.yml` holds the terms. Where a term is taught within its chapter, and where a name of the
package is first shown, is looked up in the chapters once all of them are read. From this come the
glossary's links, the entries of the index, and what the search puts first.
"""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import torch
import yaml
from docutils import nodes
from docutils.statemachine import StringList
from myst_nb.sphinx_ import NbMetadataCollector
from PIL import Image
from search import is_section, words
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import vaebook

logger = logging.getLogger(__name__)

THUMBNAIL = (240, 180)  # pixels, at most
NEEDED = {"term", "means", "chapter"}
KNOWN = NEEDED | {"symbol", "r", "also", "section"}
SOURCE = re.compile(r"\w+, [^:;()\n]+: [\d,]+ training and [\d,]+ test images")
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


class Taught(nodes.Inline, nodes.TextElement):
    """Stands for a link to where a term is taught."""


class Made(nodes.General, nodes.Element):
    """Stands for what can be made only when all chapters are read."""


def glossary(srcdir):
    """Read the terms, in alphabetical order."""
    path = Path(srcdir, "book", "glossary.yml")
    terms = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in terms:
        if NEEDED - entry.keys() or entry.keys() - KNOWN:
            must, may = ", ".join(sorted(NEEDED)), ", ".join(sorted(KNOWN - NEEDED))
            logger.warning(f"glossary.yml: an entry has {must}, and may have {may}; got {entry}")
    return sorted(terms, key=lambda entry: entry["term"].lower())


def term_id(term):
    """Return the anchor of a term in the glossary."""
    return "term-" + re.sub(r"\W+", "-", term.lower()).strip("-")


# --- the glossary ---------------------------------------------------------------------------


class Glossary(SphinxDirective):
    """All terms with their meaning; or, with the argument `symbols`, a table of the symbols."""

    optional_arguments = 1

    def run(self):
        """Write the terms as Markdown and let MyST read it."""
        self.env.note_dependency(str(Path(self.env.srcdir, "book", "glossary.yml")))
        terms = glossary(self.env.srcdir)
        lines = self.symbols(terms) if self.arguments else self.terms(terms)
        box = nodes.container(classes=["glossary-page"])
        self.state.nested_parse(StringList(lines, "glossary.yml"), 0, box)
        if not self.arguments:
            items = box.findall(nodes.definition_list_item)
            for item, entry in zip(items, terms, strict=True):
                item[0]["ids"].append(term_id(entry["term"]))
                item[0]["names"].append(term_id(entry["term"]))
                self.state.document.note_explicit_target(item[0])
        return [box]

    @staticmethod
    def terms(terms):
        """Return a definition list."""
        lines = []
        for entry in terms:
            symbol = f" {entry['symbol']}" if "symbol" in entry else ""
            also = f" Also: {', '.join(entry['also'])}." if "also" in entry else ""
            r = f" In R: `{entry['r']}`." if "r" in entry else ""
            lines += [f"{entry['term']}{symbol}", f": {entry['means'].strip()}{also}{r}"]
            lines += [f"  {{taught}}`{entry['term']}`", ""]
        return lines

    @staticmethod
    def symbols(terms):
        """Return a table of the terms that have a symbol."""
        rows = [
            f"| {e['symbol']} | [{e['term']}](#{term_id(e['term'])}) | {{taught}}`{e['term']}` |"
            for e in terms
            if "symbol" in e
        ]
        return ["| symbol | name | taught in |", "| --- | --- | --- |", *rows]


def taught_role(name, rawtext, text, lineno, inliner, options=None, content=()):
    """Leave a place for the link to where a term is taught."""
    return [Taught(term=text)], []


def chapter_label(env, docname):
    """Return a chapter's number and title in words."""
    title = words(env.titles[docname])
    number = env.toc_secnumbers.get(docname, {}).get("", ())
    return f"Chapter {number[0]}, {title}" if number else title


def link(app, fromdoc, todoc, anchor, text):
    """Return a link within the book."""
    uri = app.builder.get_relative_uri(fromdoc, todoc) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", text, internal=True, refuri=uri)


# --- where things are taught ----------------------------------------------------------------


def section_of(node):
    """Return the anchor of the section that a node is in."""
    while node is not None and not is_section(node):
        node = node.parent
    return node["ids"][0] if node is not None else ""


def place_of_term(doctree, names):
    """Return where a chapter teaches a term: in a heading, emphasised, or for the first time."""
    wanted = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})s?(?!\w)", re.IGNORECASE)
    kinds = [(nodes.title,), (nodes.emphasis, nodes.strong), (nodes.paragraph, nodes.literal_block)]
    for kind in kinds:
        for node in doctree.findall(lambda n, kind=kind: isinstance(n, kind)):
            inside = isinstance(node, nodes.title) and not isinstance(node.parent, nodes.section)
            if not inside and wanted.search(words(node) or node.astext()):
                return section_of(node)
    return None


def is_public(name):
    """Say whether a dotted name leads to a function or class of the package."""
    found = vaebook
    for part in name.split("."):
        found = getattr(found, part, None) if not part.startswith("_") else None
    return callable(found)


def names_shown(doctree):
    """Yield each use of the package in a code cell that is not folded, with its section."""
    for block in doctree.findall(nodes.literal_block):
        cell = block.parent.parent
        tags = set(cell.get("cell_metadata", {}).get("tags", [])) if cell is not None else set()
        if "output" in block["classes"] or tags & HIDDEN:
            continue
        for match in re.finditer(r"\bvb\.(\w+(?:\.\w+)*)", block.astext()):
            parts = match[1].split(".")
            for length in range(1, len(parts) + 1):
                if is_public(name := ".".join(parts[:length])):
                    yield f"vb.{name}", section_of(block)
                    break


def find_places(app, env):
    """Look up where terms are taught and names are shown; put them into the index."""
    doctrees = {name: env.get_doctree(name) for name in sorted(env.found_docs)}
    env.taught = {}
    for entry in glossary(app.srcdir):
        docname, names = f"book/{entry['chapter']}", [entry["term"], *entry.get("also", [])]
        looked_for = [entry["section"]] if "section" in entry else names
        place = place_of_term(doctrees[docname], looked_for) if docname in doctrees else None
        if place is None:
            logger.warning(f"glossary.yml: chapter {entry['chapter']} has no {entry['term']!r}")
            continue
        env.taught |= dict.fromkeys(names, (docname, place))
    for part in doctrees[app.config.root_doc].findall(addnodes.toctree):
        for docname in part["includefiles"] if part["numbered"] else []:
            for name, anchor in names_shown(doctrees[docname]):
                env.taught.setdefault(name, (docname, anchor))
    entries = env.domaindata["index"]["entries"]
    for name, (docname, anchor) in env.taught.items():
        entry = ("single", name, anchor, "", None)
        if entry not in entries.setdefault(docname, []):
            entries[docname].append(entry)
    made = (Made, Taught)
    return [d for d, t in doctrees.items() if any(t.findall(lambda n: isinstance(n, made)))]


class IndexInContents(SphinxTransform):
    """Put the index, which Sphinx writes, at the end of the table of contents."""

    default_priority = 110  # after the toctrees have come from _toc.yml

    def apply(self):
        """Add it to the last part."""
        parts = list(self.document.findall(addnodes.toctree))
        if parts and self.env.docname == self.config.root_doc:
            parts[-1]["entries"].append(("Index", "genindex"))


# --- what is made of the chapters -----------------------------------------------------------


class MadeOf(SphinxDirective):
    """Leave a place for what is made of all chapters: `figures`, `times`, `data` or `versions`."""

    required_arguments = 1

    def run(self):
        """Return the place."""
        if self.arguments[0] not in MAKERS:
            raise self.error(f"expected one of {', '.join(MAKERS)}, got {self.arguments[0]!r}")
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
    alt = nodes.unescape(image.get("alt", "")).replace("&", "&amp;").replace('"', "&quot;")
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
            continue  # a page can be built without what only some chapters need
    return [table(["what", "version"], rows)]


MAKERS = {"figures": figures, "times": times, "data": data, "versions": versions}


def fill(app, doctree, docname):
    """Put into their places what was made, and the links to where terms are taught."""
    for place in list(doctree.findall(Made)):
        place.replace_self(MAKERS[place["kind"]](app, docname))
    for place in list(doctree.findall(Taught)):
        chapter, anchor = app.env.taught.get(place["term"], (docname, ""))
        place.replace_self(link(app, docname, chapter, anchor, chapter_label(app.env, chapter)))


def setup(app):
    """Register the directives with Sphinx."""
    app.add_node(Taught)
    app.add_node(Made)
    app.add_directive("glossary-of-terms", Glossary)
    app.add_directive("made-of-chapters", MadeOf)
    app.add_role("taught", taught_role)
    app.add_transform(IndexInContents)
    app.connect("env-updated", find_places)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
