"""The variational autoencoder: encode → reparameterize → decode."""

import math
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaebook.checks import ImageShape, as_image_shape, positive, wrong
from vaebook.models.likelihoods import ImageBatch, as_likelihood
from vaebook.models.networks import Codes, eval_mode
from vaebook.models.summary import summary

DrawsOfBatch = Float[Tensor, "draws batch"]
AnyCodes = Float[Tensor, "*batch latent"]
Moment = Float[Tensor, "... latent"]  # for all draws or for each


def kl_per_dimension(mean: Codes, log_var: Codes) -> Codes:
    """Return KL(N(`mean`, exp(`log_var`)) ‖ N(0, 1)) per image and latent dimension, in nats.

    >>> kl_per_dimension(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    tensor([[0.5000, 2.0000]])
    """
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def log_normal(z: AnyCodes, mean: Moment, log_var: Moment) -> Float[Tensor, "*batch"]:
    """Return log N(z; mean, exp(log_var)), summed over the latent dimensions, in nats."""
    squares = (z - mean).square() * (-log_var).exp()
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


class Output(NamedTuple):
    """What one pass of a `VAE` computes.

    >>> import vaebook as vb
    >>> output = vb.dense_vae((1, 8, 8), latent_dim=2)(torch.rand(5, 1, 8, 8))
    >>> output.params.shape, output.kls.shape
    (torch.Size([5, 1, 8, 8]), torch.Size([5, 2]))
    """

    params: ImageBatch  #: parameters of p(x|z), such as logits
    z: Codes  #: a draw from q(z|x)
    mean: Codes  #: of q(z|x)
    log_var: Codes  #: of q(z|x), the logarithm of the variance

    @property
    def kls(self) -> Codes:
        """KL(q(z|x) ‖ p(z)) of each image and latent dimension, in nats."""
        return kl_per_dimension(self.mean, self.log_var)


class Draws(NamedTuple):
    """Log-densities at draws z ~ q(z|x), in nats: what bounds on log p(x) are made of.

    >>> import vaebook as vb
    >>> draws = vb.dense_vae((1, 8, 8), latent_dim=2).draw(torch.rand(5, 1, 8, 8), draws=3)
    >>> draws.log_weights.shape
    torch.Size([3, 5])
    """

    likelihood: DrawsOfBatch  #: log p(x|z)
    prior: DrawsOfBatch  #: log p(z)
    posterior: DrawsOfBatch  #: log q(z|x)
    z: Float[Tensor, "draws batch latent"]  #: the draws themselves

    @property
    def log_weights(self) -> DrawsOfBatch:
        """The logarithms of the importance weights p(x, z) / q(z|x)."""
        return self.likelihood + self.prior - self.posterior


class EncoderNetwork(Protocol):
    """What a `VAE` asks of an encoder, an ``nn.Module``."""

    def __call__(self, x: ImageBatch) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z|x) for images in [0, 1]."""


class DecoderNetwork(Protocol):
    """What a `VAE` asks of a decoder, an ``nn.Module``."""

    def __call__(self, z: Codes) -> ImageBatch:
        """Return the parameters of p(x|z), such as logits, in the images' shape."""


class VAE(nn.Module):
    """A variational autoencoder with a standard normal prior and a diagonal Gaussian q(z|x).

    Kingma & Welling, *Auto-Encoding Variational Bayes*, 2013. `conv_vae`, `dense_vae` and
    `layered_vae` build one; pass modules of your own for other networks, in a function that
    `vaebook.register` makes known if the model is to be saved. ``print(model)`` shows its layers.
    Chapter *A first VAE* writes one out. Raises a ValueError for a shape, a size or a likelihood
    that is none.

    Parameters
    ----------
    encoder, decoder
        What `EncoderNetwork` and `DecoderNetwork` describe.
    image_shape, latent_dim, likelihood
        Channels, height and width; number of latent dimensions; p(x|z) by its name
        (``"bernoulli"``, ``"continuous_bernoulli"``, ``"gaussian"``, ``"discretized_logistic"``)
        or as an object such as ``vaebook.likelihoods.Gaussian(sigma=0.1)``.

    Examples
    --------
    >>> class Encoder(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(64, 4)
    ...
    ...     def forward(self, x):
    ...         return self.layer(x.flatten(1)).chunk(2, dim=1)  # mean and log-variance
    >>> decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))
    >>> model = VAE(Encoder(), decoder, image_shape=(1, 8, 8), latent_dim=2)
    >>> model.sample(3).shape
    torch.Size([3, 1, 8, 8])
    """

    config: dict[str, Any] | None = None  #: how to build the model again, by `vaebook.register`

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, image_shape: ImageShape, latent_dim: int,
        likelihood: Any = "bernoulli",
    ) -> None:  # fmt: skip
        super().__init__()
        positive(latent_dim=latent_dim)
        self.encoder, self.decoder = encoder, decoder
        self.likelihood = as_likelihood(likelihood)
        self.image_shape, self.latent_dim = as_image_shape(image_shape), int(latent_dim)

    def __str__(self) -> str:
        return repr(summary(self))

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The kind of the model's numbers, float32 but for ``model.double()`` and the like."""
        return next(self.parameters()).dtype

    def given(self, labels: Any = None) -> "VAE":
        """Return the model of images with these labels: for any but a conditional one, itself."""
        return self

    def check(self, x: Tensor) -> None:
        """Raise a ValueError if images do not fit the model."""
        if x.shape[1:] != self.image_shape or not x.is_floating_point():
            shape = ", ".join(map(str, ("batch", *self.image_shape)))
            wanted = f"floating-point pixels of shape [{shape}]"
            raise wrong("x", wanted, f"{x.dtype} of shape {tuple(x.shape)}")

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z|x); a ValueError if images do not fit the model."""
        self.check(x)
        # Under autocast networks return bfloat16; exponentials, sums and losses need more digits.
        mean, log_var = (output.to(x.dtype) for output in self.encoder(x))
        return mean, log_var

    def reparameterize(self, mean: AnyCodes, log_var: AnyCodes) -> AnyCodes:
        """Draw z ~ q(z|x) as mean + std · noise, through which gradients flow (eq. 4)."""
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def decode(self, z: Codes) -> Tensor:
        """Return the parameters of p(x|z): for a Bernoulli likelihood, logits of pixels."""
        params: Tensor = self.decoder(z)
        return params.to(z.dtype)

    def forward(self, x: Tensor) -> Output:
        """Encode images, draw one code each, decode it."""
        mean, log_var = self.encode(x)
        z = self.reparameterize(mean, log_var)
        return Output(self.decode(z), z, mean, log_var)

    def draw(self, x: Tensor, draws: int, *, path_only: bool = False) -> Draws:
        """Draw so many codes for each image and return the log-densities there.

        With `path_only`, gradients reach the encoder through z alone and not through the
        parameters of log q(z|x), whose part has mean 0 (Roeder et al. 2017).
        """
        mean, log_var = self.encode(x)
        z = self.reparameterize(mean.expand(draws, -1, -1), log_var.expand(draws, -1, -1))
        params, images = self.decode(z.flatten(0, 1)), x.repeat(draws, 1, 1, 1)
        likelihood = self.likelihood.log_prob(params, images).unflatten(0, (draws, len(x)))
        if path_only:
            mean, log_var = mean.detach(), log_var.detach()
        nothing = torch.zeros_like(mean)
        prior, posterior = log_normal(z, nothing, nothing), log_normal(z, mean, log_var)
        return Draws(likelihood, prior, posterior, z)

    def draw_prior(self, n: int, **how: Any) -> Codes:
        """Draw `n` codes from the prior; `how` is what ``torch.randn`` takes besides."""
        return torch.randn(n, self.latent_dim, **how)

    def take(self, z: Codes) -> Codes:
        """Return codes on the model's device, in its precision."""
        return z.to(self.device, self.dtype)

    def check_prior(self, prior: Any) -> None:
        """Raise a ValueError for a prior of another kind of codes."""

    @torch.no_grad()
    def sample(self, n: int = 64, *, prior: Any = None) -> ImageBatch:
        """Decode `n` draws from the prior to their expected pixels in [0, 1].

        Another `prior` than the model's own is one of ``vaebook.priors``, fitted to its codes.
        """
        positive(n=n)
        with eval_mode(self):
            if prior is None:
                z = self.draw_prior(n, device=self.device, dtype=self.dtype)
            else:
                self.check_prior(prior)
                z = self.take(prior.sample(n, seed=int(torch.randint(2**31, ()))))
                if z.shape != (n, self.latent_dim):
                    raise wrong("prior", f"one of {self.latent_dim} dimensions", tuple(z.shape))
            return self.likelihood.mean(self.decode(z))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> ImageBatch:
        """Decode the posterior means of images to their expected pixels in [0, 1]."""
        with eval_mode(self):
            return self.autoencode(x.to(self.device, self.dtype if x.is_floating_point() else None))

    def autoencode(self, x: Tensor) -> ImageBatch:
        """Do what `reconstruct` does in the model's present mode, with gradients."""
        mean, _ = self.encode(x)
        return self.likelihood.mean(self.decode(mean))


def check_networks(model: VAE) -> None:
    """Raise a ValueError unless networks give what their model asks; in eval mode, on black images.

    Other shapes may broadcast against the images and train without a complaint.
    """
    x = torch.zeros(2, *model.image_shape, device=model.device, dtype=model.dtype)
    one, codes = model.given(0), (2, model.latent_dim)
    try:
        mean, log_var = one.encode(x)
    except (TypeError, AttributeError, ValueError) as error:
        raise wrong("encoder", "a network that returns mean and log_var", error) from error
    for name, found in (("mean", mean), ("log_var", log_var)):
        if found.shape != codes:
            got = tuple(found.shape)
            raise wrong("encoder", f"{name} of shape {codes} for 2 images, by latent_dim", got)
    try:
        pixels = one.likelihood.mean(one.decode(mean))
    except (TypeError, RuntimeError) as error:
        wanted = f"a network that takes codes of latent_dim {model.latent_dim}"
        raise wrong("decoder", wanted, f"{error}".partition("\n")[0]) from error
    if pixels.shape != x.shape:
        wanted = f"parameters of pixels of shape {tuple(x.shape)} for 2 codes"
        raise wrong("decoder", wanted, tuple(pixels.shape))
