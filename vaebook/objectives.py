"""What training minimizes, in nats per image, and how its KL weight changes as it goes on."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from vaebook.checks import at_least_0, positive, wrong
from vaebook.models.likelihoods import ImageBatch, PerImage, batch_mean
from vaebook.models.networks import Codes
from vaebook.models.vae import VAE, DrawsOfBatch, kl_per_dimension

__all__ = [
    "Cyclical", "ImportanceWeighted", "NegativeELBO", "Objective", "Terms", "Warmup",
    "importance_bound", "kl_to_prior",
]  # fmt: skip


class Terms(NamedTuple):
    """The parts of an objective for each image of a batch, in nats.

    >>> import torch, vaebook as vb
    >>> terms = vb.NegativeELBO()(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(5, 1, 8, 8))
    >>> terms.kl.shape
    torch.Size([5])
    """

    loss: PerImage  #: what is minimized
    reconstruction: PerImage  #: -log p(x|z) at one draw z ~ q(z|x)
    kl: PerImage  #: KL(q(z|x) ‖ p(z))


@runtime_checkable
class Objective(Protocol):
    """What `fit` minimizes: a function of a model and a batch.

    It may also have a method ``at(done)``, which returns the objective to use when a fraction
    `done` of the training, 0 to 1, is behind.

    >>> def halved(model, x):
    ...     terms = NegativeELBO()(model, x)
    ...     return terms._replace(loss=terms.reconstruction + terms.kl / 2)
    >>> isinstance(halved, Objective)
    True
    """

    def __call__(self, model: Any, x: ImageBatch) -> Terms:
        """Return the loss and its parts for each image, in nats."""


def kl_to_prior(mean: Codes, log_var: Codes) -> PerImage:
    """Return KL(N(`mean`, exp(`log_var`)) ‖ N(0, I)) in nats (Kingma & Welling 2013, app. B).

    >>> import torch
    >>> kl_to_prior(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    tensor([2.5000])
    """
    return kl_per_dimension(mean, log_var).sum(1)


@dataclass(frozen=True)
class Warmup:
    """A KL weight that waits at 0 and then rises in a straight line (Bowman et al. 2016, 3.1).

    `start` and `end` are fractions of the training, between which it goes from 0 to 1. Raises a
    ValueError for others. Chapter *Posterior collapse* tries it.

    >>> [Warmup(start=0.25, end=0.75)(done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    end: float = 3 / 7
    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise wrong("end", "0 ≤ start < end ≤ 1", f"start={self.start}, end={self.end}")

    def __call__(self, done: float) -> float:
        """Return the weight when a fraction `done` of the training is behind."""
        return min(max((done - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True)
class Cyclical:
    """A KL weight that begins anew several times (Fu et al. 2019).

    In each of the `cycles` it rises from 0 to 1 over the fraction `rise` and stays there. Raises a
    ValueError for other numbers. Chapter *Posterior collapse* tries it.

    >>> [Cyclical(cycles=2, rise=0.5)(done) for done in (0.0, 0.125, 0.25, 0.5, 0.625, 1.0)]
    [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """

    cycles: int = 4
    rise: float = 0.5

    def __post_init__(self) -> None:
        positive(cycles=self.cycles)
        if not 0 < self.rise <= 1:
            raise wrong("rise", "a fraction above 0 and up to 1", self.rise)

    def __call__(self, done: float) -> float:
        """Return the weight when a fraction `done` of the training is behind."""
        return 1.0 if done >= 1 else min(done * self.cycles % 1 / self.rise, 1.0)


@dataclass(frozen=True)
class NegativeELBO:
    """The negative evidence lower bound, with the KL weighted by `beta`.

    At ``beta=1`` the loss is an upper bound on -log p(x) (Kingma & Welling 2013, eq. 3);
    other weights give the β-VAE (Higgins et al. 2017, eq. 4), and 0 a noisy autoencoder. Chapter
    *A first VAE* writes it out. Raises a ValueError for numbers below 0.

    Parameters
    ----------
    beta
        The weight of the KL, at least 0.
    schedule
        A function of the fraction of the training that is done, 0 to 1, such as `Warmup` or
        `Cyclical`, by which `vaebook.fit` multiplies `beta`. Validation has the full `beta`.
    free_bits
        Nats that each latent dimension's KL, averaged over the batch, may cost without being
        pushed down (Kingma et al. 2016). The loss counts the KL of a dimension as at
        least this much; `Terms.kl` is the KL itself.

    Examples
    --------
    >>> import torch, vaebook as vb
    >>> model = vb.dense_vae((1, 8, 8), latent_dim=2)
    >>> terms = NegativeELBO()(model, torch.rand(5, 1, 8, 8))
    >>> torch.allclose(terms.loss, terms.reconstruction + terms.kl)
    True
    """

    beta: float = 1.0
    schedule: Callable[[float], float] | None = None
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        at_least_0(beta=self.beta, free_bits=self.free_bits)

    def at(self, done: float) -> "NegativeELBO":
        """Return the objective as it is when a fraction `done` of the training is behind."""
        if self.schedule is None:
            return self
        return dataclasses.replace(self, beta=self.beta * self.schedule(done), schedule=None)

    def __call__(self, model: VAE, x: ImageBatch) -> Terms:
        """Return the loss and its parts for each image, at one draw of z."""
        output = model(x)
        reconstruction = -model.likelihood.log_prob(output.params, x)
        kls = output.kls
        kl = charged = kls.sum(1)
        if self.free_bits:
            charged = kl + (self.free_bits - batch_mean(kls, 0)).relu().sum()
        return Terms(reconstruction + self.beta * charged, reconstruction, kl)


def importance_bound(log_weights: DrawsOfBatch) -> PerImage:
    """Return the bound on log p(x) by K draws, in nats (Burda et al. 2016, eq. 8).

    It is the logarithm of the mean of the weights p(x, z) / q(z|x), of which `log_weights` are the
    logarithms, ``[draws, batch]``. One draw gives the ELBO; in expectation the bound rises with K,
    and goes to log p(x).

    >>> import torch
    >>> importance_bound(torch.tensor([[0.0], [math.log(3)]])).exp()
    tensor([2.])
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


@dataclass(frozen=True)
class ImportanceWeighted:
    """The negative importance-weighted bound of Burda et al. 2016 (IWAE), for `fit`.

    Of the `Terms`, `loss` is minus the bound; `reconstruction` and `kl` are means over the draws
    of what the ELBO is made of, so that their sum is above the loss. Raises a ValueError for fewer
    draws than one. Chapter *Beyond one layer* trains with it.

    Parameters
    ----------
    draws
        K, the draws of z per image. Time and memory grow with it.
    doubly_reparameterized
        Whether the encoder gets the gradient of Tucker et al. 2019 (eq. 8): the same on average,
        but less noisy where K is large. For a `VAE` of one layer of codes.

    Examples
    --------
    >>> import torch, vaebook as vb
    >>> model = vb.dense_vae((1, 8, 8), latent_dim=2)
    >>> terms = ImportanceWeighted(draws=5)(model, torch.rand(3, 1, 8, 8))
    >>> bool((terms.loss <= terms.reconstruction + terms.kl).all())
    True
    """

    draws: int = 50
    doubly_reparameterized: bool = False

    def __post_init__(self) -> None:
        positive(draws=self.draws)

    def __call__(self, model: VAE, x: ImageBatch) -> Terms:
        """Return the loss and its parts for each image."""
        draws = model.draw(x, self.draws, path_only=self.doubly_reparameterized)
        loss = -importance_bound(draws.log_weights)
        if self.doubly_reparameterized and draws.z.requires_grad:
            # The bound gives a draw its normalized weight; on the way to the encoder, where the
            # gradient passes z, it takes the square of it.
            share = draws.log_weights.detach().softmax(0)[..., None]
            draws.z.register_hook(lambda gradient: gradient * share)
        fits, kls = -draws.likelihood.mean(0), (draws.posterior - draws.prior).mean(0)
        return Terms(loss, fits.detach(), kls.detach())
