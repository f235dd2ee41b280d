"""Every figure of the book: functions that take arrays and return a matplotlib Figure.

A figure is shown by being the last value of a notebook cell, and saved by ``.savefig(path)``.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vaebook import sampling
from vaebook.data.images import as_images, to_pixels

P = ParamSpec("P")

# Paul Tol's "muted" scheme, made for readers with colour-vision deficiencies, and a grey.
PALETTE = (
    "#332288", "#cc6677", "#117733", "#88ccee", "#aa4499",
    "#ddcc77", "#44aa99", "#882255", "#999933", "#777777",
)  # fmt: skip
STYLE: dict[str, Any] = {
    "axes.edgecolor": "#666666",
    "axes.grid": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans", "IPAexGothic"],  # the second has the Japanese characters
    "font.size": 10,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style, and close the figure to pyplot: a notebook shows it once."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        _add_japanese_font()
        with plt.rc_context(STYLE):
            fig = draw(*args, **kwargs)
        plt.close(fig)
        return fig

    return styled


def tile(images: Any, columns: int | None = None, gap: int = 2) -> Float[np.ndarray, "h w 3"]:
    """Lay images out in rows, as one picture in [0, 1].

    Parameters
    ----------
    images
        Anything `vaebook.as_images` takes.
    columns
        Images in a row; by default as many as there are rows.
    gap
        White pixels between images.
    """
    images = as_images(images)
    pixels = to_pixels(images.pixels, "cpu").numpy().transpose(0, 2, 3, 1)
    count, height, width, channels = pixels.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.ones((rows, columns, height + gap, width + gap, 3), dtype=np.float32)
    sheet.reshape(-1, *sheet.shape[2:])[:count, :height, :width] = (
        pixels if channels == 3 else pixels.mean(3, keepdims=True)
    )
    sheet = sheet.swapaxes(1, 2).reshape(rows * (height + gap), -1, 3)
    return sheet[: -gap or None, : -gap or None]


@_styled
def images(
    images: Any, *, columns: int | None = None, labels: Sequence[str] = (), title: str = ""
) -> Figure:
    """Show images in rows, each under its label if there are labels."""
    images = as_images(images)
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    if not labels:
        side = min(0.75, 8 / columns)
        fig, ax = plt.subplots(1, 1, figsize=(columns * side, rows * side + 0.4 * bool(title)))
        ax.imshow(tile(images, columns))
        ax.set_axis_off()
    else:
        fig, axes = plt.subplots(rows, columns, figsize=(0.8 * columns, 1.1 * rows), squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, image, label in zip(axes.flat, images.pixels[:, None], labels, strict=False):
            ax.imshow(tile(image))
            ax.set_title(label)
    fig.suptitle(title)
    return fig


@_styled
def loss_curves(frame: pd.DataFrame) -> Figure:
    """Draw loss, reconstruction and KL against the epoch from a `History.frame`."""
    titles = {"loss": "negative ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    fig, axes = plt.subplots(1, 3, figsize=(9, 2.8))
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        sns.lineplot(
            frame, x="epoch", y=column, hue="split", style="split", markers=True, ax=ax,
            palette=PALETTE[: frame["split"].nunique()], legend=column == "loss",
        )  # fmt: skip
        ax.set(title=title, xlabel="epoch", ylabel="nats per image" if column == "loss" else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(title=None)
    return fig


@_styled
def sample_evolution(snapshots: Sequence[tuple[int, Any]]) -> Figure:
    """Show what the same draws from the prior decode to as training goes on.

    Parameters
    ----------
    snapshots
        `History.snapshots`: pairs of a step and images. Sixteen make a square of four by four.
    """
    columns = int(np.ceil(np.sqrt(len(snapshots))))
    rows = -(-len(snapshots) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.25 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (step, picture) in zip(axes.flat, snapshots, strict=False):
        ax.imshow(tile(picture, gap=1))
        ax.set_title(f"step {step:,}", fontsize=9)
    return fig


@_styled
def reconstructions(originals: Any, reconstructed: Any, *, columns: int = 12) -> Figure:
    """Show images above what the model makes of them."""
    pairs = [as_images(originals), as_images(reconstructed)]
    rows = -(-len(pairs[0]) // columns)
    fig, axes = plt.subplots(2 * rows, 1, figsize=(0.7 * columns + 1.5, 1.5 * rows), squeeze=False)
    for i, ax in enumerate(axes.flat):
        part = pairs[i % 2][i // 2 * columns : (i // 2 + 1) * columns]
        ax.imshow(tile(part, columns))
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        name = ("original", "reconstruction")[i % 2]
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return fig


@_styled
def latent_scatter(
    z: Float[np.ndarray, "images latent"],
    labels: Any = None,
    classes: Sequence[str] = (),
    *,
    method: str | None = None,
    limit: float = 4.0,
) -> Figure:
    """Plot codes in the plane, coloured by class, each class named where it is densest.

    Parameters
    ----------
    z
        Codes, such as `vaebook.embed` returns.
    labels, classes
        Class indices, one for each code, and the names of the classes.
    method
        How more than two dimensions become two: ``"pca"`` or ``"tsne"`` (scikit-learn's).
    limit
        Without a method, both axes run from ``-limit`` to ``limit``, and rings hold half and
        95 % of the prior.

    Raises
    ------
    ValueError
        For more than two dimensions without a method, or an unknown one.
    """
    points, names = _plane(np.asarray(z), method)
    shown = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": 0})
    if labels is not None:
        shown["class"] = np.asarray(labels)
    present = sorted(shown["class"].unique())
    fig, ax = plt.subplots(1, 1, figsize=(6.2, 6.2))
    sns.scatterplot(
        shown.sample(frac=1, random_state=0), x="x", y="y", hue="class", hue_order=present,
        palette=[PALETTE[i % len(PALETTE)] for i in range(len(present))],
        s=14, alpha=0.75, linewidth=0, ax=ax, legend=False,
    )  # fmt: skip
    for i, label in enumerate(present if len(classes) else []):
        colour = PALETTE[i % len(PALETTE)]
        x, y = _densest(shown.loc[shown["class"] == label, ["x", "y"]].to_numpy())
        circle = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": colour, "lw": 2, "alpha": 0.9}
        ax.text(x, y, classes[label], size=14, ha="center", va="center", bbox=circle)
    ax.set(xlabel=names[0], ylabel=names[1], aspect="equal")
    if method is None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        for mass in (0.5, 0.95):
            radius = np.sqrt(-2 * np.log(1 - mass))  # of a circle holding that mass of N(0, I)
            ax.add_patch(Circle((0, 0), radius, fill=False, ec="#666666", ls=":", lw=1))
            ax.text(0, -radius, f"{mass:.0%} of the prior", size=8, ha="center", va="top")
        outside = int((np.abs(points) > limit).any(axis=1).sum())
        ax.set_title(f"{len(points):,} images, {outside:,} outside the frame", size=10)
    return fig


@_styled
def traversal(grid: Any) -> Figure:
    """Show a `Traversal`, or that of a model, on axes that tell where its codes lie."""
    grid = grid if isinstance(grid, sampling.Traversal) else sampling.traversal(grid)
    steps = len(grid.values)
    sheet = tile(grid.images.flatten(0, 1), steps, gap=0)
    fig, ax = plt.subplots(1, 1, figsize=(0.75 * steps + 0.6, 0.75 * steps + 0.6))
    ax.imshow(sheet, extent=(0, steps, 0, steps))
    ticks = np.arange(steps) + 0.5
    ax.set_xticks(ticks, [f"{value:.1f}" for value in grid.values])
    ax.set_yticks(ticks, [f"{value:.1f}" for value in grid.values])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    spacing = "prior quantiles" if grid.spacing == "quantiles" else "equal steps"
    ax.set(xlabel=f"$z_{{{grid.dims[0] + 1}}}$ ({spacing})", ylabel=f"$z_{{{grid.dims[1] + 1}}}$")
    return fig


@_styled
def interpolation(images: Any) -> Figure:
    """Show the steps of a path between two images, labelled from 0 % to 100 %."""
    shares = np.linspace(0, 100, len(images))
    columns = len(images)
    return globals()["images"](images, columns=columns, labels=[f"{s:.0f} %" for s in shares])


@cache
def _add_japanese_font() -> None:
    """Make the font known by its file: importing its package would make it the default."""
    spec = find_spec("matplotlib_fontja")
    if spec is not None and spec.origin is not None:
        font_manager.fontManager.addfont(Path(spec.origin).parent / "fonts" / "ipaexg.ttf")


def _densest(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, " 2"]:
    """Return the point whose ten nearest neighbours are closest, by a sample of 500."""
    some = points[:500]
    distances = np.linalg.norm(some[:, None] - some, axis=2)
    return some[np.sort(distances, axis=1)[:, :11].mean(1).argmin()]


def _plane(
    z: np.ndarray, method: str | None
) -> tuple[Float[np.ndarray, "images 2"], tuple[str, str]]:
    """Bring codes to two dimensions, and name these."""
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(2, random_state=0).fit(z)
        share = pca.explained_variance_ratio_
        first, second = (f"component {i + 1} ({share[i]:.0%} of the variance)" for i in (0, 1))
        return pca.transform(z), (first, second)
    if method == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(2, random_state=0).fit_transform(z), ("t-SNE 1", "t-SNE 2")
    if method is not None or z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(
            f"method: expected 'pca' or 'tsne' for codes of shape {z.shape}, got {method!r}"
        )
    return z, ("$z_1$", "$z_2$")
