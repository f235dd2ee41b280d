"""Every figure of the book: functions that take arrays and return a matplotlib Figure.

A figure is shown by being the last value of a notebook cell, and saved by ``.savefig(path)``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib import font_manager, rc_params_from_file
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from vaebook import sampling
from vaebook.data.images import as_images, to_pixels
from vaebook.layers import Layer, summary
from vaebook.vae import VAE, check_count

P = ParamSpec("P")
STYLE: Any = rc_params_from_file(Path(__file__).with_name("book.mplstyle"), False, False)
PALETTE: list[str] = STYLE["axes.prop_cycle"].by_key()["color"]
# The Japanese font, by its file: importing its package would make it the default everywhere.
FONT = distribution("matplotlib-fontja").locate_file("matplotlib_fontja/fonts/ipaexg.ttf")
font_manager.fontManager.addfont(str(FONT))


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style, and close the figure to pyplot: a notebook shows it once."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            fig = draw(*args, **kwargs)
        plt.close(fig)
        return fig

    return styled


def _grid(count: int, columns: int | None) -> tuple[int, int]:
    """Return rows and columns for `count` pictures; without columns, about as many of each."""
    columns = columns or math.isqrt(count - 1) + 1
    return -(-count // columns), columns


def _captioned(
    pictures: Iterable[Any], captions: Sequence[str], columns: int | None, cell: tuple[float, float]
) -> Figure:
    """Show each picture under its caption, in rows, in cells of so many inches."""
    rows, columns = _grid(len(captions), columns)
    size = (cell[0] * columns, cell[1] * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, caption in zip(axes.flat, pictures, captions, strict=False):
        ax.imshow(tile(picture, gap=1))
        ax.set_title(caption, size=10)
    return fig


def tile(images: Any, columns: int | None = None, gap: int = 2) -> Float[np.ndarray, "h w 3"]:
    """Lay images out in rows of `columns`, `gap` white pixels apart, as one picture in [0, 1]."""
    pixels = to_pixels(as_images(images).pixels, "cpu")
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    rows, columns = _grid(len(pixels), columns)
    cells = F.pad(pixels, (0, gap, 0, gap, 0, 0, 0, rows * columns - len(pixels)), value=1.0)
    sheet = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return sheet[: -gap or None, : -gap or None].numpy()


@_styled
def images(
    images: Any, *, columns: int | None = None, labels: Sequence[str] = (), title: str = "",
    gap: int = 2,
) -> Figure:  # fmt: skip
    """Show images in rows, `gap` pixels apart, or each under its label if there are labels."""
    images = as_images(images)
    if len(labels):
        check_count("labels", labels, len(images), "images")
        fig = _captioned(images.pixels[:, None], labels, columns, (0.8, 1.1))
    else:
        rows, columns = _grid(len(images), columns)
        side = min(0.75, 8 / columns)
        fig, ax = plt.subplots(1, 1, figsize=(columns * side, rows * side + 0.4 * bool(title)))
        ax.imshow(tile(images, columns, gap))
        ax.set_axis_off()
    fig.suptitle(title)
    return fig


@_styled
def interpolation(images: Any) -> Figure:
    """Show the steps of a path between two images, labelled from 0 % to 100 %."""
    pixels = as_images(images).pixels
    captions = [f"{share:.0f} %" for share in np.linspace(0, 100, len(pixels))]
    return _captioned(pixels[:, None], captions, len(pixels), (0.8, 1.1))


@_styled
def sample_evolution(snapshots: Sequence[tuple[int, Any]]) -> Figure:
    """Show what the same draws from the prior decode to as training goes on.

    `snapshots` are those of a `History`; sixteen make a square of four by four.
    """
    if not snapshots:
        raise ValueError("snapshots: expected at least one, got none; see fit(…, snapshots=16)")
    captions = [f"step {step:,}" for step, _ in snapshots]
    return _captioned((picture for _, picture in snapshots), captions, None, (2.25, 2.4))


@_styled
def reconstructions(originals: Any, reconstructed: Any, *, columns: int = 12) -> Figure:
    """Show images above what the model makes of them."""
    pairs = {"original": as_images(originals), "reconstruction": as_images(reconstructed)}
    check_count("reconstructed", pairs["reconstruction"], len(pairs["original"]), "originals")
    rows, _ = _grid(len(pairs["original"]), columns)
    fig = plt.figure(figsize=(0.7 * columns + 1.5, 1.5 * rows), layout="compressed")
    for i, ax in enumerate(fig.subplots(2 * rows, 1)):
        name = list(pairs)[i % 2]
        ax.imshow(tile(pairs[name][i // 2 * columns : (i // 2 + 1) * columns], columns))
        ax.set(xticks=[], yticks=[], frame_on=False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
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
def latent_bands(posteriors: Sequence[tuple[int, Any, Any]]) -> Figure:
    """Draw how far the means and standard deviations of q(z|x) range over training.

    `posteriors` are those of a `History`. Each latent dimension has a line, its mean over the
    images, in a band from the lowest to the highest image; more than eight share one band.
    """
    if not posteriors:
        wanted = "see fit(…, snapshots=16, validation=…)"
        raise ValueError(f"posteriors: expected at least one, got none; {wanted}")
    steps, *moments = zip(*posteriors, strict=True)
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, moment, prior, name in zip(axes, moments, (0, 1), ("mean", "std"), strict=True):
        values = np.stack([np.asarray(value) for value in moment])  # [steps, images, latent]
        few = values.shape[2] <= 8
        if not few:
            edges = values.min((1, 2)), values.max((1, 2))
            ax.fill_between(steps, *edges, color="#cccccc", alpha=0.5, lw=0)
        for i, band in enumerate(values.transpose(2, 0, 1)):
            colour = PALETTE[i % len(PALETTE)]
            if few:
                ax.fill_between(steps, band.min(1), band.max(1), color=colour, alpha=0.15, lw=0)
            ax.plot(steps, band.mean(1), color=colour, lw=1)
        ax.axhline(prior, color="#666666", ls=":", lw=1)
        ax.set(title=f"{name} of q(z|x), all latent dimensions", xlabel="step", ylabel=name)
    return fig


@_styled
def latent_scatter(
    z: Float[np.ndarray, "images latent"], labels: Any = None, classes: Sequence[str] = (), *,
    method: str | None = None, limit: float = 4.0,
) -> Figure:  # fmt: skip
    """Plot codes in the plane, coloured by class, each class named where it is densest.

    Parameters
    ----------
    z, labels, classes
        Codes, such as `vaebook.embed` returns; a class index for each; the classes' names.
    method
        What brings more than two dimensions down to two: ``"pca"`` or ``"tsne"``.
    limit
        Without a method both axes run from ``-limit`` to ``limit``, and rings hold half and
        95 % of the prior.

    Raises
    ------
    ValueError
        For labels of another length, or a method that is missing or unknown.
    """
    points, axes = _plane(np.asarray(z), method)
    shown = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": 0})
    if labels is not None:
        check_count("labels", labels, len(z), "codes")
        shown["class"] = np.asarray(labels)
    present = sorted(shown["class"].unique())
    if classes and not 0 <= present[-1] < len(classes):
        raise ValueError(f"classes: expected a name for class {present[-1]}, got {len(classes)}")
    colours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(present)}
    named = labels is not None and len(classes) > 0
    fig, ax = plt.subplots(1, 1, figsize=(6.2 + 0.8 * named, 6.2), layout="compressed")
    sns.scatterplot(
        shown.sample(frac=1, random_state=0), x="x", y="y", hue="class", palette=colours,
        s=14, alpha=0.75, linewidth=0, ax=ax, legend="full" if named else False,
    )  # fmt: skip
    ax.set(xlabel=axes[0], ylabel=axes[1], aspect="equal")
    for label, colour in colours.items() if named else ():
        x, y = _densest(shown.loc[shown["class"] == label, ["x", "y"]].to_numpy())
        sign = len(classes[label]) < 3  # a letter or numeral in a circle, a word in a small box
        badge = {"boxstyle": f"{'circle' if sign else 'round'},pad=0.2", "lw": 2, "alpha": 0.9}
        badge |= {"fc": "white", "ec": colour}
        text = ax.text(x, y, classes[label], size=14 if sign else 9, bbox=badge, clip_on=True)
        text.set(ha="center", va="center")
    if named:
        handles, _ = ax.get_legend_handles_labels()
        names = [classes[label] for label in present]
        ax.legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    if method is None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        for mass in (0.5, 0.95):
            radius = np.sqrt(-2 * np.log(1 - mass))  # of a circle holding that mass of N(0, I)
            ax.add_patch(Circle((0, 0), radius, fill=False, ec="#666666", ls=":", lw=1))
            ax.text(0, -radius, f"{mass:.0%} of the prior", size=8, ha="center", va="top", zorder=2)
        outside = int((np.abs(points) > limit).any(axis=1).sum())
        ax.set_title(f"{len(points):,} images, {outside:,} outside the frame", size=10)
    return fig


def _densest(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, " 2"]:
    """Return the point whose ten nearest neighbours are closest, by a sample of 500."""
    some = points[:500]
    distances = np.linalg.norm(some[:, None] - some, axis=2)
    return some[np.sort(distances, axis=1)[:, :11].mean(1).argmin()]


def _plane(z: np.ndarray, method: str | None) -> tuple[Float[np.ndarray, "images 2"], list[str]]:
    """Bring codes to two dimensions, and name these."""
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(2, random_state=0).fit(z)
        shares = enumerate(pca.explained_variance_ratio_, 1)
        return pca.transform(z), [f"component {i} ({s:.0%} of the variance)" for i, s in shares]
    if method == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(2, random_state=0).fit_transform(z), ["t-SNE 1", "t-SNE 2"]
    if method is not None or z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(
            f"method: expected 'pca' or 'tsne' for codes of shape {z.shape}, got {method!r}"
        )
    return z, ["$z_1$", "$z_2$"]


@_styled
def traversal(grid: Any) -> Figure:
    """Show a `Traversal`, or that of a model, on axes that tell where its codes lie."""
    grid = grid if isinstance(grid, sampling.Traversal) else sampling.traversal(grid)
    steps, (height, width) = len(grid.values), grid.images.shape[-2:]
    fig, ax = plt.subplots(1, 1, figsize=(0.75 * steps + 0.6, 0.75 * steps + 0.6))
    sheet = tile(grid.images.flatten(0, 1), steps, gap=0)
    ax.imshow(sheet, extent=(0, steps, 0, steps), aspect=height / width)
    ticks, values = np.arange(steps) + 0.5, [f"{value:.1f}" for value in grid.values]
    ax.set(xticks=ticks, yticks=ticks, xticklabels=values, yticklabels=values, frame_on=False)
    ax.tick_params(length=0)
    spacing = "prior quantiles" if grid.spacing == "quantiles" else "equal steps"
    x, y = (f"$z_{{{dim + 1}}}$" for dim in grid.dims)
    ax.set(xlabel=f"{x} ({spacing})", ylabel=y)
    return fig


BLOCKS = {  # of each kind of layer its name in a picture, and its colour
    "image": ("image", PALETTE[9]), "code": ("code", PALETTE[9]), "Linear": ("dense", PALETTE[1]),
    "Conv2d": ("convolution", PALETTE[0]), "MaxPool2d": ("pooling", PALETTE[5]),
    "ConvTranspose2d": ("transposed\nconvolution", PALETTE[2]),
    "Unflatten": ("reshape", PALETTE[3]),
}  # fmt: skip


@_styled
def architecture(model: VAE) -> Figure:
    """Draw what leaves each layer of a model, the encoder above the decoder.

    Maps are as high as their side and the wider the more channels they have; a feature vector
    is thin, and the taller the longer. Norms and activations are left out.
    """
    layers = [layer for layer in summary(model).layers if layer.kind in BLOCKS]
    ends = {"encoder": ("image", model.image_shape), "decoder": ("code", (model.latent_dim,))}
    rows = [
        [Layer(part, *end, 0), *(layer for layer in layers if layer.part == part)]
        for part, end in ends.items()
    ]
    columns = max(map(len, rows))
    sides = math.sqrt(max(layer.output[-2] for row in rows for layer in row if layer.output[1:]))
    longest = math.log(max(layer.output[0] for row in rows for layer in row))
    fig, axes = plt.subplots(2, 1, figsize=(max(1.05 * columns, 5), 5))
    for ax, row, part in zip(axes, rows, ends, strict=True):
        for x, layer in enumerate(row):
            name, colour = BLOCKS[layer.kind]
            channels, *size = layer.output
            height = math.sqrt(size[0]) / sides if size else math.log(channels + 1) / longest
            width = 0.1 + 0.6 * math.log(channels + 1) / longest if size else 0.08
            ax.add_patch(Rectangle((x - width / 2, -height / 2), width, height, color=colour))
            shape = "×".join(map(str, layer.output))
            weights = f"{layer.parameters:,}" if layer.parameters else ""
            ax.text(x, height / 2 + 0.06, name, ha="center", va="bottom", size=9)
            ax.text(x, -height / 2 - 0.06, f"{shape}\n{weights}", ha="center", va="top", size=9)
        ax.set(xlim=(-0.7, columns - 0.3), ylim=(-1, 0.95), title=part)
        ax.set_axis_off()
    return fig
