"""Figures that read on a phone and load quickly, and one of them at the top of its page.

A figure scrolls before its lettering gets too small. Its file keeps 256 colours, of which few
figures have more, and no transparency: a third of its size.

A chapter whose first figure comes late shows the one that it leads to where it begins::

    ```{opening} fig-NAME
    A sentence that says what one sees, and where the page explains it.
    ```
"""

import io
import re
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# Sheets of pictures have no lettering, and are better seen whole.
SHEET = re.compile(r"^vb\.plot\.images\((?!.*labels=)", re.MULTILINE)

HEAVY = 80_000  # bytes: a file with twice the pixels must not be heavier if half of them helps
HIGHEST = 360  # pixels, of a picture at the top of a page, if its lettering allows


class scroller(nodes.General, nodes.Element):  # noqa: N801  docutils writes its nodes in lower case
    """A box in which a figure scrolls: the width it was drawn for, in pixels, and its shape."""


def _visit_scroller(self, node):
    style = f"--drawn: {node['drawn']}px; --shape: {node['shape']}"
    self.body.append(f'<div class="figure-scroll" style="{style}">')


def _depart_scroller(self, node):
    self.body.append("</div>\n")


def flattened(picture):
    """Return a picture without transparency, on white."""
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def packed(flat):
    """Return the bytes of a picture with 256 colours."""
    file = io.BytesIO()
    flat.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def lighten(path, width):
    """Halve a heavy picture that has twice the pixels of its width, if that makes it lighter."""
    if path.suffix != ".png" or not path.exists() or path.stat().st_size <= HEAVY:
        return
    with Image.open(path) as picture:
        doubled, flat = picture.width >= 2 * width - 1, flattened(picture)
    if doubled and len(whole := packed(flat)) > HEAVY:
        half = flat.reduce(2)
        if len(packed(half)) < len(whole):
            half.save(path)


def width_of(image, picture):
    """Return the width that is given in pixels, or the picture's own."""
    given = re.fullmatch(r"(\d+)(\.\d+)?(px)?", str(image.get("width", "")))
    return int(given[1]) if given else picture.width


class LetFiguresScroll(SphinxPostTransform):
    """Put every figure that has lettering into a box that knows its width."""

    default_priority = 180  # while the code of a cell still stands beside its figure
    formats = ("html",)

    def run(self, **_):
        """Wrap the pictures of figures; leave the height of all to their width."""
        for image in self.document.findall(nodes.image):
            given = image.attributes.pop("height", None) and image.get("width", "")
            if str(given).isdigit():  # as a notebook has it
                lighten(Path(self.env.srcdir, image["uri"]), int(image["width"]))
        for figure in self.document.findall(nodes.figure):
            cell = figure
            while cell is not None and cell.get("nb_element") != "cell_code":
                cell = cell.parent
            if cell is not None and SHEET.search(cell.children[0].astext()):
                continue
            for image in list(figure.findall(nodes.image)):
                if isinstance(image.parent, nodes.reference):
                    continue  # a link holds a picture and nothing else
                path = Path(self.env.srcdir, image["uri"])
                if image["uri"].endswith(".png") and path.exists():
                    with Image.open(path) as picture:
                        drawn = width_of(image, picture)
                        shape = f"{picture.width} / {picture.height}"
                    image.replace_self(scroller("", image.copy(), drawn=drawn, shape=shape))


class opening(nodes.container):  # noqa: N801
    """A place for the picture of the figure `figure`, and a paragraph about it."""


class Opening(SphinxDirective):
    """Leave a place for a figure of the same page."""

    required_arguments = 1
    has_content = True

    def run(self):
        """Return the place, with the paragraph in it."""
        place = opening("", classes=["opening"], figure=self.arguments[0])
        self.set_source_info(place)
        place += self.parse_content_to_nodes()
        return [place]


class FillOpenings(SphinxPostTransform):
    """Put the pictures into their places."""

    default_priority = 185  # in their boxes
    formats = ("html",)

    def run(self, **_):
        """Copy all of the figure but its caption, and so without its number."""
        for place in self.document.findall(opening):
            named = (f for f in self.document.findall(nodes.figure) if place["figure"] in f["ids"])
            if figure := next(named, None):
                words = nodes.caption, nodes.legend
                parts = [part for part in figure if not isinstance(part, words)]
                place[:] = [part.deepcopy() for part in parts] + place.children
                self._lower(place)
            else:
                logger.warning("no figure is called %s", place["figure"], location=place)

    def _lower(self, place):
        """Show a tall picture smaller, so that the text below it is seen, too."""
        for image in place.findall(nodes.image):
            path = Path(self.env.srcdir, image["uri"])
            if path.suffix not in (".png", ".jpg", ".jpeg") or not path.exists():
                continue
            with Image.open(path) as picture:
                width = width_of(image, picture)
                image["width"] = str(min(width, HIGHEST * picture.width // picture.height))


def shrink_pictures(app, error):
    """Rewrite the figures of the built pages with a palette, where that makes them smaller."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_images").glob("*.png"):
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                continue
            small = packed(flattened(picture))
        if len(small) < path.stat().st_size:
            path.write_bytes(small)


def setup(app):
    """Register the boxes, their transforms and what follows the build with Sphinx."""
    app.add_node(scroller, html=(_visit_scroller, _depart_scroller))
    app.add_node(opening, html=(HTML5Translator.visit_container, HTML5Translator.depart_container))
    app.add_directive("opening", Opening)
    app.add_post_transform(LetFiguresScroll)
    app.add_post_transform(FillOpenings)
    app.connect("build-finished", shrink_pictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
