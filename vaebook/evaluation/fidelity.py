"""Judging generated images: by a classifier's features, and by their nearest training images.

Chapter *The table* compares models by it.
"""

import math
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from vaebook.checks import ImageShape, positive, wrong
from vaebook.data.images import as_images, batch_bounds, minibatches, prepare, to_pixels
from vaebook.models.networks import eval_mode
from vaebook.training.devices import pick_device, seeded
from vaebook.training.progress import Progress

__all__ = [
    "Judge", "PrecisionRecall", "accuracy", "features", "frechet_distance", "nearest",
    "precision_recall", "train_judge",
]  # fmt: skip

FEATURES = 64
ROWS = 500  # rows of a distance matrix, or images in a network, at once
Features = Float[np.ndarray, "_ features"]  # a row for each image


class Judge(nn.Sequential):
    """A small classifier, by whose last hidden layer of 64 features images are judged.

    Convolutions of stride 2, with batch norm and GELU, halve the sides down to 4 pixels or fewer.
    """

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.image_shape, self.body = image_shape, nn.Sequential()
        channels, *sides = image_shape
        width = 32
        while max(sides) > 4:
            halve = nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1, bias=False)
            self.body.extend([halve, nn.BatchNorm2d(width), nn.GELU()])
            sides = [(side + 1) // 2 for side in sides]
            channels, width = width, min(2 * width, 128)
        last = nn.Linear(channels * math.prod(sides), FEATURES)
        self.body.extend([nn.Flatten(), last, nn.GELU()])
        self.head = nn.Linear(FEATURES, classes)


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
    positive(epochs=epochs, batch_size=batch_size)
    images = as_images(images)
    found = _labels(images).unique().tolist()
    if len(found) < 2 or found[0] < 0:
        raise wrong("images", "labels from 0 of two classes or more", found)
    device = pick_device(device)
    images, steps = images.to(device), epochs * len(batch_bounds(len(images), batch_size))
    with closing(Progress(steps, enabled=progress)) as bar, seeded(device, seed, 0) as generator:
        judge = Judge(images.image_shape, classes=found[-1] + 1).to(device)
        optimizer = torch.optim.Adam(judge.parameters(), lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        for epoch in range(1, epochs + 1):
            right = torch.zeros((), device=device)
            for batch in minibatches(images, batch_size, device=device, generator=generator):
                logits, y = judge(batch.x), _labels(batch).to(device)
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
    images = as_images(images)
    labels = _labels(images)
    return (_apply(judge, judge, images).argmax(1) == labels).double().mean().item()


def features(judge: Judge, images: Any) -> Float64[np.ndarray, "images features"]:
    """Return the judge's 64 features of each image; a ValueError if their shape is not its own."""
    return _apply(judge, judge.body, images).double().numpy()


@torch.no_grad()
def _apply(judge: Judge, layers: nn.Module, images: Any) -> Float[Tensor, "images outputs"]:
    device = judge.head.weight.device
    images = prepare(images, judge.image_shape, device)
    # Seeded, so that images which are binarized anew at each use always get the same answer.
    with seeded(device, 0, 0), eval_mode(judge):
        return torch.cat([layers(x).cpu() for x, *_ in minibatches(images, ROWS, device=device)])


def _labels(images: Any) -> Tensor:
    if images.labels is None:
        raise wrong("images", "images with labels", images)
    return images.labels


def frechet_distance(real: Features, generated: Features) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features.

    ‖m₁ - m₂‖² + Tr(C₁ + C₂ - 2 (C₁ C₂)^½) of their means and covariances (Dowson & Landau 1982;
    Heusel et al. 2017, eq. 6). This is **not** the FID, whose features are an Inception network's:
    with those of a small classifier of the same data, the book calls it the Fréchet classifier
    distance. Numbers compare only by one judge and of equally many images, since fewer seem further
    apart. A ValueError tells of fewer than 2 rows, another number of features, or any not finite.

    >>> rows = np.array([[0.0], [2.0]])
    >>> round(frechet_distance(rows, rows + 3), 6), round(frechet_distance(rows, 2 * rows), 6)
    (9.0, 3.0)
    """
    both = _checked(real, generated, least=2)
    shift = both[0].mean(0) - both[1].mean(0)
    # By RᵀR = C, Tr (C₁ C₂)^½ is the sum of R₁R₂ᵀ's singular values: no roots of rounding errors.
    a, b = (np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - 1) for x in both)
    spread = (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a @ b.T, "nuc")
    return max(float(shift @ shift + spread), 0.0)


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
    positive(neighbours=neighbours)
    k = neighbours + 1  # because a row is the first of its own neighbours
    a, b = map(torch.from_numpy, _checked(real, generated, least=k))
    return PrecisionRecall(precision=_covered(b, a, k), recall=_covered(a, b, k))


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Return the share of points that lie in the ball of any centre."""
    # Matrix products would be faster, but equal rows have to be exactly 0 apart.
    apart = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    radii = torch.cat([apart(rows, centres).kthvalue(k)[0] for rows in centres.split(ROWS)])
    inside = [(apart(rows, centres) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean().item()


def _checked(real: Features, generated: Features, least: int) -> list[Features]:
    for name, rows in dict(real=real, generated=generated).items():
        if rows.ndim != 2 or len(rows) < least or rows.shape[1] != real.shape[1]:
            raise wrong(name, f"at least {least} rows as wide as real's", f"shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise wrong(name, "finite features", "some NaN or infinite")
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
    positive(count=count)
    if generated.image_shape != images.image_shape:
        raise wrong("generated", f"images of shape {images.image_shape}", generated.image_shape)
    if count > len(images):
        raise wrong("count", f"at most {len(images)}, as many as images", count)
    rows, found = to_pixels(generated.pixels, "cpu").flatten(1).double(), []
    for start in range(0, len(images), ROWS):
        some = to_pixels(images.pixels[start : start + ROWS], "cpu").flatten(1).double()
        distances, order = torch.cdist(rows, some).sort(dim=1, stable=True)
        found.append((distances[:, :count].clone(), start + order[:, :count]))
    distances, indices = (torch.cat(part, 1) for part in zip(*found, strict=True))
    distances, order = distances.sort(dim=1, stable=True)
    return indices.gather(1, order[:, :count]).numpy(), distances[:, :count].numpy()
