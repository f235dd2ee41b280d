"""What the latent dimensions of a model carry.

Chapter *Posterior collapse* looks for dimensions that carry nothing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaebook.data.images import minibatches, prepare
from vaebook.models.ladder import LadderVAE, Normal, combine
from vaebook.models.quantized import need_vectors
from vaebook.models.vae import VAE, kl_per_dimension
from vaebook.sampling import posterior, sample_prior
from vaebook.training.devices import measuring


@dataclass(frozen=True)
class Diagnosis:
    """What the latent dimensions of a model carry, in nats per image: of all its levels, z_1 first.

    The mean of the KL is `mutual_information` + `marginal_kl` (Hoffman & Johnson 2016): what a
    code tells of its image, and how far the codes of all images together are from the prior.
    """

    kl: Float[np.ndarray, " latent"]  #: of each dimension, averaged over images
    activity: Float[np.ndarray, " latent"]  #: variance of the posterior means over images
    mutual_information: float  #: I(x; z), of which n images can show log(n) at most
    marginal_kl: float  #: KL(q(z) ‖ p(z)), q(z) being the mixture of all the posteriors

    @property
    def active_units(self) -> int:
        """The number of dimensions whose activity is above 0.01 (Burda et al. 2016, sec. 2)."""
        return int((self.activity > 0.01).sum())

    def __repr__(self) -> str:
        units = f"{self.active_units} of {len(self.kl)} units active, KL {self.kl.sum():z.2f} nats"
        told, apart = self.mutual_information, self.marginal_kl
        return f"Diagnosis: {units}\n= mutual information {told:z.2f} + marginal KL {apart:z.2f}"


def diagnose(model: VAE, images: Any, *, seed: int = 0) -> Diagnosis:
    """Measure what a model's latent dimensions carry about images.

    `images` is what `as_images` takes, or a DataLoader; a few thousand are enough, and the time
    grows with the square of their number. One code is drawn for each from `seed`; q(z) is the even
    mixture of their posteriors: the mutual information cannot exceed the logarithm of their number.
    Images that do not fit raise a ValueError, and so does a `VQVAE`, which is certain of its codes.

    >>> import vaebook as vb
    >>> found = diagnose(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(50, 1, 8, 8))
    >>> found.kl.shape, found.mutual_information < math.log(50)
    ((2,), True)
    """
    need_vectors(model)
    if isinstance(model, LadderVAE):

        def everything(x: Tensor) -> tuple[Tensor, ...]:
            output = model(x)
            return output.z, output.kls, *model.say(x), *output.prior, model.average(x)

        z, kl, *moments, average = _measured(model, images, seed, everything)
        said, prior = Normal(*moments[:2]), Normal(*moments[2:])
        # At the top the posterior is what the image says; below, it is combined with the prior.
        prior.log_var[:, -model.latent_dim :] = math.inf
        mean, log_var = combine(said, prior)
        squares = (z - mean).square() * (-log_var).exp()
        log_mixture = _log_mixture(z, said, prior)
    else:
        average, std = (moment.double() for moment in posterior(model, images))
        log_var, noise = 2 * std.log(), sample_prior(model, len(average), seed).double()
        kl, squares = kl_per_dimension(average, log_var), noise.square()
        log_mixture = _log_mixture(average + std * noise, Normal(average, log_var))
    log_own = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(1)
    kl, information = kl.mean(0), (log_own - log_mixture).mean().item()
    activity = average.var(0, unbiased=False)
    return Diagnosis(kl.numpy(), activity.numpy(), information, kl.sum().item() - information)


def _log_mixture(
    z: Float[Tensor, "draws latent"], said: Normal, prior: Normal | None = None
) -> Float[Tensor, " draws"]:
    """Return log q(z) of each draw under the even mixture of what n images say of the codes.

    Codes in levels have a `prior` at each draw, with which what the images say is combined.
    """
    rows, q = [], said
    # Not by matrix products, which lose all digits where posteriors are narrow.
    for part in torch.arange(len(z)).split(max(2**24 // said.mean.numel(), 1)):
        if prior is not None:
            q = combine(said, Normal(*(moment[part, None] for moment in prior)))
        distances = ((z[part, None] - q.mean).square() * (-q.log_var).exp()).sum(-1)
        constant = (q.log_var + math.log(2 * math.pi)).sum(-1)
        rows.append((-0.5 * (distances + constant)).logsumexp(1) - math.log(len(said.mean)))
    return torch.cat(rows)


def kl_per_level(model: LadderVAE, images: Any, *, seed: int = 0) -> Float[np.ndarray, " levels"]:
    """Return how much of the KL each level has, in nats per image, z_1 first.

    In eval mode, with one draw from `seed` per image of what `as_images` takes, or a DataLoader.

    >>> import vaebook as vb
    >>> kl_per_level(vb.ladder_vae((1, 28, 28)), torch.rand(5, 1, 28, 28)).shape
    (4,)
    """
    (kls,) = _measured(model, images, seed, lambda x: (model(x).kls,))
    return np.array([level.sum() for level in kls.mean(0).split(model.latent_dims)])


def _measured(model: LadderVAE, images: Any, seed: int, of: Any) -> list[Tensor]:
    """Return what `of` has to say of each batch of images, put together."""
    images = prepare(images, model.image_shape, model.device)
    with measuring(model, seed):
        parts = [of(x) for x, *_ in minibatches(images, 500, device=model.device)]
    return [torch.cat(part).cpu().double() for part in zip(*parts, strict=True)]
