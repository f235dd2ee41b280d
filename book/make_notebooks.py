"""Make book/NN-name.ipynb from book/NN-name.md, with the outputs of the last `make book`.

The notebooks are what a reader opens in Jupyter or on a code host, where MyST markup would show
raw; so it is translated into plain Markdown. A directive or role that has no translation here is
an error: add one.

A reader may have one notebook and nothing else. So its first cells say how to install what it
needs, its pictures lie in it, and it ends with the works that it cites.

    python book/make_notebooks.py            write every notebook
    python book/make_notebooks.py --check    say which notebooks disagree with their chapters
"""

import argparse
import ast
import base64
import io
import mimetypes
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from PIL import Image
from pybtex.database import parse_file
from pybtex.plugin import find_plugin
from pybtex.richtext import Text

BOOK = Path(__file__).resolve().parent
CACHE = BOOK.parent / "_build" / ".jupyter_cache"  # of the last build
MAX_BYTES = 1_000_000

FIRST_CELL = """\
> This notebook was made from `book/{name}.md`, the chapter's source: change it there.
> To install all that it needs, run `{install}` once{where}.
> Links to other chapters lead to the notebooks that lie beside this one."""
# The cell that says what is missing stands in the notebooks only, and this tag tells it apart.
CHECK_TAG = "not-in-chapter"
CHECK_CELL = """\
from importlib.util import find_spec

needed = "{needed}".split()
missing = [name for name in needed if find_spec(name) is None]
if missing:
    raise ImportError(
        f"This notebook needs {{' and '.join(missing)}}; to install all, run "
        '{install}{where}.'
    )"""

ADMONITIONS = {
    "attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip",
    "warning",
}  # fmt: skip
TITLED = {"admonition", "topic", "sidebar", "epigraph", "margin"}
FLAT = {"div", "grid", "tab-set"}
ITEMS = {"card", "grid-item", "grid-item-card", "tab-item"}
FOLDED = {"hide-cell", "hide-input", "remove-cell", "remove-input"}
DROPPED = {"bibliography", "contents", "exercise-end", "opening", "tableofcontents"}

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})(?:\{(?P<name>[^}]+)\})?(?P<rest>.*)$")
ROLE = re.compile(r"\{([a-zA-Z:_-]+)\}`([^`]+)`")
PICTURE = re.compile(r"!\[(?P<alt>[^]]*)\]\((?P<path>[^)\s:]+)\)")
SOLUTION = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{solution-(?:start|end)\} *(?P<label>\S*) *\n"
    r"(?::.*\n)*(?P=fence) *$",
    re.MULTILINE,
)
TITLE_TARGET = re.compile(r"^(?P<title>.*?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)


class Untranslatable(ValueError):
    """A chapter uses markup that has no translation into plain Markdown yet."""


# --- what a chapter can be asked about ------------------------------------------------------


@dataclass
class Chapter:
    """A chapter's source, read as a notebook, and the labels that it defines."""

    name: str
    cells: list = field(repr=False)
    title: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The chapter's number on the pages, which is that of its file."""
        return str(int(self.name[:2]))


def read(path):
    """Read a chapter as a notebook, as the build does."""
    text = path.read_text(encoding="utf-8")
    return read_myst_markdown_notebook(text, config=MdParserConfig(), add_source_map=False)


def read_chapter(path):
    """Read one chapter and number its exercises, equations and figures as the pages do."""
    notebook = read(path)
    chapter = Chapter(path.stem, notebook.cells)
    counts = {"exercise": 0, "equation": 0, "figure": 0}

    def number(kind, label, text):
        counts[kind] += 1
        chapter.labels[label] = text.format(f"{chapter.number}.{counts[kind]}")

    for cell in chapter.cells:
        if cell.cell_type == "code":
            if figure := cell.metadata.get("mystnb", {}).get("figure"):
                number("figure", figure.get("name", id(cell)), "Fig. {}")
            continue
        lines = cell.source.splitlines()
        for position, line in enumerate(lines):
            following = next((x for x in lines[position + 1 :] if x.strip()), "")
            if heading := re.match(r"#+ +(.+)", line):
                chapter.title = chapter.title or heading[1]
            elif target := re.match(r"\((\S+)\)=\s*$", line):
                chapter.labels[target[1]] = re.sub("^#+ +", "", following)
            elif labelled := re.match(r"\s*\$\$\s*\((\S+)\)\s*$", line):
                number("equation", labelled[1], "({})")
            elif match := FENCE.match(line):
                options = "\n".join(lines[position + 1 : position + 6])
                label = re.search(r"^\s*:(?:label|name): *(\S+)", options, re.MULTILINE)
                if match["name"] in ("exercise", "exercise-start"):
                    number("exercise", label[1] if label else id(match), "Exercise {}")
                elif match["name"] == "math" and label:
                    number("equation", label[1], "({})")
                elif match["name"] in ("figure", "live-estimators"):
                    number("figure", label[1] if label else id(match), "Fig. {}")
    return chapter


def chapters():
    """Return the chapters named in _toc.yml that are notebooks, by name."""
    toc = yaml.safe_load((BOOK.parent / "_toc.yml").read_text(encoding="utf-8"))
    entries = [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]
    paths = [BOOK.parent / f"{entry}.md" for entry in entries]
    notebooks = [p for p in paths if p.exists() and p.read_text(encoding="utf-8").startswith("---")]
    return {path.stem: read_chapter(path) for path in notebooks}


@cache
def bibliography():
    """Return the entries of references.bib."""
    return parse_file(BOOK / "references.bib")


@cache
def backend(name):
    """Return what renders pybtex's rich text, which looks through all packages to find it."""
    return find_plugin("pybtex.backends", name)()


def author_and_year(key):
    """Return the names and the year by which a work is cited."""
    entry = bibliography().entries[key]
    people = entry.persons.get("author") or entry.persons["editor"]
    latex = [" ".join(person.prelast_names + person.last_names) for person in people]
    names = [Text.from_latex(name).render(backend("text")) for name in latex]
    many = f"{names[0]} et al."
    return (many if len(names) > 2 else " and ".join(names)), entry.fields["year"]


def works(keys):
    """Return the list of these works in Markdown, in the style of the page of references."""
    style = find_plugin("pybtex.style.formatting", "plain")()
    entries = style.format_bibliography(bibliography(), keys)
    texts = [entry.text.render(backend("markdown")) for entry in entries]
    return [f"- {' '.join(text.split())}" for text in texts]


def installation():
    """Return the command that installs what the notebooks need, and where to run it."""
    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    if url := config["repository"]["url"]:
        return {"install": f'pip install "vaebook[book] @ git+{url}"', "where": ""}
    return {"install": 'pip install -e ".[book]"', "where": " from the root of the repository"}


def needed(cells):
    """Return the packages beyond Python's own that these code cells import."""
    names = set()
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in cells))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return " ".join(sorted(names - sys.stdlib_module_names))


# --- from MyST to plain Markdown ------------------------------------------------------------


class Translator:
    """Turns the Markdown cells of one chapter into what any Markdown reader shows well."""

    def __init__(self, chapter, book):
        self.chapter = chapter
        self.book = book
        self.cited = set()
        self.pictures = {}  # of the present cell, in which they are to lie
        self.solving = ""  # the exercise whose solution the present place belongs to
        self.heading = ""  # the title under which a click opens it

    def cell(self, source):
        """Translate one cell; of a solution, each part between two pieces of code is folded."""
        gates, out, position = [*SOLUTION.finditer(source)], [], 0
        for gate in gates:
            out.append(self.folded(self.text(source[position : gate.start()])))
            self.solving, position = gate["label"], gate.end()
            self.heading = f"Solution to {self.reference(self.solving)}" if self.solving else ""
        rest = source[position:]
        if gates and self.solving and not rest.strip():
            out.append(f"**{self.heading}:** see the folded code below.")
            self.heading += ", continued"
        out.append(self.folded(self.text(rest)))
        return "\n\n".join(filter(None, out))

    def folded(self, text):
        """Fold a text that belongs to a solution, and leave any other as it is."""
        if not (self.solving and text):
            return text
        heading = self.heading
        self.heading = heading.removesuffix(", continued") + ", continued"
        return "\n".join(_details(heading, [text]))

    def text(self, source):
        """Translate Markdown without a solution that begins or ends in it."""
        lines = self.blocks(source.splitlines())
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def blocks(self, lines):
        """Translate lines: directives by their kind, code as it is, prose by its roles."""
        out, prose, position = [], [], 0

        def flush():
            if prose:
                out.extend(self.prose("\n".join(prose)).split("\n"))
                prose.clear()

        while position < len(lines):
            match = FENCE.match(lines[position])
            if not match:
                prose.append(lines[position])
                position += 1
                continue
            end = _closing(lines, position, match["fence"])
            indent = len(match["indent"])
            body = [x[indent:] if x[:indent].isspace() else x for x in lines[position + 1 : end]]
            flush()
            if match["name"]:
                found = self.directive(match["name"], match["rest"].strip(), body)
                out.extend(["", *(match["indent"] + x if x else x for x in found), ""])
            else:
                out.extend(lines[position : end + 1])
            position = end + 1
        flush()
        return out

    def directive(self, name, argument, body):
        """Return the lines that stand for one directive."""
        options, body = _options(body)
        title = self.prose(argument)
        label = options.get("label", options.get("name"))
        folded = "dropdown" in options.get("class", "").split()
        if name in ADMONITIONS | TITLED:
            default = "" if name in ("epigraph", "margin") else name.capitalize()
            if name == "seealso":
                default = "See also"
            if name in ADMONITIONS and argument:  # the first line of the content
                body, title = [argument, *body], ""
            inner = self.blocks(body)
            return (_details if folded else _quote)(title or default, inner)
        if name == "dropdown":
            return _details(title, self.blocks(body))
        if name in ("exercise", "exercise-start"):
            heading = self.chapter.labels.get(label, "Exercise")
            return _quote(f"{heading} ({title})" if title else heading, self.blocks(body))
        if name == "solution":
            return _details(f"Solution to {self.reference(argument)}", self.blocks(body))
        if name == "literalinclude":
            code = (BOOK / argument).read_text(encoding="utf-8").rstrip().split("\n")
            language = options.get("language", "")
            return [*(["In R:", ""] if language == "r" else []), f"```{language}", *code, "```"]
        if name in ("code", "code-block"):
            return [f"```{argument}", *body, "```"]
        if name == "math":
            return self.math(body, label)
        if name in ("figure", "image"):
            picture = [self.picture(options.get("alt", ""), argument)]
            caption = self.text("\n".join(body))
            number = f"{self.chapter.labels[label]}: " if label else ""
            return [*picture, "", f"*{number}{caption}*"] if caption else picture
        if name == "live-estimators":
            caption = self.cell("\n".join(body))
            return [f"*{self.chapter.labels[label]} (live on the page of this chapter): {caption}*"]
        if name == "table":
            return [f"*{title}*", "", *self.blocks(body)]
        if name == "live":
            caption = self.cell("\n".join(body))
            return _quote("On the page of the book, this figure is live", caption.split("\n"))
        if name in FLAT:
            return self.blocks(body)
        if name in ITEMS:
            if "link" in options:
                link = options["link"]
                title = f"[{title}]({link if '//' in link else self.file(link)})"
            return [*([f"**{title}**", ""] if title else []), *self.blocks(body)]
        if name in DROPPED:
            return []
        raise Untranslatable(f"{self.chapter.name}.md: directive {{{name}}}")

    def picture(self, alt, path):
        """Return the reference to a picture that will lie in the cell."""
        content = base64.b64encode((BOOK / path).read_bytes()).decode()
        name = Path(path).name
        self.pictures[name] = {mimetypes.guess_type(name)[0]: content}
        return f"![{alt}](attachment:{name})"

    def math(self, body, label=None):
        """Return a displayed formula, numbered where the pages number it."""
        formula = "\n".join(body).strip()
        if r"\\" in formula and r"\begin" not in formula:
            formula = f"\\begin{{aligned}}\n{formula}\n\\end{{aligned}}"
        tag = f"\n\\tag{{{self.chapter.labels[label].strip('()')}}}" if label else ""
        return ["$$", *f"{formula}{tag}".split("\n"), "$$"]

    def prose(self, text):
        """Translate roles, links, labels, comments and footnotes outside code."""
        text = re.sub(r"^%.*\n?", "", text, flags=re.MULTILINE)
        text = re.sub(r"^\(\S+\)=\s*\n?", "", text, flags=re.MULTILINE)
        text = re.sub(
            r"^\$\$\n(.*?)\n\$\$ *\((\S+)\) *$",
            lambda m: "\n".join(self.math([m[1]], m[2])),
            text,
            flags=re.DOTALL | re.MULTILINE,
        )
        text = ROLE.sub(self.role, text)
        # What is left in backticks is code, and none of the rest applies to it.
        parts = re.split(r"(`+[^`]+`+)", text)
        for i in range(0, len(parts), 2):
            parts[i] = PICTURE.sub(lambda m: self.picture(m["alt"], m["path"]), parts[i])
            parts[i] = re.sub(r"\[\^(\w+)\](:?)", r"<sup>\1</sup>", parts[i])
            parts[i] = re.sub(r"\[\]\(([^)\s]+)\)", self.bare_link, parts[i])
            parts[i] = re.sub(
                r"\]\((\d\d-[\w-]+)\.md(#[^)\s]*)?\)",
                lambda m: f"]({self.file(m[1])}{m[2] or ''})",
                parts[i],
            )
        return "".join(parts)

    def bare_link(self, match):
        """Give a link without a text the title of what it leads to."""
        target = match[1]
        if target.startswith("#"):
            return self.reference(target[1:])
        name = target.removesuffix(".md")
        return f"[{self.book[name].title}]({self.file(name)})" if name in self.book else match[0]

    def role(self, match):
        """Return the text that stands for one role."""
        role, text = match[1], match[2]
        titled = TITLE_TARGET.match(text)
        title, target = (titled["title"], titled["target"]) if titled else ("", text)
        if role.split(":")[0] == "cite":
            return self.cite(role, text)
        if role == "eq":
            return self.reference(target)
        if role == "ref":
            return self.reference(target, title)
        if role == "numref":
            number = self.reference(target)
            return title.replace("%s", number.split()[-1]) if title else number
        if role == "doc":
            name = target.rsplit("/", 1)[-1]
            shown = title or (self.book[name].title if name in self.book else name)
            return f"[{shown}]({self.file(name)})"
        if role == "math":
            return f"${text}$"
        if role in ("sub", "sup"):
            return f"<{role}>{text}</{role}>"
        if role in ("abbr", "term", "kbd", "dfn"):
            return title or text
        if role in ("code", "file") or role.startswith("py:"):
            return f"`{target.lstrip('~')}`"
        if role == "download":
            if target == f"{self.chapter.name}.ipynb":
                return ""  # nobody needs to be pointed to where they are
            return f"[{title or target}]({target})"
        raise Untranslatable(f"{self.chapter.name}.md: role {{{role}}}")

    def cite(self, role, keys):
        """Return a citation by author and year."""
        keys = [key.strip() for key in keys.split(",")]
        self.cited.update(keys)
        found = map(author_and_year, keys)
        if role == "cite:t":
            return ", ".join(f"{names} ({year})" for names, year in found)
        return "(" + "; ".join(f"{names}, {year}" for names, year in found) + ")"

    def reference(self, label, title=""):
        """Return the text of a reference to a label, with a link if it is in another chapter."""
        for chapter in [self.chapter, *self.book.values()]:
            if label in chapter.labels:
                text = title or chapter.labels[label]
                here = chapter.name == self.chapter.name
                return text if here else f"[{text}]({self.file(chapter.name)})"
        raise Untranslatable(f"{self.chapter.name}.md: no label {label!r} in any chapter")

    def file(self, name):
        """Return the file to open for another chapter: its notebook, if it has one."""
        name = name.rsplit("/", 1)[-1].removesuffix(".md")
        return f"{name}.ipynb" if name in self.book else f"{name}.md"


def _closing(lines, start, fence):
    """Return the line that closes a fence: as many of the same marks, alone on a line."""
    for position in range(start + 1, len(lines)):
        mark = lines[position].strip()
        if mark and len(mark) >= len(fence) and set(mark) == {fence[0]}:
            return position
    raise Untranslatable(f"no end to {lines[start]!r}")


def _options(body):
    """Split the options of a directive from its content."""
    options, rest = {}, list(body)
    if rest and rest[0].strip() == "---":
        end = next(i for i, line in enumerate(rest[1:], 1) if line.strip() == "---")
        found = yaml.safe_load("\n".join(rest[1:end])) or {}
        return {k: str(v) for k, v in found.items()}, rest[end + 1 :]
    while rest and (option := re.match(r"^:([\w-]+):(?:\s+(.*))?$", rest[0])):
        options[option[1]] = (option[2] or "").strip()
        rest.pop(0)
    return options, rest


def _quote(title, lines):
    """Return a block quotation under a bold title."""
    inner = "\n".join(lines).strip("\n").split("\n")
    heading = [f"> **{title}**", ">"] if title else []
    return [*heading, *(f"> {line}".rstrip() for line in inner)]


def _details(title, lines):
    """Return a part that opens on a click."""
    inner = "\n".join(lines).strip("\n").split("\n")
    return ["<details>", f"<summary>{title}</summary>", "", *inner, "", "</details>"]


# --- notebooks ------------------------------------------------------------------------------


def notebook(chapter, book):
    """Return the chapter as a notebook for readers, still without outputs."""
    translate = Translator(chapter, book)
    cells = _first_cells(chapter)
    for cell in chapter.cells:
        if cell.cell_type == "code":
            hidden = {"source_hidden": True} if _tags(cell) & FOLDED else {}
            if translate.solving:
                hidden = {"source_hidden": True, "outputs_hidden": True}
            metadata = {"jupyter": hidden} if hidden else {}
            cells.append(nbformat.v4.new_code_cell(cell.source, metadata=metadata))
            text = _below(cell, chapter, translate)
        else:
            text = translate.cell(cell.source)
        if text:
            pictures = {"attachments": translate.pictures} if translate.pictures else {}
            translate.pictures = {}
            cells.append(nbformat.v4.new_markdown_cell(text, **pictures))
    if translate.cited:
        listed = ["## Works cited", "", *works(translate.cited)]
        cells.append(nbformat.v4.new_markdown_cell("\n".join(listed)))
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position:03d}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _first_cells(chapter):
    """Return the cells that say how to install what the notebook needs, and what is missing."""
    code = [cell for cell in chapter.cells if cell.cell_type == "code"]
    first = FIRST_CELL.format(name=chapter.name, **installation())
    check = CHECK_CELL.format(needed=needed(code), **installation())
    metadata = {"tags": [CHECK_TAG], "jupyter": {"source_hidden": True}}
    return [
        nbformat.v4.new_markdown_cell(first),
        nbformat.v4.new_code_cell(check, metadata=metadata),
    ]


def _below(cell, chapter, translate):
    """Return what stands below a code cell's figure: its number, caption and description."""
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    number = chapter.labels.get(figure.get("name"), "")
    caption = translate.text(str(figure.get("caption", "")))
    parts = [translate.folded(f"**{number}** {caption}" if number and caption else caption)]
    if alt := _alt(cell):
        parts.append("\n".join(_details("The picture in words", [alt])))
    return "\n\n".join(filter(None, parts))


def _alt(cell):
    """Return the text in place of a code cell's picture."""
    return " ".join(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").split())


def _tags(cell):
    return set(cell.metadata.get("tags", []))


def add_outputs(made, name):
    """Copy into a notebook the outputs which the last build of the book computed."""
    try:
        _, ran = get_cache(CACHE).merge_match_into_notebook(read(BOOK / f"{name}.md"))
    except KeyError:
        raise SystemExit(f"{name}: the last build did not run this code; run `make book`") from None
    ran = [c for c in ran.cells if c.cell_type == "code"]
    code = [c for c in made.cells if c.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
    code = [c for c in code if CHECK_TAG not in _tags(c)]
    for cell, executed in zip(code, ran, strict=True):
        alt = _alt(executed)
        cell.outputs = [_tidy(o, cell.execution_count, alt) for o in executed.outputs]


def _tidy(output, number, alt):
    """Drop from an output what differs from run to run without meaning anything."""
    width = output.get("metadata", {}).get("image/png", {}).get("width")
    if "metadata" in output:
        output.metadata = {}
    if output.output_type == "execute_result":
        output.execution_count = number
    if "text/plain" in output.get("data", {}):
        text = re.sub(r" at 0x[0-9a-f]+", "", output.data["text/plain"])
        output.data["text/plain"] = text
    if "image/png" in output.get("data", {}):
        kind, picture = _shrunk(base64.b64decode(output.data.pop("image/png")), width)
        output.data[kind] = base64.b64encode(picture).decode()
    if alt and (kinds := [k for k in output.get("data", {}) if k.startswith("image/")]):
        output.metadata = {kind: {"alt": alt} for kind in kinds}
    return output


def _shrunk(picture, width=None):
    """Return the kind and bytes of a smaller picture: 64 colours, or JPEG if a third smaller.

    A picture of twice the pixels that it is shown with is brought to its `width` on the page.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if width:
        image = image.reduce(max(1, round(image.width / width)))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    image.save(jpeg, "JPEG", quality=80, optimize=True)
    smaller = 3 * len(jpeg.getvalue()) < 2 * len(png.getvalue())
    return ("image/jpeg", jpeg.getvalue()) if smaller else ("image/png", png.getvalue())


def agree(made, path):
    """Say whether a notebook on disk holds the same cells (outputs aside)."""
    if not path.exists():
        return False
    kept = nbformat.read(path, as_version=4)
    return [(c.cell_type, c.source) for c in kept.cells] == [
        (c.cell_type, c.source) for c in made.cells
    ]


def main(argv=None):
    """Write the notebooks, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, report differences")
    check = parser.parse_args(argv).check
    book, stale, texts = chapters(), [], {}
    for name, chapter in book.items():
        path, made = BOOK / f"{name}.ipynb", notebook(chapter, book)
        if check:
            if not agree(made, path):
                stale.append(name)
            continue
        add_outputs(made, name)
        text = nbformat.writes(made, version=4) + "\n"
        if len(text.encode()) > MAX_BYTES:
            raise SystemExit(f"{name}: {len(text.encode()):,} bytes, more than {MAX_BYTES:,}")
        texts[path] = text
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{os.path.relpath(path)}: {len(text.encode()):,} bytes")
    for name in stale:
        print(f"{name}.ipynb disagrees with {name}.md: run `make book notebooks`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
