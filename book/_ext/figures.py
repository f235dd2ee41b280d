"""Keep the lettering of figures legible on a phone: a figure scrolls before it gets too small."""

import re
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.transforms.post_transforms import SphinxPostTransform

# Sheets of pictures have no lettering, and are better seen whole.
SHEET = re.compile(r"^vb\.plot\.images\((?!.*labels=)", re.MULTILINE)


class scroller(nodes.General, nodes.Element):  # noqa: N801  docutils writes its nodes in lower case
    """A box in which a figure scrolls; `drawn` is the width it was drawn for, in pixels."""


def _visit_scroller(self, node):
    self.body.append(f'<div class="figure-scroll" style="--drawn: {node["drawn"]}px">')


def _depart_scroller(self, node):
    self.body.append("</div>\n")


class LetFiguresScroll(SphinxPostTransform):
    """Put every figure that has lettering into a box that knows its width."""

    default_priority = 180  # while the code of a cell still stands beside its figure
    formats = ("html",)

    def run(self, **_):
        """Wrap the pictures of figures."""
        for figure in self.document.findall(nodes.figure):
            cell = figure
            while cell is not None and cell.get("nb_element") != "cell_code":
                cell = cell.parent
            if cell is not None and SHEET.search(cell.children[0].astext()):
                continue
            for image in list(figure.findall(nodes.image)):
                path = Path(self.env.srcdir, image["uri"])
                if image["uri"].endswith(".png") and path.exists():
                    with Image.open(path) as picture:
                        image.replace_self(scroller("", image.copy(), drawn=picture.width))


def setup(app):
    """Register the box and its transform with Sphinx."""
    app.add_node(scroller, html=(_visit_scroller, _depart_scroller))
    app.add_post_transform(LetFiguresScroll)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
