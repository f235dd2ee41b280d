"""Judging a model by more than its loss."""

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaebook.conditional import batches
from vaebook.data.images import as_images, batch_bounds, minibatches
from vaebook.devices import seeded
from vaebook.networks import ImageShape, eval_mode
from vaebook.progress import Progress
from vaebook.sampling import posterior, sample_prior
from vaebook.training import prepare
from vaebook.vae import VAE, check_count, check_positive, kl_per_dimension

ELEMENTS = 2**22  # pixels that are decoded at once
ACTIVE = 0.01  # the threshold of Burda et al. 2016


@dataclass(frozen=True)
class Diagnosis:
    """What the latent dimensions of a model carry, in nats per image.

    The mean of the KL is `mutual_information` + `marginal_kl` (Hoffman & Johnson 2016): what a
    code tells of its image, and how far the codes of all images together are from the prior.
    """

    kl: Float[np.ndarray, " latent"]  # of each dimension, averaged over images
    activity: Float[np.ndarray, " latent"]  # variance of the posterior means over images
    mutual_information: float  # I(x; z), of which n images can show log(n) at most
    marginal_kl: float  # KL(q(z) ‖ p(z)), q(z) being the mixture of all the posteriors

    @property
    def active_units(self) -> int:
        """The number of dimensions whose activity is above 0.01 (Burda et al. 2016, sec. 2)."""
        return int((self.activity > ACTIVE).sum())

    def __repr__(self) -> str:
        parts = (self.kl.sum(), self.mutual_information, self.marginal_kl)
        total, told, apart = (f"{round(float(part), 2) + 0:.2f}" for part in parts)  # no -0.00
        return (
            f"Diagnosis: {self.active_units} of {len(self.kl)} units active, KL {total} nats\n"
            f"= mutual information {told} + marginal KL {apart}"
        )


def diagnose(model: VAE, images: Any, *, seed: int = 0) -> Diagnosis:
    """Measure what a model's latent dimensions carry about images.

    `images` is what `as_images` takes; a few thousand are enough, and the time grows with the
    square of their number. One code is drawn for each from `seed`; q(z) is the even mixture of
    their posteriors, so that the mutual information cannot exceed the logarithm of their number.
    """
    mean, std = (moment.double() for moment in posterior(model, images))
    log_var, noise = 2 * std.log(), sample_prior(model, len(mean), seed).double()
    kl = kl_per_dimension(mean, log_var).mean(0)
    log_own = -0.5 * (noise.square() + log_var + math.log(2 * math.pi)).sum(1)
    information = (log_own - _log_mixture(mean + std * noise, mean, log_var)).mean().item()
    activity = mean.var(0, unbiased=False)
    return Diagnosis(kl.numpy(), activity.numpy(), information, kl.sum().item() - information)


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x), in nats, one for each image: lower bounds in expectation."""

    per_image: Float[np.ndarray, " images"]
    samples: int  # draws of z per image

    @property
    def mean(self) -> float:
        """The mean over images; minus this is the figure of the literature's tables."""
        return float(self.per_image.mean())

    @property
    def standard_error(self) -> float:
        """How far the mean over as many other images of the kind would differ, typically."""
        return float(self.per_image.std(ddof=1) / math.sqrt(len(self.per_image)))

    def __repr__(self) -> str:
        of = f"{len(self.per_image):,} images, {self.samples:,} samples each"
        return f"log p(x) ≥ {self.mean:.2f} ± {self.standard_error:.2f} nats ({of})"


@torch.no_grad()
def log_likelihood(
    model: VAE, images: Any, *, samples: int = 5000, seed: int = 0, progress: bool = True
) -> LogLikelihood:
    """Estimate log p(x) of images by importance sampling from q(z|x), in nats per image.

    The logarithm of the mean of `samples` weights p(x, z) / q(z|x) (Burda et al. 2016, eq. 8),
    for any likelihood. It is never above log p(x) in expectation, and how far it stays below
    depends on the encoder: raise `samples` until it rises no more.

    Parameters
    ----------
    images
        What `as_images` takes. Pixels in between black and white have no likelihood under a
        Bernoulli model: see `Images.binarized`. Of a `ConditionalVAE` it is log p(x|y), with
        their labels.
    samples, seed
        K, the draws per image, and what decides them. Memory does not grow with either.
    progress
        Whether to show a bar.

    Raises
    ------
    ValueError
        For images that do not fit, or `samples` that are no positive whole number.

    Examples
    --------
    >>> import vaebook as vb
    >>> data = vb.load("digits").binarized()
    >>> model = vb.dense_vae(data.image_shape, latent_dim=2)
    >>> log_likelihood(model, data.test[:10], samples=100, progress=False).per_image.shape
    (10,)
    """
    check_positive(samples=samples)
    images = prepare(images, "images", model, model.device)
    batch = 100
    chunk = min(max(ELEMENTS // (batch * math.prod(model.image_shape)), 1), samples)
    chunks = [chunk] * (samples // chunk) + [samples % chunk] * (samples % chunk > 0)
    bar = Progress(len(batch_bounds(len(images), batch)) * len(chunks), enabled=progress)
    found = []
    with seeded(model.device, seed, 0), eval_mode(model), closing(bar):
        for given, x in batches(model, images, batch, device=model.device):
            total = torch.full((len(x),), -math.inf, dtype=torch.float64)
            for draws in chunks:
                more = given.draw(x, draws).log_weights.cpu().double().logsumexp(0)
                total = torch.logaddexp(total, more)
                bar.step()
            found.append(total - math.log(samples))
    return LogLikelihood(torch.cat(found).numpy(), samples)


def _log_mixture(
    z: Float[Tensor, "draws latent"],
    mean: Float[Tensor, "n latent"],
    log_var: Float[Tensor, "n latent"],
) -> Float[Tensor, " draws"]:
    """Return log q(z) of each draw under the even mixture of n diagonal Gaussians."""
    precision = (-log_var).exp()
    constant = (log_var + math.log(2 * math.pi)).sum(1)
    rows = []
    # Not by matrix products, which lose all digits where posteriors are narrow.
    for part in z.split(max(2**24 // mean.numel(), 1)):
        distances = ((part[:, None] - mean).square() * precision).sum(2)
        rows.append((-0.5 * (distances + constant)).logsumexp(1) - math.log(len(mean)))
    return torch.cat(rows)


def neighbour_accuracy(
    z: Float[np.ndarray, "images latent"], labels: Any, *, neighbours: int = 10, folds: int = 5
) -> float:
    """Return how well the nearest neighbours in latent space tell an image's class, 0 to 1.

    The share of the codes `z`, such as `embed` returns, whose class a vote of their nearest
    `neighbours` finds, each code being judged only by neighbours from the other `folds`
    (stratified, shuffled by a fixed seed). Raises a ValueError for labels of another length.
    """
    from sklearn.neighbors import KNeighborsClassifier

    return _cross_validated(KNeighborsClassifier(neighbours), z, labels, folds)


def linear_accuracy(z: Float[np.ndarray, "images latent"], labels: Any, *, folds: int = 5) -> float:
    """Return how well a linear classifier of codes tells an image's class, 0 to 1.

    The linear probe of Alain & Bengio 2017: the share of the codes `z`, such as `embed` returns,
    whose class a logistic regression finds that was fitted to the other `folds`, which are those
    of `neighbour_accuracy`. Raises a ValueError for labels of another length.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _cross_validated(probe, z, labels, folds)


def _cross_validated(classifier: Any, z: Any, labels: Any, folds: int) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    check_count("labels", labels, len(z), "codes")
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, z, np.asarray(labels), cv=split).mean())


def bernoulli_floor(images: Any) -> float:
    """Return the least that the Bernoulli cost of images can be, in nats per image.

    A grey pixel x costs at least its own entropy, -x log x - (1 - x) log(1 - x), whatever the
    model: only what a loss has above this floor says anything about one. On binary pixels it is 0.

    >>> bernoulli_floor(np.full((3, 1, 2, 2), 0.5, dtype=np.float32)) / math.log(2)
    4.0
    """
    images = as_images(images)
    batches = (x.double() for x in minibatches(images, 500, device="cpu"))
    total = sum((torch.special.entr(x) + torch.special.entr(1 - x)).sum().item() for x in batches)
    return total / len(images)


def bits_per_dimension(nats: float, image_shape: ImageShape, *, density: bool = False) -> float:
    """Return nats per image as bits per pixel and channel, the unit of natural images.

    `nats` is -log p of images of 256 levels, or a bound on it. If it came from a `density` over
    pixels in [0, 1], each dimension gets the 8 bits by which 256 levels are finer; that is a
    bound on a probability where noise as wide as a level was added to the pixels (Theis et al.
    2016). A Bernoulli cost of grey pixels is neither and has no such unit.

    >>> bits_per_dimension(8 * 784 * math.log(2), (1, 28, 28))
    8.0
    """
    return nats / (math.prod(image_shape) * math.log(2)) + (8 if density else 0)
