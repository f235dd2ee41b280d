"""Figures that show images in rows."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaebook import sampling
from vaebook.checks import one_each
from vaebook.data.images import as_images
from vaebook.plot.style import axes_for, grid, styled, tile


def _captioned(pairs: Any, columns: int | None, width: float, ax: Any, room: float = 0) -> Any:
    """Show pictures under their captions; the unit of the axes is an inch of a new figure."""
    sheets = [(caption, tile(picture, gap=1)) for caption, picture in pairs]
    rows, columns = grid(len(sheets), columns)
    heights = [width * len(sheet) / sheet.shape[1] for _, sheet in sheets]
    longest = max(len(line) for caption, _ in sheets for line in caption.split("\n"))
    above = 0.3 + 0.16 * max(caption.count("\n") for caption, _ in sheets)
    across, down = max(width + 0.1, 0.09 * longest), max(heights) + above
    (ax,) = axes_for(ax, (across * columns, down * rows + room))
    for i, (caption, sheet) in enumerate(sheets):
        x, y = (i % columns + 0.5) * across, -(i // columns) * down
        ax.imshow(sheet, extent=(x - width / 2, x + width / 2, y - heights[i], y))
        ax.text(x, y + 0.05, caption, ha="center", va="bottom")
    ax.set(xlim=(0.04, across * columns - 0.04), ylim=(above - down * rows, above - 0.08))
    ax.set_axis_off()
    return ax


@styled
def images(
    images: Any, *, columns: int | None = None, labels: Any = (), title: str = "", gap: int = 2,
    ax: Any = None,
) -> Figure:  # fmt: skip
    """Show images in rows, `gap` pixels apart, or each under its label if there are labels.

    `images` are what `as_images` takes: ``[images, height, width]``, or with 1 or 3 channels;
    `labels` any sequence or array with one for each. Without `columns` there are about as many as
    rows; a `title` stands above all. Raises a ValueError for another number of labels.

    >>> import torch, vaebook as vb
    >>> figure = vb.plot.images(torch.rand(10, 1, 28, 28), columns=5, title="noise")
    """
    images, labels = as_images(images), [str(label) for label in np.asarray(labels).tolist()]
    if labels:
        one_each("labels", labels, len(images), "images")
        pairs = zip(labels, images.pixels[:, None], strict=True)
        ax = _captioned(pairs, columns, 0.7, ax, 0.3 * bool(title))
    else:
        rows, columns = grid(len(images), columns)
        side = min(0.75, 8 / columns)
        (ax,) = axes_for(ax, (columns * side, rows * side + 0.4 * bool(title)))
        ax.imshow(tile(images, columns, gap))
        ax.set_axis_off()
    if title:
        ax.set_title(title)
    return ax.figure


@styled
def interpolation(images: Any, *, ax: Any = None) -> Figure:
    """Show the images of a path between two, ``[steps, …]``, labelled from 0 % to 100 %.

    Raises a ValueError for what `as_images` does not take.

    >>> import torch, vaebook as vb
    >>> figure = vb.plot.interpolation(torch.rand(11, 1, 28, 28))
    """
    pixels = as_images(images).pixels
    captions = [f"{share:.0f} %" for share in np.linspace(0, 100, len(pixels))]
    return _captioned(zip(captions, pixels[:, None], strict=True), len(pixels), 0.7, ax).figure


@styled
def sample_evolution(snapshots: list[tuple[int, Any]], *, ax: Any = None) -> Figure:
    """Show what the same draws from the prior decode to as training goes on.

    `snapshots` are those of a `History`, each a step and its images; sixteen make a square of
    four by four. Raises a ValueError where there are none.

    >>> import torch, vaebook as vb
    >>> shots = [(step, torch.rand(64, 1, 28, 28)) for step in (0, 100, 200, 300)]
    >>> figure = vb.plot.sample_evolution(shots)
    """
    if not snapshots:
        raise ValueError("snapshots: expected at least one, got none; see fit(…, snapshots=16)")
    pairs = [(f"step {step:,}", as_images(images, name="snapshots")) for step, images in snapshots]
    return _captioned(pairs, None, 2.15, ax).figure


@styled
def reconstructions(
    originals: Any, reconstructed: Any, *, columns: int = 12, ax: Any = None
) -> Figure:
    """Show images, ``[images, …]``, above what the model makes of them, in rows of `columns`.

    Raises a ValueError where there are more `originals` than `reconstructed`, or the reverse.

    >>> import torch, vaebook as vb
    >>> x, model = torch.rand(12, 1, 28, 28), vb.dense_vae((1, 28, 28), latent_dim=2)
    >>> figure = vb.plot.reconstructions(x, vb.reconstruct(model, x))
    """
    above = as_images(originals, name="originals")
    below = as_images(reconstructed, name="reconstructed")
    one_each("reconstructed", below, len(above), "originals")
    height, width = above.image_shape[1:]
    rows, right = grid(len(above), columns)[0], columns * (width + 2) - 2
    pair = 2 * height + 4 + width // 8  # from one original down to the next
    inch = (width + 2) / 0.7  # of a new figure, in pixels
    (ax,) = axes_for(ax, (0.7 * columns + 1.25, rows * pair / inch + 0.1))
    for i in range(2 * rows):
        name, part = [("original", above), ("reconstruction", below)][i % 2]
        sheet = tile(part[i // 2 * columns : (i // 2 + 1) * columns], columns)
        top = i // 2 * pair + i % 2 * (height + 2)
        ax.imshow(sheet, extent=(0, right, top + height, top))
        ax.text(-width / 8, top + height / 2, name, ha="right", va="center")
    ax.set(xlim=(-1.2 * inch, right), ylim=(top + height, 0))
    ax.set_axis_off()
    return ax.figure


@styled
def traversal(grid: Any, *, ax: Any = None) -> Figure:
    """Show a `grid` of decoded codes on axes that tell where the codes lie.

    It is what `vaebook.traversal` returns, or a model, whose own is then made.

    >>> import vaebook as vb
    >>> figure = vb.plot.traversal(vb.dense_vae((1, 28, 28), latent_dim=2))
    """
    grid = grid if isinstance(grid, sampling.Traversal) else sampling.traversal(grid)
    steps, (height, width) = len(grid.values), grid.images.shape[-2:]
    (ax,) = axes_for(ax, (0.75 * steps + 0.6, 0.75 * steps + 0.6))
    sheet = tile(grid.images.flatten(0, 1), steps, gap=0)
    ax.imshow(sheet, extent=(0, steps, 0, steps), aspect=height / width)
    ticks = np.arange(steps) + 0.5
    values = [f"{value:.1f}".replace("-", "−") for value in grid.values]
    ax.set(xticks=ticks, yticks=ticks, xticklabels=values, yticklabels=values, frame_on=False)
    ax.tick_params(length=0, labelsize=11)
    x, y = (f"$z_{{{dim + 1}}}$" for dim in grid.dims)
    spacing = "prior quantiles" if grid.spacing == "quantiles" else "equal steps"
    ax.set(xlabel=f"{x} ({spacing})", ylabel=y)
    return ax.figure
