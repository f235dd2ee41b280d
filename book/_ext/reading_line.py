"""Keep to the line of reading: fold the code that a reader of the page can pass by.

Each code cell is looked at, so that authors need no tags. Four kinds are folded, and the fold's bar
says what is in it: imports, helpers, checks (assertions), and code that only draws a figure. A cell
that only computes a sentence has its sentence on the page and no code. Folds with nothing between
them are one. The solutions of exercises fold in the same way, by the browser's own <details>.

The notebooks beside the chapters keep every cell as it is.
"""

import ast
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

DRAWS = re.compile(r"\b(plt|ax|axes|fig|figure)\b")


class fold(nodes.Element):  # noqa: N801  docutils writes its nodes in lower case
    """A part of the page that a reader opens; `label` says what is in it."""


def _visit_fold(self, node):
    classes = " ".join(["fold", *node["classes"]])
    identity = f' id="{node["ids"][0]}"' if node["ids"] else ""
    show = '<span class="when-closed">Show</span><span class="when-open">Hide</span> '
    self.body.append(
        f'<details class="{classes}"{identity}><summary>{show if node["verb"] else ""}'
        f"{self.encode(node['label'])}</summary>\n"
    )


def _depart_fold(self, node):
    self.body.append("</details>\n")


def _part(cell, kind):
    """Return the source or the output of a cell, or None."""
    return next((part for part in cell if part.get("nb_element") == f"cell_code_{kind}"), None)


def _is_cell(node):
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def _has(node, kind):
    return any(isinstance(inner, kind) for inner in ast.walk(node))


def _is_import(statement):
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _is_definition(statement):
    return isinstance(statement, ast.FunctionDef | ast.ClassDef)


def _bound(tree):
    """Return the names that code gives a value."""
    names = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return names | {n.name for n in ast.walk(tree) if _is_definition(n)}


def _used(tree):
    """Return the names that code reads."""
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _kind_of_output(cell):
    """Return what a reader sees of a cell's output: sentence, figure, table, text, or nothing."""
    output = _part(cell, "output")
    if output is None:
        return None
    if any(output.findall(nodes.image)):
        return "figure"
    shown = [name for part in output.findall(nodes.Element) for name in part.get("classes", [])]
    if "text_html" in shown:
        return "table"
    if "text_plain" in shown or "stream" in shown:
        return "text"
    return "sentence"


class KeepToTheLine(SphinxPostTransform):
    """Fold the cells of a page, now that its figures have their numbers."""

    default_priority = 190  # before myst-nb's own HideInputCells
    formats = ("html",)

    def run(self, **_):
        """Take the cells in order, and join those that have nothing between them."""
        cells = [cell for cell in self.document.findall(_is_cell) if not self._in_a_tab(cell)]
        needed = set()  # the names that the code further down the page reads
        for cell in reversed(cells):
            tree = self._parse(cell)
            if self._fold(cell, tree, needed):
                needed |= _used(tree)
        for parent in {id(cell.parent): cell.parent for cell in cells if cell.parent}.values():
            self._join(parent)
        for bar in self.document.findall(fold):
            bar["label"] = self._in_words(bar["label"])
        self._fold_solutions()
        for section in self.document.findall(nodes.section):
            if section["ids"] in (["exercise-content"], ["solution-content"]):
                section["ids"] = []  # the same in every exercise, where a page has each name once

    @staticmethod
    def _in_a_tab(cell):
        """Tell whether a cell stands beside R code, where it is there to be read."""
        return "sd-tab-content" in cell.parent.get("classes", [])

    @staticmethod
    def _parse(cell):
        source = _part(cell, "source")
        try:
            return ast.parse(source.astext() if source else "")
        except SyntaxError:  # IPython's own commands
            return ast.parse("")

    def _fold(self, cell, tree, needed):
        """Put a cell's source into a fold, or away, or leave it; tell whether it is still there."""
        source, output = _part(cell, "source"), _kind_of_output(cell)
        hidden = cell.attributes.pop("hide_mode", None) is not None
        stays = source is not None and not self._only_tells(tree, output, needed)
        if source is not None and not stays:
            cell.remove(source)
        elif stays and (label := self._label(cell, tree, output, hidden, needed)):
            cell.replace(source, fold("", source, label=label, verb=True))
        if not cell.children:
            cell.parent.remove(cell)
        return stays

    @staticmethod
    def _only_tells(tree, output, needed):
        """Tell whether a cell computes a sentence and nothing that the page needs again."""
        imports = any(map(_is_import, tree.body))
        return output == "sentence" and not imports and not _bound(tree) & needed

    def _label(self, cell, tree, output, hidden, needed):
        """Return the parts that a cell's fold holds, none where the cell stays open."""
        body, silent = tree.body, output is None
        imports, definitions = sum(map(_is_import, body)), sum(map(_is_definition, body))
        if not body:
            parts = ["code"] if hidden else []
        elif output in (None, "sentence") and 2 * imports >= len(body):
            parts = ["imports", "helpers"] if definitions else ["imports"]
        elif silent and not definitions and _has(body[-1], ast.Assert):
            parts = ["computation", "checks"] if _bound(tree) & needed else ["checks"]
        elif silent and (hidden or self._draws(body)):
            parts = ["helpers"] if definitions else ["preparations"]
        elif output == "figure" and (hidden or self._makes_axes(tree)):
            parts = [self._figure(cell)]
        elif hidden:
            made = {"sentence": "code behind this sentence", "table": "code that makes this table"}
            parts = [made.get(output, "code")]
        else:
            parts = []
        return parts

    @staticmethod
    def _draws(body):
        """Tell whether statements are nothing but functions that draw."""
        return all(_is_definition(part) and DRAWS.search(ast.unparse(part)) for part in body)

    @staticmethod
    def _makes_axes(tree):
        """Tell whether code draws by itself instead of calling a function that does."""
        return any(
            isinstance(node, ast.Attribute)
            and node.attr in ("subplots", "figure", "subplot_mosaic")
            for node in ast.walk(tree)
        )

    def _figure(self, cell):
        """Name the figure that a cell draws as its caption does."""
        numbers = self.env.toc_fignumbers.get(self.env.docname, {}).get("figure", {})
        for figure in cell.findall(nodes.figure):
            for name in figure["ids"]:
                if name in numbers:
                    return f"code that draws Figure {'.'.join(map(str, numbers[name]))}"
        return "code that draws this figure"

    @staticmethod
    def _join(parent):
        """Make one fold of neighbours where all but the last have no output."""
        previous = None
        for node in list(parent.children):
            here = node.children[0] if _is_cell(node) else None
            if not isinstance(here, fold):
                previous = None
                continue
            if previous is not None:
                old = previous.children[0]
                here["label"] = list(dict.fromkeys(old["label"] + here["label"]))
                here.children[:0] = old.children
                here.setup_child(here.children[0])
                for child in old.children:
                    child.parent = here
                parent.remove(previous)
            previous = node if len(node.children) == 1 else None

    @staticmethod
    def _in_words(parts):
        """Name the parts of a fold: the imports, the helpers and the code that draws Figure 1.2."""
        order = ["imports", "helpers", "preparations", "computation", "checks"]
        parts = sorted(parts, key=lambda part: order.index(part) if part in order else len(order))
        *first, last = [f"the {part}" for part in parts]
        return f"{', '.join(first)} and {last}" if first else last

    def _fold_solutions(self):
        """Fold the solutions, whose bars then open wherever they are clicked."""
        solutions = [
            n for n in self.document.findall(nodes.Admonition) if "solution" in n["classes"]
        ]
        for solution in solutions:
            title, *rest = solution.children
            look = {"classes": ["solution"], "ids": solution["ids"]}
            solution.replace_self(fold("", *rest, label=title.astext(), verb=False, **look))


def setup(app):
    """Register the fold and its transforms with Sphinx."""
    app.add_node(fold, html=(_visit_fold, _depart_fold))
    app.add_post_transform(KeepToTheLine)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
