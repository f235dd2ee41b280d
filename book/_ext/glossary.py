"""The glossary, and from it the index and what the search puts first.

`glossary.yml` holds the terms. Where a term is taught within its chapter, and where a name of the
package is first shown, is looked up in the chapters once all of them are read. From this come the
glossary's links, the entries of the index, and the sections that the search prefers.
"""

import re
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from search import is_section, words
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import vaebook

logger = logging.getLogger(__name__)

NEEDED = {"term", "means", "chapter"}
KNOWN = NEEDED | {"symbol", "r", "also", "finds", "section"}
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


class Taught(nodes.Inline, nodes.TextElement):
    """Stands for a link to where a term is taught."""


def glossary(srcdir):
    """Read the terms, in alphabetical order."""
    path = Path(srcdir, "book", "glossary.yml")
    terms = yaml.safe_load(path.read_text(encoding="utf-8"))
    good = [entry for entry in terms if NEEDED <= entry.keys() <= KNOWN]
    for entry in terms:
        if entry not in good:
            must, may = ", ".join(sorted(NEEDED)), ", ".join(sorted(KNOWN - NEEDED))
            logger.warning(f"glossary.yml: an entry has {must}, and may have {may}; got {entry}")
    return sorted(good, key=lambda entry: entry["term"].lower())


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
        docname = f"book/{entry['chapter']}"
        names = [entry["term"], *entry.get("also", []), *entry.get("finds", [])]
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
    return [name for name, tree in doctrees.items() if any(tree.findall(Taught))]


class IndexInContents(SphinxTransform):
    """Put the index, which Sphinx writes, at the end of the table of contents."""

    default_priority = 110  # after the toctrees have come from _toc.yml

    def apply(self):
        """Add it to the last part."""
        parts = list(self.document.findall(addnodes.toctree))
        if parts and self.env.docname == self.config.root_doc:
            parts[-1]["entries"].append(("Index", "genindex"))


def fill(app, doctree, docname):
    """Put the links to where terms are taught into their places."""
    for place in list(doctree.findall(Taught)):
        chapter, anchor = app.env.taught.get(place["term"], (docname, ""))
        place.replace_self(link(app, docname, chapter, anchor, chapter_label(app.env, chapter)))


def setup(app):
    """Register the glossary with Sphinx."""
    app.add_node(Taught)
    app.add_directive("glossary-of-terms", Glossary)
    app.add_role("taught", taught_role)
    app.add_transform(IndexInContents)
    app.connect("env-updated", find_places)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
