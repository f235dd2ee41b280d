"""What training minimizes, in nats per image."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from vaebook.likelihoods import ImageBatch
from vaebook.networks import Codes
from vaebook.vae import VAE


class Terms(NamedTuple):
    """The parts of an objective for each image of a batch, in nats."""

    loss: Float[Tensor, " batch"]
    reconstruction: Float[Tensor, " batch"]  # -log p(x|z) at one draw z ~ q(z|x)
    kl: Float[Tensor, " batch"]  # KL(q(z|x) ‖ p(z))


def kl_to_prior(mean: Codes, log_var: Codes) -> Float[Tensor, " batch"]:
    """Return KL(N(mean, exp(log_var)) ‖ N(0, I)) in nats (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


@dataclass(frozen=True)
class NegativeELBO:
    """The negative evidence lower bound, with the KL weighted by `beta`.

    At ``beta=1`` the loss is an upper bound on -log p(x) (Kingma & Welling 2013, eq. 3);
    other weights give the β-VAE (Higgins et al. 2017, eq. 4), and 0 a noisy autoencoder.

    >>> import torch, vaebook as vb
    >>> model = vb.dense_vae((1, 8, 8), latent_dim=2)
    >>> terms = NegativeELBO()(model, torch.rand(5, 1, 8, 8))
    >>> torch.allclose(terms.loss, terms.reconstruction + terms.kl)
    True
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise ValueError(f"beta: expected a number of at least 0, got {self.beta}")

    def __call__(self, model: VAE, x: ImageBatch) -> Terms:
        """Return the loss and its parts for each image, at one draw of z."""
        output = model(x)
        reconstruction = -model.likelihood.log_prob(output.params, x)
        kl = kl_to_prior(output.mean, output.log_var)
        return Terms(reconstruction + self.beta * kl, reconstruction, kl)
