"""What the figures share: their look, their axes, and images tiled as one picture."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib import axes, font_manager, rc_context, rc_params_from_file

from vaebook.data.images import as_images, to_pixels

#: The book's look, for `matplotlib.rc_context`.
STYLE: Any = rc_params_from_file(Path(__file__).with_name("book.mplstyle"), False, False)
#: Ten colours as ``#rrggbb``, in the order in which the figures use them.
PALETTE: list[str] = STYLE["axes.prop_cycle"].by_key()["color"]
#: The Japanese font, by its file: importing its package would make it the default everywhere.
FONT = distribution("matplotlib-fontja").locate_file("matplotlib_fontja/fonts/ipaexg.ttf")
font_manager.fontManager.addfont(str(FONT))
styled = rc_context(STYLE)  # decorates what draws in the book's style


def axes_for(given: Any, size: tuple[float, float], count: int = 1) -> list[Any]:
    """Return as many Axes as are wanted: those given, or new ones on so many inches."""
    if given is None:
        fig, given = plt.subplots(1, count, figsize=size, layout="compressed")
        plt.close(fig)  # to pyplot only: a notebook shows it once, as the value of a cell
    got = list(np.ravel(np.asarray(given, dtype=object)))
    if [isinstance(ax, axes.Axes) for ax in got] != [True] * count:
        raise ValueError(f"ax: expected {('one', 'two', 'three')[count - 1]} Axes, got {got!r:.60}")
    return got


def grid(count: int, columns: int | None) -> tuple[int, int]:
    """Return rows and columns for `count` pictures; without columns, about as many of each."""
    columns = columns or int(np.ceil(np.sqrt(count)))
    return -(-count // columns), columns


def tile(images: Any, columns: int | None = None, gap: int = 2) -> Float[np.ndarray, "h w 3"]:
    """Lay images out in rows of `columns`, `gap` white pixels apart, as one picture in [0, 1].

    Raises a ValueError for what `as_images` does not take.

    >>> import torch, vaebook as vb
    >>> vb.plot.tile(torch.rand(6, 1, 28, 28), columns=3).shape
    (58, 88, 3)
    """
    pixels = to_pixels(as_images(images).pixels, "cpu")
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    rows, columns = grid(len(pixels), columns)
    cells = F.pad(pixels, (0, gap, 0, gap, 0, 0, 0, rows * columns - len(pixels)), value=1.0)
    sheet = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return sheet[: -gap or None, : -gap or None].numpy()
