"""Figures that read on a phone and load quickly.

A figure scrolls before its lettering gets too small. Its file keeps 256 colours, of which few
figures have more, and no transparency: a third of its size.
"""

import io
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


def shrink_pictures(app, error):
    """Rewrite the figures of the built pages with a palette, where that makes them smaller."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_images").glob("*.png"):
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                continue
            white = Image.new("RGBA", picture.size, "white")
            flat = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        packed = io.BytesIO()
        flat.quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() < path.stat().st_size:
            path.write_bytes(packed.getvalue())


def setup(app):
    """Register the box, its transform and what follows the build with Sphinx."""
    app.add_node(scroller, html=(_visit_scroller, _depart_scroller))
    app.add_post_transform(LetFiguresScroll)
    app.connect("build-finished", shrink_pictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
