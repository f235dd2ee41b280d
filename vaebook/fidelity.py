"""Judging generated images: by a classifier's features, and by their nearest training images."""

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.optim import Adam, lr_scheduler

from vaebook.data.images import Images, as_images, batch_bounds, minibatches, to_pixels
from vaebook.devices import pick_device, seeded
from vaebook.likelihoods import ImageBatch
from vaebook.networks import ImageShape, eval_mode
from vaebook.progress import Progress
from vaebook.vae import check_positive

FEATURES = 64
ROWS = 500  # rows of a distance matrix, or images in a network, at once
Features = Float[np.ndarray, "_ features"]  # a row for each image


class Judge(nn.Module):
    """A small classifier, by whose last hidden layer of 64 features images are judged.

    Convolutions of stride 2, with batch norm and GELU, halve the sides down to 4 pixels or fewer.
    """

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        channels, *sides = image_shape
        layers: list[nn.Module] = []
        width = 32
        while max(sides) > 4:
            halve = nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1, bias=False)
            layers += [halve, nn.BatchNorm2d(width), nn.GELU()]
            sides = [(side + 1) // 2 for side in sides]
            channels, width = width, min(2 * width, 128)
        layers += [nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], FEATURES), nn.GELU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: ImageBatch) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes."""
        return self.head(self.body(x))


def train_judge(
    images: Any, *, epochs: int = 2, batch_size: int = 128, lr: float = 2e-3, seed: int = 0,
    device: str | torch.device = "auto", progress: bool = True,
) -> Judge:  # fmt: skip
    """Train a judge on labelled `Images` by cross-entropy; afterwards it is in eval mode.

    Adam's learning rate rises to `lr` and falls again. `seed` decides weights and order, so that a
    run repeats bit for bit on one CPU. Raises a ValueError without labels of at least two classes.

    >>> import vaebook as vb
    >>> data = vb.load("digits")
    >>> judge = train_judge(data.train, epochs=4, progress=False)
    >>> accuracy(judge, data.test) > 0.9, features(judge, data.test).shape
    (True, (297, 64))
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    images, labels = _labelled(images)
    found = labels.unique().tolist()
    if len(found) < 2 or found[0] < 0:
        raise ValueError(f"images: expected labels from 0 of two classes or more, got {found}")
    device = pick_device(device)
    images = images.to(device)
    sizes = [stop - start for start, stop in batch_bounds(len(images), batch_size)]
    bar = Progress(epochs * len(sizes), enabled=progress)
    with closing(bar), seeded(device, seed, 0) as generator:
        judge = Judge(images.image_shape, classes=found[-1] + 1).to(device)
        optimizer = Adam(judge.parameters(), lr)
        schedule = lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(sizes))
        for epoch in range(1, epochs + 1):
            order = torch.randperm(len(images), generator=generator)
            batches = minibatches(images[order], batch_size, device=device)
            right = torch.zeros((), device=device)
            for x, y in zip(batches, labels[order].to(device).split(sizes), strict=True):
                logits = judge(x)
                optimizer.zero_grad()
                F.cross_entropy(logits, y).backward()
                optimizer.step()
                schedule.step()
                right += (logits.argmax(1) == y).sum()
                bar.step()
            bar.line(f"epoch {epoch:3} judge {right.item() / len(images):13.1%} of classes told")
    return judge.eval()


def accuracy(judge: Judge, images: Any) -> float:
    """Return the share of labelled `Images` whose class the judge tells, 0 to 1."""
    images, labels = _labelled(images)
    return (_apply(judge, judge, images).argmax(1) == labels.cpu()).double().mean().item()


def features(judge: Judge, images: Any) -> Float64[np.ndarray, "images features"]:
    """Return the 64 features that the judge sees in each image.

    `images` is what `as_images` takes; a ValueError says when their shape is not the judge's.
    """
    return _apply(judge, judge.body, as_images(images)).double().numpy()


@torch.no_grad()
def _apply(judge: Judge, layers: nn.Module, images: Images) -> Float[Tensor, "images outputs"]:
    if images.image_shape != judge.image_shape:
        wanted = f"images of shape {judge.image_shape}, which the judge takes"
        raise ValueError(f"images: expected {wanted}, got {images.image_shape}")
    device = judge.head.weight.device
    # Seeded, so that images which are binarized anew at each use always get the same answer.
    with seeded(device, 0, 0), eval_mode(judge):
        return torch.cat([layers(x).cpu() for x in minibatches(images, ROWS, device=device)])


def _labelled(images: Any) -> tuple[Images, Tensor]:
    images = as_images(images)
    if images.labels is None:
        raise ValueError(f"images: expected images with labels, got {images}")
    return images, images.labels


def frechet_distance(real: Features, generated: Features) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features.

    ‖m₁ - m₂‖² + Tr(C₁ + C₂ - 2 (C₁ C₂)^½) of their means and covariances (Dowson & Landau 1982;
    Heusel et al. 2017, eq. 6). This is **not** the FID, which takes the features of an Inception
    network: here they are those of a small classifier trained on the same data set, and the book
    calls it the Fréchet classifier distance. Numbers compare only between samples of the same
    judge and of equally many images, since fewer seem further apart. Raises a ValueError for fewer
    than 2 rows, another number of features, or any that is not finite.

    >>> rows = np.array([[0.0], [2.0]])
    >>> round(frechet_distance(rows, rows + 3), 6), round(frechet_distance(rows, 2 * rows), 6)
    (9.0, 3.0)
    """
    real, generated = _checked(real, generated, least=2)
    shift = real.mean(0) - generated.mean(0)
    # Tr (C₁ C₂)^½ is the sum of the singular values of R₁R₂ᵀ, without roots of rounding errors.
    a, b = _root(real), _root(generated)
    spread = (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a @ b.T, "nuc")
    return max(float(shift @ shift + spread), 0.0)


def _root(rows: Features) -> Features:
    """Return R, of which RᵀR is the covariance of the rows."""
    return np.linalg.qr(rows - rows.mean(0), mode="r") / np.sqrt(len(rows) - 1)


class PrecisionRecall(NamedTuple):
    """The share of generated images that look real, and of real ones that could be generated."""

    precision: float
    recall: float


def precision_recall(
    real: Features, generated: Features, *, neighbours: int = 3
) -> PrecisionRecall:
    """Return improved precision and recall, 0 to 1 (Kynkäänniemi et al. 2019, eq. 1-2).

    Around each row lies a ball that just holds its nearest `neighbours` of the same set. Precision
    is the share of generated rows in a ball of the real ones, recall that of real rows in a ball
    of the generated ones. Read them together: all noise may look to a judge like one real image.
    They compare as `frechet_distance` does; a ValueError says which rows do not fit.
    """
    check_positive(neighbours=neighbours)
    k = neighbours + 1  # because a row is the first of its own neighbours
    a, b = map(torch.from_numpy, _checked(real, generated, least=k))
    return PrecisionRecall(precision=_covered(b, a, k), recall=_covered(a, b, k))


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Return the share of points that lie in the ball of any centre."""
    radii = torch.cat([_apart(rows, centres).kthvalue(k)[0] for rows in centres.split(ROWS)])
    inside = [(_apart(rows, centres) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean().item()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    # Matrix products would be faster, but equal rows have to be exactly 0 apart.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _checked(real: Features, generated: Features, least: int) -> list[Features]:
    for name, rows in dict(real=real, generated=generated).items():
        if rows.ndim != 2 or len(rows) < least or rows.shape[1] != real.shape[1]:
            wanted = f"at least {least} rows of as many features as real has"
            raise ValueError(f"{name}: expected {wanted}, got shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name}: expected finite features, got some NaN or infinite")
    return [np.array(rows, np.float64, order="C") for rows in (real, generated)]


def nearest(
    images: Any, generated: Any, count: int = 1
) -> tuple[Int64[np.ndarray, "generated count"], Float64[np.ndarray, "generated count"]]:
    """Return where in `images` the nearest to each generated one are, and their distances.

    By Euclidean distance of pixels in [0, 1], nearest first. Copies of training images are at 0,
    up to rounding; what is near, the distances of held-out images tell. Both are what `as_images`
    takes; a ValueError says when shapes differ or `count` is more than there are images.
    """
    images, generated = as_images(images), as_images(generated, name="generated")
    check_positive(count=count)
    if generated.image_shape != images.image_shape:
        wanted = f"images of shape {images.image_shape}, as the others"
        raise ValueError(f"generated: expected {wanted}, got {generated.image_shape}")
    if count > len(images):
        raise ValueError(f"count: expected at most {len(images)}, as many as images, got {count}")
    rows = _rows(generated.pixels)
    distances = torch.empty(len(rows), 0).double()
    indices = distances.long()
    for start in range(0, len(images), ROWS):
        more = torch.cdist(rows, _rows(images.pixels[start : start + ROWS]))
        places = torch.arange(start, start + more.shape[1]).expand_as(more)
        every, order = torch.cat([distances, more], 1).sort(dim=1, stable=True)
        indices = torch.cat([indices, places], 1).gather(1, order[:, :count])
        distances = every[:, :count]
    return indices.numpy(), distances.numpy()


def _rows(pixels: Tensor) -> Float64[Tensor, "images pixels"]:
    return to_pixels(pixels, "cpu").flatten(1).double()
