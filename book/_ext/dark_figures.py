"""Drawings for the dark theme.

A plot on white glares on a dark page. Each figure that is a drawing gets a second picture, in which
light and dark have changed places and colours have kept their hues; the page shows the one that
suits its theme. Pictures of pictures (digits, photographs) mean what they show, and stay as they
are, on a light card; so does a drawing whose caption speaks of light and dark.
"""

import re
from pathlib import Path

import numpy as np
from docutils import nodes
from figures import flattened, scroller
from PIL import Image
from sphinx.transforms.post_transforms import SphinxPostTransform

GROUND = 0x12  # grey level of the dark theme's page
INK = 0.93  # lightness of what was black
SPOKEN_OF = re.compile(r"\b(white|black|dark|light)(er)?\b", re.IGNORECASE)

# Oklab (Ottosson, "A perceptual color space for image processing", 2020).
TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def to_lab(rgb):
    """Convert sRGB between 0 and 1 to lightness between 0 and 1, and two axes of colour."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T


def to_rgb(lab):
    """Undo `to_lab`, with colours that no screen has brought to the nearest."""
    linear = (lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def in_the_dark(colours):
    """Return bytes of colours with light and dark exchanged: white becomes the page's ground.

    What is a little darker than white becomes more than a little lighter than the ground, because
    the eye sees less there.
    """
    lab = to_lab(np.asarray(colours) / 255)
    ground = to_lab(np.full(3, GROUND / 255))[0]
    lab[:, 0] = ground + (INK - ground) * (1 - lab[:, 0]).clip(0, 1) ** 0.75
    return (255 * to_rgb(lab)).round().astype(np.uint8)


def is_drawing(colours, counts):
    """Tell lines on white from pictures, by the colours and how many pixels have each."""
    lightness, shares = to_lab(colours / 255)[:, 0], counts / counts.sum()
    rest = np.sort(shares[lightness < 0.97])[::-1][24:].sum()
    return (
        shares[lightness > 0.97].sum() > 0.5 and shares[lightness < 0.3].sum() < 0.04 and rest < 0.1
    )


def darkened(path):
    """Write a drawing's dark picture beside it and return its path; return None for others."""
    with Image.open(path) as picture:
        packed = flattened(picture).quantize(256, dither=Image.Dither.NONE)
    colours = np.array(packed.getpalette()).reshape(-1, 3)
    counts = np.array(packed.histogram()[: len(colours)])
    if not is_drawing(colours, counts):
        return None
    packed.putpalette(in_the_dark(colours).flatten().tolist())
    dark = path.with_name(f"{path.stem}-dark.png")
    packed.save(dark, "PNG", optimize=True)
    return dark


class DrawInTheDark(SphinxPostTransform):
    """Put a drawing's dark picture beside it; the theme hides one of the two."""

    default_priority = 182  # after the figures are in their boxes, before one of them is copied
    formats = ("html",)

    def run(self, **_):
        """Go through the boxes."""
        for box in self.document.findall(scroller):
            (image,) = box.findall(nodes.image)
            if SPOKEN_OF.search(box.parent.astext()):
                continue
            path = Path(self.env.srcdir, image["uri"]).resolve()
            if Path(self.app.outdir).parent not in path.parents:
                continue  # a picture of the sources, among which nothing is written
            if dark := darkened(path):
                other = image.copy()
                other["uri"] = Path(image["uri"]).with_name(dark.name).as_posix()
                other["candidates"] = {"*": other["uri"]}
                self.env.images.add_file(self.env.docname, other["uri"])
                image["classes"] = [*image["classes"], "only-light"]
                other["classes"] = [*other["classes"], "only-dark"]
                other["loading"] = "lazy"  # not for those who read in the light
                box += other


def setup(app):
    """Register the transform with Sphinx."""
    app.add_post_transform(DrawInTheDark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
