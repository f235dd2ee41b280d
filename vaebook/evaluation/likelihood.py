"""How well a model explains images: log p(x), and the units in which it is told.

Chapter *Reading the score* takes them apart.
"""

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vaebook.checks import ImageShape, positive, wrong
from vaebook.data.images import Images, as_images, batch_bounds, minibatches, prepare
from vaebook.models.ladder import LadderVAE
from vaebook.models.vae import VAE
from vaebook.speed.kernels import lent
from vaebook.training.devices import measuring
from vaebook.training.progress import Progress

ELEMENTS, BATCH = 2**20, 100  # pixels that are decoded at once, of so many images


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x), in nats, one for each image: lower bounds in expectation."""

    per_image: Float[np.ndarray, " images"]  #: in the order of the images
    draws: int  #: of z per image

    @property
    def mean(self) -> float:
        """The mean over images; minus this is the figure of the literature's tables."""
        return float(self.per_image.mean())

    @property
    def standard_error(self) -> float:
        """How far the mean over as many other images of the kind would differ; nan of one image."""
        count = len(self.per_image)
        return float(self.per_image.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan

    def __repr__(self) -> str:
        count, error = len(self.per_image), self.standard_error
        of = f"{count:,} image{'s' * (count > 1)}, {self.draws:,} draws each"
        spread = "" if math.isnan(error) else f" ± {error:.2f}"
        return f"log p(x) ≥ {self.mean:.2f}{spread} nats ({of})"


def log_likelihood(
    model: VAE, images: Any, *, draws: int = 5000, prior: Any = None, seed: int = 0,
    progress: bool = True,
) -> LogLikelihood:  # fmt: skip
    """Estimate log p(x) of images by importance sampling from q(z|x), in nats per image.

    The logarithm of the mean of `draws` weights p(x, z) / q(z|x) (Burda et al. 2016, eq. 8), for
    any likelihood; of a `ConditionalVAE`, log p(x|y). In expectation it is at most log p(x), and
    the encoder decides how far below: raise `draws`, with which memory does not grow, until it
    rises no more. `prior` is one of ``vaebook.priors`` that has a density, in the place of N(0, I);
    not for a `LadderVAE`, whose levels have priors of their own. `images` is what `as_images`
    takes, or a DataLoader; pixels between black and white have no likelihood under a Bernoulli
    model: see `Images.binarized`. A ValueError says what does not fit.

    >>> import vaebook as vb
    >>> data = vb.load("digits").binarized()
    >>> model = vb.dense_vae(data.image_shape, latent_dim=2)
    >>> log_likelihood(model, data.test[:10], draws=100, progress=False).per_image.shape
    (10,)
    """
    positive(draws=draws)
    if prior is not None:
        if isinstance(model, LadderVAE) or not hasattr(prior, "log_prob"):
            raise wrong("prior", "one with log_prob, for a model with one level of codes", prior)
        model.check_prior(prior)
    images = prepare(images, model.image_shape, model.device)
    size = len(images) * (1 if isinstance(images, Images) else BATCH)
    chunk = max(ELEMENTS // (min(BATCH, size) * math.prod(model.image_shape)), 1)
    counts = [min(chunk, draws - start) for start in range(0, draws, chunk)]
    bar, found = Progress(len(batch_bounds(size, BATCH)) * len(counts), enabled=progress), []
    with measuring(model, seed), lent(model), closing(bar):
        for x, labels, _ in minibatches(images, BATCH, device=model.device):
            given, total = model.given(labels), torch.full((len(x),), -math.inf).double()
            for count in counts:
                drawn = given.draw(x, count)
                if prior is not None:
                    density = prior.log_prob(drawn.z.flatten(0, 1)).unflatten(0, (count, len(x)))
                    drawn = drawn._replace(prior=density.to(x))
                total = torch.logaddexp(total, drawn.log_weights.cpu().double().logsumexp(0))
                bar.step()
            found.append(total - math.log(draws))
    return LogLikelihood(torch.cat(found).numpy(), draws)


def bernoulli_floor(images: Any) -> float:
    """Return the least that the Bernoulli cost of images can be, in nats per image.

    A grey pixel x costs at least its own entropy, -x log x - (1 - x) log(1 - x), whatever the
    model: only what a loss has above this floor says anything about one. On binary pixels it is 0.
    Raises a ValueError for what `as_images` does not take.

    >>> bernoulli_floor(np.full((3, 1, 2, 2), 0.5, dtype=np.float32)) / math.log(2)
    4.0
    """
    images = as_images(images)
    batches = (x.double() for x, *_ in minibatches(images, 500))
    total = sum((torch.special.entr(x) + torch.special.entr(1 - x)).sum().item() for x in batches)
    return total / len(images)


def bits_per_dimension(nats: float, image_shape: ImageShape, *, density: bool = False) -> float:
    """Return nats per image as bits per pixel and channel of `image_shape`, as for natural images.

    `nats` is -log p of images of 256 levels, or a bound on it. If it came from a `density` over
    pixels in [0, 1], each dimension gets the 8 bits by which 256 levels are finer; that is a
    bound on a probability where noise as wide as a level was added to the pixels (Theis et al.
    2016). A Bernoulli cost of grey pixels is neither and has no such unit.

    >>> bits_per_dimension(8 * 784 * math.log(2), (1, 28, 28))
    8.0
    """
    return nats / (math.prod(image_shape) * math.log(2)) + (8 if density else 0)
