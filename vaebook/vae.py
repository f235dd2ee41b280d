"""The variational autoencoder: encode → reparameterize → decode."""

import math
from collections.abc import Sequence, Sized
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaebook import networks
from vaebook.layers import summary
from vaebook.likelihoods import ImageBatch, as_likelihood
from vaebook.networks import Codes, ImageShape, eval_mode

DrawsOfBatch = Float[Tensor, "draws batch"]


def kl_per_dimension(mean: Codes, log_var: Codes) -> Codes:
    """Return KL(N(mean, exp(log_var)) ‖ N(0, 1)) of each image and latent dimension, in nats."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def log_normal(
    z: Float[Tensor, "draws batch latent"],
    mean: Float[Tensor, "#draws batch latent"] | Codes,
    log_var: Float[Tensor, "#draws batch latent"] | Codes,
) -> DrawsOfBatch:
    """Return log N(z; mean, exp(log_var)), summed over the latent dimensions, in nats."""
    squares = (z - mean).square() * (-log_var).exp()
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


class Output(NamedTuple):
    """What one pass of a `VAE` computes; `params` are those of p(x|z), such as logits."""

    params: ImageBatch
    z: Codes
    mean: Codes
    log_var: Codes

    @property
    def kls(self) -> Codes:
        """KL(q(z|x) ‖ p(z)) of each image and latent dimension, in nats."""
        return kl_per_dimension(self.mean, self.log_var)


class Draws(NamedTuple):
    """Log-densities at draws z ~ q(z|x), in nats: what bounds on log p(x) are made of."""

    likelihood: DrawsOfBatch  # log p(x|z)
    prior: DrawsOfBatch  # log p(z)
    posterior: DrawsOfBatch  # log q(z|x)
    z: Float[Tensor, "draws batch latent"]

    @property
    def log_weights(self) -> DrawsOfBatch:
        """The logarithms of the importance weights p(x, z) / q(z|x)."""
        return self.likelihood + self.prior - self.posterior


class VAE(nn.Module):
    """A variational autoencoder with a standard normal prior and a diagonal Gaussian q(z|x).

    Kingma & Welling, *Auto-Encoding Variational Bayes*, 2013. `conv_vae`, `dense_vae` and
    `layered_vae` build one; pass modules of your own for other networks. ``print(model)`` shows
    its layers, their outputs and their parameters.

    Parameters
    ----------
    encoder, decoder
        From images ``[batch, channels, height, width]`` to mean and log-variance of q(z|x),
        each ``[batch, latent]``; from codes ``[batch, latent]`` to the parameters of p(x|z).
    image_shape, latent_dim, likelihood
        Channels, height and width; number of latent dimensions; p(x|z) by its name
        (``"bernoulli"``, ``"continuous_bernoulli"``, ``"gaussian"``, ``"discretized_logistic"``)
        or as an object such as ``vaebook.likelihoods.Gaussian(sigma=0.1)``.
    config
        How to build this model again; `save` needs it, and the builders fill it in.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, image_shape: ImageShape, latent_dim: int,
        likelihood: Any = "bernoulli", config: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.likelihood = as_likelihood(likelihood)
        self.image_shape, self.latent_dim, self.config = image_shape, latent_dim, config

    def __str__(self) -> str:
        return repr(summary(self))

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.parameters()).device

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z|x); a ValueError if images do not fit the model."""
        if x.shape[1:] != self.image_shape or not x.is_floating_point():
            wanted = ", ".join(["batch", *(str(n) for n in self.image_shape)])
            given = f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
            raise ValueError(f"x: expected floating-point pixels of shape [{wanted}], got {given}")
        # Under autocast networks return bfloat16; exponentials, sums and losses need more digits.
        mean, log_var = (output.to(x.dtype) for output in self.encoder(x))
        return mean, log_var

    def reparameterize(
        self, mean: Float[Tensor, "*batch latent"], log_var: Float[Tensor, "*batch latent"]
    ) -> Float[Tensor, "*batch latent"]:
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
        shape = (draws, *mean.shape)
        z = self.reparameterize(mean.expand(shape), log_var.expand(shape))
        params = self.decode(z.flatten(0, 1))
        images = x.expand(draws, *x.shape).flatten(0, 1)
        likelihood = self.likelihood.log_prob(params, images).unflatten(0, (draws, len(x)))
        if path_only:
            mean, log_var = mean.detach(), log_var.detach()
        nothing = torch.zeros_like(mean)
        posterior = log_normal(z, mean, log_var)
        return Draws(likelihood, log_normal(z, nothing, nothing), posterior, z)

    @torch.no_grad()
    def sample(self, n: int = 64) -> ImageBatch:
        """Decode `n` draws from the prior to their expected pixels in [0, 1]."""
        check_positive(n=n)
        with eval_mode(self):
            z = torch.randn(n, self.latent_dim, device=self.device)
            return self.likelihood.mean(self.decode(z))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> ImageBatch:
        """Decode the posterior means of images to their expected pixels in [0, 1]."""
        with eval_mode(self):
            mean, _ = self.encode(x.to(self.device))
            return self.likelihood.mean(self.decode(mean))


def conv_vae(
    image_shape: ImageShape, latent_dim: int, *, width: int = 28, residual: int = 0,
    likelihood: Any = "bernoulli",
) -> VAE:  # fmt: skip
    """Build a convolutional VAE for images of any size from 16 to 128 pixels a side.

    For 1×28×28 these are the layers of the R original: four strided convolutions with batch
    norm down, four transposed convolutions up.

    Parameters
    ----------
    image_shape, latent_dim
        Channels, height and width of an image; number of latent dimensions.
    width
        Channels after the first convolution; the others make 2, 4 and 8 times as many.
    residual
        Residual blocks after each convolution of the encoder, and after each but the last of the
        decoder: slower, and sharper.
    likelihood
        p(x|z), as for `VAE`.

    Raises
    ------
    ValueError
        For sizes that cannot be built, or an unknown likelihood.

    Examples
    --------
    >>> conv_vae((1, 28, 28), latent_dim=2).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = check_shape(image_shape, smallest=16, largest=128)
    check_positive(latent_dim=latent_dim, width=width)
    if not (isinstance(residual, int) and residual >= 0):
        raise ValueError(f"residual: expected a whole number, 0 or more, got {residual!r}")
    likelihood = as_likelihood(likelihood)
    shared: Any = dict(image_shape=image_shape, latent_dim=latent_dim)
    config = dict(builder="conv_vae", width=width, likelihood=likelihood.spec, **shared)
    config |= dict(residual=residual) if residual else {}
    return _assemble(
        *networks.conv_layers(image_shape, width, residual), likelihood, config, shared
    )


def dense_vae(
    image_shape: ImageShape, latent_dim: int, *, hidden: Sequence[int] = (500, 500),
    activation: str = "softplus", likelihood: Any = "bernoulli",
) -> VAE:  # fmt: skip
    """Build a VAE of fully connected layers, for images of any size.

    Parameters
    ----------
    image_shape, latent_dim, likelihood
        As for `conv_vae`.
    hidden, activation
        Sizes of the encoder's hidden layers, which the decoder has in reverse, and what follows
        each of them: ``relu``, ``leaky_relu``, ``softplus``, ``tanh`` or ``gelu``.

    Raises
    ------
    ValueError
        For sizes that are not positive, or an unknown name.

    Examples
    --------
    >>> dense_vae((1, 28, 28), latent_dim=20).reconstruct(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = check_dense(image_shape, hidden, activation, latent_dim=latent_dim)
    likelihood = as_likelihood(likelihood)
    shared: Any = dict(image_shape=image_shape, latent_dim=latent_dim)
    config = dict(builder="dense_vae", hidden=tuple(hidden), activation=activation)
    config |= dict(likelihood=likelihood.spec, **shared)
    down, up = networks.dense_layers(image_shape, hidden, activation)
    return _assemble(down, up, likelihood, config, shared)


def layered_vae(
    image_shape: ImageShape, latent_dim: int, *, encoder: networks.Layers,
    decoder: networks.Layers, likelihood: Any = "bernoulli",
) -> VAE:  # fmt: skip
    """Build a VAE from two lists of layers, which JSON can hold and a checkpoint keeps.

    A layer is a dict with a ``kind``:

    * ``dense``: `size`, the number of features; images are flattened for it;
    * ``conv``: `channels`, `kernel` (3), `stride` (1), `padding` (0), `norm` for batch norm;
    * ``transposed_conv``: the same with `kernel` 4, and `output_padding` (0);
    * ``pool``: the maximum over squares of `size` (2) pixels;
    * ``residual``: two convolutions with batch norm, whose output is added to the input;
    * ``reshape``: features seen as maps of a `shape`, [channels, height, width].

    All but the last three also take ``bias`` (true), and all an `activation`: ``relu``,
    ``leaky_relu``, ``softplus``, ``tanh`` or ``gelu``.

    Parameters
    ----------
    image_shape, latent_dim, likelihood
        As for `conv_vae`.
    encoder, decoder
        From an image to the features on which mean and log-variance of q(z|x) stand, two linear
        layers that are added; from a code to the parameters of p(x|z), of the image's shape.

    Raises
    ------
    ValueError
        For a layer that does not fit: which one, what comes in, and what is expected.

    Examples
    --------
    >>> down = [{"kind": "dense", "size": 500, "activation": "softplus"}]
    >>> up = [*down, {"kind": "dense", "size": 784}, {"kind": "reshape", "shape": [1, 28, 28]}]
    >>> layered_vae((1, 28, 28), 20, encoder=down, decoder=up).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = check_shape(image_shape, smallest=1, largest=math.inf)
    check_positive(latent_dim=latent_dim)
    likelihood = as_likelihood(likelihood)
    shared: Any = dict(image_shape=image_shape, latent_dim=latent_dim)
    config = dict(builder="layered_vae", encoder=[*encoder], decoder=[*decoder])
    config |= dict(likelihood=likelihood.spec, **shared)
    return _assemble(encoder, decoder, likelihood, config, shared)


def _assemble(
    down: networks.Layers, up: networks.Layers, likelihood: Any, config: Any, shared: Any
) -> VAE:
    encoder, decoder = networks.encoder(down, **shared), networks.decoder(up, **shared)
    return VAE(encoder, decoder, **shared, likelihood=likelihood, config=config)


BUILDERS = {"conv_vae": conv_vae, "dense_vae": dense_vae, "layered_vae": layered_vae}


def build(config: dict[str, Any]) -> VAE:
    """Build the model that a `VAE.config` describes; a ValueError says what does not fit."""
    # JSON has made lists of the tuples.
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    builder = choose("builder", arguments.pop("builder", None), BUILDERS)
    try:
        model: VAE = builder(**arguments)
    except TypeError as error:
        raise ValueError(f"config: expected arguments of {config['builder']}, {error}") from None
    return model


def choose(argument: str, name: Any, choices: dict[str, Any]) -> Any:
    """Return the choice of that name, or raise a ValueError that lists all names."""
    if name not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {name!r}")
    return choices[name]


def check_positive(**sizes: Any) -> None:
    """Raise a ValueError that names the first argument which is no positive whole number."""
    for name, size in sizes.items():
        if not (isinstance(size, int) and size > 0):
            raise ValueError(f"{name}: expected a positive whole number, got {size!r}")


def check_count(name: str, given: Sized, count: int, of: str) -> None:
    """Raise a ValueError unless there is one entry `given` for each of so many images or codes."""
    if len(given) != count:
        raise ValueError(f"{name}: expected one for each of {count} {of}, got {len(given)}")


def check_dense(
    image_shape: Any, hidden: Sequence[int], activation: str, **sizes: Any
) -> ImageShape:
    """Return the image shape for a model of dense layers; a ValueError names what does not fit."""
    image_shape = check_shape(image_shape, smallest=1, largest=math.inf)
    check_positive(**sizes, **{f"hidden[{i}]": n for i, n in enumerate(hidden)})
    choose("activation", activation, networks.ACTIVATIONS)
    return image_shape


def check_shape(image_shape: Any, smallest: int, largest: float) -> ImageShape:
    """Return (channels, height, width), or raise a ValueError that says what does not fit."""
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"image_shape: expected (channels, height, width), got {image_shape!r}")
    if not all(smallest <= side <= largest for side in shape[1:]):
        raise ValueError(
            f"image_shape: expected height and width from {smallest} to {largest}, "
            f"got {shape[1]}×{shape[2]}; load(…, image_size=…) resizes images"
        )
    return shape
