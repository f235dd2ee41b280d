"""Show an R snippet and the live Python cell before it as two tabs, Python first.

A chapter writes a code cell and, directly after it, the R half::

    ```{literalinclude} r/NAME.R
    :language: r
    :class: r-half
    ```

The code goes into the tabs; the cell's output stays below, whichever tab is shown. Every pair
follows the tab a reader picked last.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx_design.shared import create_component

logger = logging.getLogger(__name__)


def _tab(language, code, selected):
    """Return one tab, built as sphinx-design's own directive builds it."""
    label = nodes.rubric(language, language, classes=["sd-tab-label"])
    label["sync_group"], label["sync_id"] = "language", language.lower()
    content = create_component("tab-content", classes=["sd-tab-content"], children=[code])
    classes = ["sd-tab-item"]
    return create_component("tab-item", classes, selected=selected, children=[label, content])


def _cell_before(node):
    """Return the code cell directly before a node, or None."""
    position = node.parent.index(node)
    before = node.parent[position - 1] if position else None
    if isinstance(before, nodes.container) and before.get("nb_element") == "cell_code":
        return before
    return None


class JoinPairs(SphinxTransform):
    """Join each R half with its Python half, once all directives have run."""

    default_priority = 600

    def apply(self):
        """Replace every pair in the document by a set of two tabs."""
        for r in list(self.document.findall(nodes.literal_block)):
            if "r-half" not in r["classes"]:
                continue
            cell = _cell_before(r)
            if cell is None:
                logger.warning(
                    "an R half needs its Python code cell directly before it", location=r
                )
                continue
            r.parent.remove(r)
            outputs = [part for part in cell if part.get("nb_element") == "cell_code_output"]
            below = nodes.container(nb_element="cell_code", classes=list(cell["classes"]))
            for part in outputs:
                cell.remove(part)
                below += part
            tabs = create_component("tab-set", classes=["sd-tab-set", "r-beside-python"])
            cell.replace_self([tabs, below] if outputs else [tabs])
            tabs += [_tab("Python", cell, selected=True), _tab("R", r, selected=False)]


def setup(app):
    """Register the transform with Sphinx."""
    app.add_transform(JoinPairs)
    return {"version": "1", "parallel_read_safe": True}
