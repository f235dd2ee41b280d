"""Figures made of lines, points and blocks."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke

from vaebook.checks import one_each
from vaebook.models.summary import Layer, summary
from vaebook.models.vae import VAE
from vaebook.plot.style import PALETTE, axes_for, styled


@styled
def loss_curves(frame: pd.DataFrame, *, ax: Any = None) -> Figure:
    """Draw loss, reconstruction and KL against the epoch, on three Axes.

    `frame` is a `History.frame`.

    >>> import vaebook as vb
    >>> terms = {"loss": 150.0, "reconstruction": 140.0, "kl": 10.0}
    >>> frame = pd.DataFrame([{"epoch": epoch, "split": "train", **terms} for epoch in (1, 2)])
    >>> [ax.get_title() for ax in vb.plot.loss_curves(frame).axes]
    ['negative ELBO', 'reconstruction', 'KL']
    """
    titles = {"loss": "negative ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    axes = axes_for(ax, (9, 2.8), count=3)
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        look = {"hue": "split", "style": "split", "markers": True, "legend": column == "loss"}
        sns.lineplot(frame, x="epoch", y=column, ax=ax, **look)
        ax.set(title=title, xlabel="epoch", ylabel="nats per image" if column == "loss" else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(title=None)
    return axes[0].figure


@styled
def latent_bands(posteriors: list[tuple[int, Any, Any]], *, ax: Any = None) -> Figure:
    """Draw how far the means and standard deviations of q(z|x) range over training, on two Axes.

    `posteriors` are those of a `History`, each a step and ``[images, latent]`` means and stds. A
    latent dimension has a line, its mean over the images, in a band from the lowest to the highest
    image; more than eight share one band. Raises a ValueError where there are no posteriors.

    >>> import vaebook as vb
    >>> shots = [(step, np.zeros((5, 2)), np.ones((5, 2))) for step in (0, 10, 20)]
    >>> len(vb.plot.latent_bands(shots).axes)
    2
    """
    if not posteriors:
        see = "see fit(…, snapshots=16, validation=…)"
        raise ValueError(f"posteriors: expected at least one, got none; {see}")
    steps, *moments = zip(*posteriors, strict=True)
    axes = axes_for(ax, (9, 3.2), count=2)
    for ax, moment, prior, name in zip(axes, moments, (0, 1), ("mean", "std"), strict=True):
        values = np.stack([np.asarray(value) for value in moment])  # [steps, images, latent]
        bands, few = values.transpose(2, 0, 1), values.shape[2] <= 8
        for i, band in enumerate(bands if few else [values.reshape(len(steps), -1)]):
            colour = PALETTE[i] if few else "#666666"
            ax.fill_between(steps, band.min(1), band.max(1), color=colour, alpha=0.15, lw=0)
        for i, band in enumerate(bands):
            ax.plot(steps, band.mean(1), color=PALETTE[i % len(PALETTE)], lw=1)
        ax.axhline(prior, color="#666666", ls=":", lw=1)
        ax.set(title=f"{name} of q(z|x), all latent dimensions", xlabel="step", ylabel=name)
    return axes[0].figure


@styled
def latent_scatter(
    z: Any, labels: Any = None, classes: Any = (), *, method: str | None = None,
    limit: float = 4.0, ax: Any = None,
) -> Figure:  # fmt: skip
    """Plot codes in the plane, coloured by class, each class named where it is densest.

    Raises a ValueError for another number of labels, an unnamed class, or a method not known.

    Parameters
    ----------
    z, labels, classes
        Codes, ``[images, latent]``; a class index for each, negative for no class; the classes'
        names. Each may be any sequence or array, and the last two empty.
    method
        What brings more than two dimensions down to two: ``"pca"`` or ``"tsne"``.
    limit
        Without a method, where both axes end; rings hold half and 95 % of the prior.

    Examples
    --------
    >>> import vaebook as vb
    >>> figure = vb.plot.latent_scatter([[0, 1], [1, 0], [9, 9]], [0, 1, 1], ["a", "b"])
    >>> figure.axes[0].get_title()
    '3 images, 1 outside the frame'
    """
    z, given = np.asarray(z), labels is not None and len(labels) > 0
    labels = np.asarray(labels) if given else np.zeros(len(z), int)
    names = [str(name) for name in np.asarray(classes).tolist()] if given else []
    one_each("labels", labels, len(z), "codes")
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(f"labels: expected whole numbers in a row, got {labels!r:.60}")
    labels = np.maximum(labels.astype(int), -1)
    present = np.unique(labels[labels >= 0]).tolist()
    if names and (last := max(present, default=0)) >= len(names):
        raise ValueError(f"classes: expected a name for class {last}, got {len(names)}")
    colours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(present)} | {-1: "silver"}
    points, axes = _plane(z, method)
    (ax,) = axes_for(ax, (6.2 + 0.8 * bool(names), 6.2))
    order = np.random.default_rng(0).permutation(len(z))  # or the last class would hide the others
    dot = {"s": 14, "alpha": 0.75, "lw": 0}
    ax.scatter(*points[order].T, c=[colours[i] for i in labels[order]], **dot)
    ax.set(xlabel=axes[0], ylabel=axes[1], aspect="equal")
    if names:
        for label in present:
            _badge(ax, points[labels == label], names[label], colours[label])
        shown = {i: names[i] for i in present} | ({-1: "no class"} if -1 in labels else {})
        handles = [ax.scatter([], [], color=colours[i], label=shown[i], **dot) for i in shown]
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    if method is None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        over_dots = [withStroke(linewidth=3, foreground="white")]
        for mass in (0.5, 0.95):
            radius = np.sqrt(-2 * np.log(1 - mass))  # of a circle holding that mass of N(0, I)
            ax.add_patch(Circle((0, 0), radius, fill=False, ec="#666666", ls=":", lw=1))
            name = f"{mass:.0%} of the prior"
            ax.text(0, -radius, name, size=10, ha="center", va="center", path_effects=over_dots)
        outside = int((np.abs(points) > limit).any(axis=1).sum())
        ax.set_title(f"{len(points):,} images, {outside:,} outside the frame", size=10)
    return ax.figure


def _badge(ax: Any, points: np.ndarray, name: str, colour: str) -> None:
    """Write a class's name at the point whose ten nearest neighbours are closest, of 500."""
    some = points[:500]
    distances = np.linalg.norm(some[:, None] - some, axis=2)
    x, y = some[np.sort(distances, axis=1)[:, :11].mean(1).argmin()]
    shape, size = ("circle", 14) if len(name) < 3 else ("round", 9)  # a letter or a word
    box = {"boxstyle": f"{shape},pad=0.2", "lw": 2, "alpha": 0.9, "fc": "white", "ec": colour}
    ax.text(x, y, name, size=size, bbox=box, ha="center", va="center", clip_on=True)


def _plane(z: np.ndarray, method: str | None) -> tuple[np.ndarray, list[str]]:
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
        wanted = f"expected 'pca' or 'tsne' for codes of shape {z.shape}"
        raise ValueError(f"method: {wanted}, got {method!r}")
    return z, ["$z_1$", "$z_2$"]


BLOCKS = {  # of each kind of layer its name in a picture, and its colour
    "code": ("code", PALETTE[9]), "image": ("image", PALETTE[9]), "Linear": ("dense", PALETTE[1]),
    "Conv2d": ("convolution", PALETTE[0]), "MaxPool2d": ("pooling", PALETTE[5]),
    "Unflatten": ("reshape", PALETTE[3]), "ConvTranspose2d": ("transposed\nconvolution", PALETTE[2])
}  # fmt: skip


@styled
def architecture(model: VAE, *, ax: Any = None) -> Figure:
    """Draw what leaves each layer of a model, the encoder above the decoder.

    Maps are as high as their side and the wider the more channels they have; a feature vector
    is thin, and the taller the longer. Norms and activations are left out.

    >>> import vaebook as vb
    >>> figure = vb.plot.architecture(vb.conv_vae((1, 28, 28), latent_dim=2))
    """
    ends = [("encoder", "image", model.image_shape), ("decoder", "code", (model.latent_dim,))]
    layers = [x for x in [Layer(*e, 0) for e in ends] + summary(model).layers if x.kind in BLOCKS]
    rows = {part: [layer for layer in layers if layer.part == part] for part, *_ in ends}
    columns = max(map(len, rows.values()))
    sides = np.sqrt(max(layer.output[-2] for layer in layers if layer.output[1:]))
    longest = np.log(max(layer.output[0] for layer in layers))
    (ax,) = axes_for(ax, (max(1.05 * columns, 5), 5))
    for y, (part, row) in zip((0, -2.2), rows.items(), strict=True):
        ax.text((columns - 1) / 2, y + 0.95, part, ha="center", va="bottom", size=12)
        for x, layer in enumerate(row):
            (name, colour), (channels, *size) = BLOCKS[layer.kind], layer.output
            half = (np.sqrt(size[0]) / sides if size else np.log(channels + 1) / longest) / 2
            width = 0.1 + 0.6 * np.log(channels + 1) / longest if size else 0.08
            ax.add_patch(Rectangle((x - width / 2, y - half), width, 2 * half, color=colour))
            shape = "×".join(map(str, layer.output))
            weights = f"{layer.parameters:,}" if layer.parameters else ""
            ax.text(x, y + half + 0.06, name, ha="center", va="bottom", size=9)
            ax.text(x, y - half - 0.06, f"{shape}\n{weights}", ha="center", va="top", size=9)
    ax.set(xlim=(-0.7, columns - 0.3), ylim=(-3.1, 1.15))
    ax.set_axis_off()
    return ax.figure
