"""The reference: an entry for every public name, made from its docstring, and links both ways.

A page writes ``.. room:: vaebook.training`` and gets a table of the room's names and, by autodoc,
an entry for each, which ends with the chapters that use it. In the chapters' code and text every
``vb.NAME`` becomes a link to its entry. ``.. commands::`` describes the command line.
"""

import argparse
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import vaebook
from vaebook import __main__ as command_line

ROOT = Path(__file__).parents[2]
# Where readers find names after `import vaebook as vb`: most in the first.
PLACES = ["vaebook"]
PLACES += [
    f"vaebook.{n}" for n in ("plot", "data", "likelihoods", "priors", "fidelity", "from_scratch")
]

USED = re.compile(r"\b(?:vb|vaebook)((?:\.\w+)+)|`([A-Z]\w+)`")  # in a chapter's source
DOTTED = r'(?:<span class="o">\.</span><span class="n">\w+</span>)+'
CODE = re.compile(rf'<span class="n">vb</span>{DOTTED}')  # as it is highlighted
OPENED = '<span class="sig-paren">(</span>\n\n'
QUOTED = re.compile(r"(?<![`:\w])`([^`<>]+)`(?!`)(?=(\w?))")  # in a docstring
CHAPTER = re.compile(r"([Cc]hapter)\s+\*([^*]+)\*")  # there, too

KINDS = {
    "Functions": inspect.isroutine,
    "Classes": inspect.isclass,
    "Values": lambda thing: not callable(thing),
}


# --- what there is to refer to ------------------------------------------------------------------


def shown_by(room):
    """Return what a room shows, modules aside, by the full names that readers type."""
    module = vaebook
    for part in room.split(".")[1:]:
        module = getattr(module, part)
    things = {name: getattr(module, name) for name in module.__all__}
    return {
        f"{'vaebook' if getattr(vaebook, name, None) is thing else room}.{name}": thing
        for name, thing in things.items() if not inspect.ismodule(thing)
    }  # fmt: skip


@cache
def public():
    """Return everything public by its full name, such as ``vaebook.plot.tile``."""
    return {name: thing for place in PLACES for name, thing in shown_by(place).items()}


def entry(*words):
    """Return the full name of the entry for the words after ``vb.``, or None; `fit.x` has fit's."""
    names = [".".join(["vaebook", *words[:length]]) for length in range(len(words), 0, -1)]
    return next((name for name in names if name in public()), None)


@cache
def chapters():
    """Return the numbered chapters by page: their titles, and the entries that each uses."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    found = {}
    for page in [c["file"] for p in toc["parts"] if p.get("numbered") for c in p["chapters"]]:
        text = (ROOT / f"{page}.md").read_text("utf-8")
        uses = {entry(*(path or name).strip(".").split(".")) for path, name in USED.findall(text)}
        found[page] = re.search(r"^# (.+)", text, re.M)[1], uses
    return found


# --- docstrings ---------------------------------------------------------------------------------


def finish(app, what, name, thing, options, lines):
    """Turn a docstring's names into links, and end an entry with the chapters that use it."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()  # it is what a NamedTuple says of a field without a comment
    text = "\n".join(lines)
    shown = CHAPTER.sub(lambda match: f"{match[1]} :doc:`/{named_in(match[0])[0]}`", text)
    lines[:] = QUOTED.sub(lambda match: link(match, name, thing), shown).split("\n")
    if name in public():
        taught = named_in(text) or named_in(inspect.getmodule(thing).__doc__ or "")
        lines += told(taught, [page for page, (_, uses) in chapters().items() if name in uses])


def named_in(text):
    """Return the pages of the chapters that a docstring names."""
    pages = {title: page for page, (title, _) in chapters().items()}
    titles = [" ".join(title.split()) for _, title in CHAPTER.findall(text)]
    for title in titles:
        if title not in pages:
            raise ExtensionError(f"docstrings: expected a chapter's title, got {title!r}")
    return [pages[title] for title in titles]


def link(match, name, thing):
    """Return what stands for a quoted word: a link, or code where it is the thing's own."""
    word, (room, _, _) = match[1], name.rpartition(".")
    owner = thing if inspect.isclass(thing) else public().get(room)  # of a method
    own = word in arguments(thing) or (owner and hasattr(owner, word.partition(".")[0]))
    near = f"{room}.{word}"
    found = near if near in public() else entry(*word.removeprefix("vaebook.").split("."))
    made = f"``{word}``" if own or found in (None, name) else f":py:obj:`{word} <{found}>`"
    return made + "\\ " * bool(match[2])  # between markup and what follows at once, as an s


def arguments(thing):
    """Return the names of what a function or a class takes."""
    try:
        return inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return ()


def told(taught, using):
    """Return the lines that tell which chapter teaches something, and which use it."""
    if not using:
        return []
    taught = [page for page in taught if page in using]  # a room's chapter need not use every name
    first, *others = dict.fromkeys(taught + using)
    verb = "Taught" if taught else "First used"
    text = f"{verb} in chapter {number(first)}, :doc:`/{first}`"
    if others:
        text += "; used in " + ", ".join(f":doc:`{number(p)} </{p}>`" for p in sorted(others))
    return ["", ".. container:: taught", "", f"   {text}.", ""]


def number(page):
    """Return a chapter's number on the pages, which is that of its file."""
    return int(Path(page).name[:2])


# --- pages --------------------------------------------------------------------------------------


class Room(SphinxDirective):
    """A table of what rooms show, and an entry for each."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Return the table, and the entries of functions, classes and values."""
        rooms = self.arguments[0].split()
        things = {name: thing for room in rooms for name, thing in shown_by(room).items()}
        modules = [f".. py:module:: {room}" for room in rooms if room in PLACES]
        table, sections = [".. list-table::", "   :class: room", "   :widths: auto", ""], []
        for title, is_one in KINDS.items():
            names = [name for name, thing in things.items() if is_one(thing)]
            for name in names:
                about = inspect.getdoc(things[name]) if callable(things[name]) else comment(name)
                first = QUOTED.sub(r"``\1``", about.partition("\n\n")[0])
                table += [f"   * - :py:obj:`vb.{name.removeprefix('vaebook.')} <{name}>`"]
                table += [f"     - {' '.join(first.split())}"]
            entries = [line for name in names for line in [*self.entry(name, title), ""]]
            if names:
                sections.append(section(self, title, entries))
        return [*self.parse_text_to_nodes("\n".join([*modules, "", *table])), *sections]

    def entry(self, name, kind):
        """Return the lines of an entry."""
        thing = public()[name]
        if kind == "Functions":
            return [f".. autofunction:: {name}"]
        if kind == "Values":
            about = comment(name).split("\n")
            finish(None, "data", name, thing, None, about)
            return [f".. py:data:: {name}", "", *(f"   {line}" for line in about)]
        ours = any(base in public().values() for base in thing.__bases__)
        members = ["   :members:", "   :special-members: __call__"]
        return [f".. autoclass:: {name}", *members, *["   :show-inheritance:"] * ours]


def section(directive, title, lines):
    """Return a section that, unlike a parsed one, claims no label: each page has its own."""
    made = nodes.section(ids=[nodes.make_id(title)])
    made += [nodes.title(title, title), *directive.parse_text_to_nodes("\n".join(lines))]
    return made


def comment(name):
    """Return the comment, marked by a colon, at the place where a value is set."""
    room, _, word = name.rpartition(".")
    for place, module in sorted(sys.modules.items()):
        if place.startswith(f"{room}.") and vars(module).get(word) is public()[name]:
            about = ModuleAnalyzer.for_module(place).find_attr_docs().get(("", word))
            if about:
                return "\n".join(about).strip()
    raise ExtensionError(f"{name}: expected a comment `#: …` where it is set, got none")


class Commands(SphinxDirective):
    """What can be typed after ``python -m vaebook``."""

    def run(self):
        """Return a section for each command, with its options."""
        actions = command_line._parser({})._actions
        (commands,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
        return [self.command(*each) for each in commands.choices.items()]

    def command(self, name, parser):
        """Return the section of a command."""
        lines, formatter = [parser.description, ""], parser._get_formatter()
        for action in parser._actions:
            if action.dest != "help":
                value = formatter._format_args(action, action.dest.upper())
                option = " ".join([*action.option_strings, value]).strip()
                about = re.sub(r"(--\w+)", r"``\1``", formatter._expand_help(action))
                lines += [f"``{option}``", f"   {about}", ""]
        return section(self, name, lines)


# --- links --------------------------------------------------------------------------------------


def parsable(app, what, name, thing, options, signature, returned):
    """Write a default that is made anew as dots, with which a signature is Python again."""
    return signature and signature.replace("<factory>", "..."), returned


def shorten(app, doctree):
    """Show names as readers type them: ``vb.plot.tile``."""
    for place in doctree.findall(addnodes.desc_addname):
        text = re.sub(r"^vaebook\.", "vb.", place.astext())
        place.children = [nodes.Text(text)]


def link_text(app, doctree, page):
    """Make a link of every ``vb.NAME`` in a page's text."""
    targets = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        words = re.match(r"vb((?:\.\w+)+)", literal.astext())
        name = words and entry(*words[1].strip(".").split("."))
        if name in targets and not isinstance(literal.parent, nodes.reference | nodes.title):
            place = targets[name].docname, targets[name].node_id
            literal.replace_self(make_refnode(app.builder, page, *place, literal.deepcopy(), name))


def link_code(app, page, template, context, doctree):
    """Make a link of every ``vb.NAME`` in a page's code."""
    targets = app.env.get_domain("py").objects

    def linked(match):
        words = re.findall(r">(\w+)<", match[0])[1:]
        name = entry(*words)
        if name not in targets:
            return match[0]
        to = targets[name]
        url = f"{app.builder.get_relative_uri(page, to.docname)}#{to.node_id}"
        return f'<a class="reference internal" href="{url}" title="{name}">{match[0]}</a>'

    if "body" in context:
        body = CODE.sub(linked, context["body"])
        # Sphinx breaks a long signature into a list of definitions without a term.
        context["body"] = body.replace(OPENED + "<dl>", OPENED + '<dl role="presentation">')


def setup(app):
    """Register all of it with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("room", Room)
    app.add_directive("commands", Commands)
    app.connect("autodoc-process-docstring", finish, priority=900)  # after napoleon
    app.connect("autodoc-process-signature", parsable)
    app.connect("doctree-read", shorten)
    app.connect("doctree-resolved", link_text)
    app.connect("html-page-context", link_code)
    return {"version": "1", "parallel_read_safe": True}
