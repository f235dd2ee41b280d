"""Every figure of the book: functions that take arrays and return a matplotlib Figure.

A figure is shown by being the last value of a notebook cell, and saved by ``.savefig(path)``.
Each takes `ax`, an Axes to draw on instead of a new figure, and then returns ``ax.figure``;
`loss_curves` takes three Axes and `latent_bands` two. Another number raises a ValueError.
"""

from vaebook.plot.charts import architecture, latent_bands, latent_scatter, loss_curves
from vaebook.plot.grids import images, interpolation, reconstructions, sample_evolution, traversal
from vaebook.plot.style import FONT, PALETTE, STYLE, tile

__all__ = [
    "FONT", "PALETTE", "STYLE", "architecture", "images", "interpolation", "latent_bands",
    "latent_scatter", "loss_curves", "reconstructions", "sample_evolution", "tile", "traversal",
]  # fmt: skip
