"""The variational autoencoder: encode → reparameterize → decode."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaebook.likelihoods import LIKELIHOODS
from vaebook.networks import (
    ACTIVATIONS,
    ImageShape,
    conv_decoder,
    conv_encoder,
    dense_decoder,
    dense_encoder,
)


class Output(NamedTuple):
    """What one pass of a `VAE` computes; `params` are those of p(x|z), such as logits."""

    params: Float[Tensor, "batch channels height width"]
    z: Float[Tensor, "batch latent"]
    mean: Float[Tensor, "batch latent"]
    log_var: Float[Tensor, "batch latent"]


class VAE(nn.Module):
    """A variational autoencoder with a standard normal prior and a diagonal Gaussian q(z|x).

    `conv_vae` and `dense_vae` build one; pass modules of your own for other networks.

    Parameters
    ----------
    encoder
        Maps ``[batch, channels, height, width]`` to the mean and the log-variance of q(z|x),
        each ``[batch, latent]``.
    decoder
        Maps ``[batch, latent]`` to the parameters of p(x|z).
    likelihood
        The name of p(x|z), which says what those parameters mean.
    image_shape, latent_dim
        Channels, height and width of an image; number of latent dimensions.
    config
        How to build this model again; `save` needs it, and the builders fill it in.

    References
    ----------
    Kingma & Welling, *Auto-Encoding Variational Bayes*, 2013.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        image_shape: ImageShape,
        latent_dim: int,
        likelihood: str = "bernoulli",
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.likelihood = _named("likelihood", likelihood, LIKELIHOODS)()
        self.image_shape, self.latent_dim, self.config = image_shape, latent_dim, config

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.parameters()).device

    def encode(
        self, x: Tensor
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Return the mean and the log-variance of q(z|x), each ``[batch, latent]``.

        Raises
        ------
        ValueError
            Unless `x` is a floating-point tensor ``[batch, *image_shape]``.
        """
        if x.shape[1:] != self.image_shape or not x.is_floating_point():
            expected = ", ".join(str(n) for n in self.image_shape)
            raise ValueError(
                f"x: expected floating-point pixels of shape [batch, {expected}], "
                f"got {str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
            )
        mean, log_var = self.encoder(x)
        return mean, log_var

    def reparameterize(
        self, mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch latent"]:
        """Draw z ~ q(z|x) as mean + std · noise, through which gradients flow (eq. 4)."""
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def decode(self, z: Float[Tensor, "batch latent"]) -> Tensor:
        """Return the parameters of p(x|z): for a Bernoulli likelihood, logits of pixels."""
        params: Tensor = self.decoder(z)
        return params

    def forward(self, x: Tensor) -> Output:
        """Encode images, draw one code each, decode it."""
        mean, log_var = self.encode(x)
        z = self.reparameterize(mean, log_var)
        return Output(self.decode(z), z, mean, log_var)

    @torch.no_grad()
    def sample(self, n: int = 64) -> Float[Tensor, "n channels height width"]:
        """Decode `n` draws from the prior to their expected pixels in [0, 1]."""
        with eval_mode(self):
            z = torch.randn(n, self.latent_dim, device=self.device)
            return self.likelihood.mean(self.decode(z))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Float[Tensor, "batch channels height width"]:
        """Decode the posterior means of images to their expected pixels in [0, 1]."""
        with eval_mode(self):
            mean, _ = self.encode(x.to(self.device))
            return self.likelihood.mean(self.decode(mean))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with batch norm on its running statistics, then restore the mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def conv_vae(
    image_shape: ImageShape, latent_dim: int, *, width: int = 28, likelihood: str = "bernoulli"
) -> VAE:
    """Build a convolutional VAE for images of any size from 16 to 128 pixels a side.

    For 1×28×28 these are the layers of the R original: four strided convolutions with batch
    norm down, four transposed convolutions up.

    Parameters
    ----------
    image_shape, latent_dim
        Channels, height and width of an image; number of latent dimensions.
    width
        Channels after the first convolution; the others have 2, 4 and 8 times as many.
    likelihood
        The name of p(x|z): ``"bernoulli"``.

    Raises
    ------
    ValueError
        For sizes that cannot be built, or an unknown likelihood.

    Examples
    --------
    >>> model = conv_vae((1, 28, 28), latent_dim=2)
    >>> model.sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = _check_shape(image_shape, smallest=16, largest=128)
    check_positive(latent_dim=latent_dim, width=width)
    shared = {"image_shape": image_shape, "latent_dim": latent_dim, "likelihood": likelihood}
    return VAE(
        conv_encoder(image_shape, latent_dim, width),
        conv_decoder(image_shape, latent_dim, width),
        **shared,
        config={"builder": "conv_vae", "width": width} | shared,
    )


def dense_vae(
    image_shape: ImageShape,
    latent_dim: int,
    *,
    hidden: Sequence[int] = (500, 500),
    activation: str = "softplus",
    likelihood: str = "bernoulli",
) -> VAE:
    """Build a VAE of fully connected layers, for images of any size.

    Parameters
    ----------
    image_shape, latent_dim, likelihood
        As for `conv_vae`.
    hidden
        Sizes of the encoder's hidden layers; the decoder has them in reverse.
    activation
        One of ``relu``, ``leaky_relu``, ``softplus``, ``tanh``, ``gelu``.

    Raises
    ------
    ValueError
        For sizes that are not positive, or an unknown activation or likelihood.

    Examples
    --------
    >>> model = dense_vae((1, 28, 28), latent_dim=20)
    >>> model.reconstruct(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = _check_shape(image_shape, smallest=1, largest=math.inf)
    check_positive(latent_dim=latent_dim, **{f"hidden[{i}]": n for i, n in enumerate(hidden)})
    _named("activation", activation, ACTIVATIONS)
    shared = {"image_shape": image_shape, "latent_dim": latent_dim, "likelihood": likelihood}
    return VAE(
        dense_encoder(image_shape, latent_dim, hidden, activation),
        dense_decoder(image_shape, latent_dim, hidden[::-1], activation),
        **shared,
        config={"builder": "dense_vae", "hidden": tuple(hidden), "activation": activation} | shared,
    )


BUILDERS = {"conv_vae": conv_vae, "dense_vae": dense_vae}


def build(config: dict[str, Any]) -> VAE:
    """Build the model that a `VAE.config` describes; a ValueError says what does not fit."""
    arguments = dict(config)
    builder = _named("builder", arguments.pop("builder", None), BUILDERS)
    try:
        model: VAE = builder(**arguments)
    except TypeError as error:
        raise ValueError(f"config: expected arguments of {config['builder']}, {error}") from None
    return model


def check_positive(**sizes: Any) -> None:
    """Raise a ValueError that names the first argument which is no positive whole number."""
    for name, size in sizes.items():
        if not (isinstance(size, int) and size > 0):
            raise ValueError(f"{name}: expected a positive whole number, got {size!r}")


def _check_shape(image_shape: Any, smallest: int, largest: float) -> ImageShape:
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"image_shape: expected (channels, height, width), got {image_shape!r}")
    if not all(smallest <= side <= largest for side in shape[1:]):
        raise ValueError(
            f"image_shape: expected height and width from {smallest} to {largest}, "
            f"got {shape[1]}×{shape[2]}; load(…, image_size=…) resizes images"
        )
    return shape


def _named(argument: str, name: Any, choices: dict[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {name!r}")
    return choices[name]
