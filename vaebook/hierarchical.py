"""The ladder VAE: codes in levels, from the gist of an image at the top to its strokes below."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaebook.data.images import minibatches
from vaebook.devices import seeded
from vaebook.likelihoods import ImageBatch, as_likelihood
from vaebook.networks import ACTIVATIONS, Codes, ImageShape, eval_mode
from vaebook.training import prepare
from vaebook.vae import (
    BUILDERS,
    VAE,
    Draws,
    check_count,
    check_positive,
    check_shape,
    choose,
    log_normal,
)

Sizes = tuple[int, ...]  # of each level, z_1 first


class Normal(NamedTuple):
    """A diagonal Gaussian over codes for each image."""

    mean: Codes
    log_var: Codes

    def draw(self) -> Codes:
        """Return mean + std · noise, through which gradients flow."""
        return self.mean + (0.5 * self.log_var).exp() * torch.randn_like(self.mean)


def kl_normal(q: Normal, p: Normal) -> Codes:
    """Return KL(q ‖ p) of each image and latent dimension, in nats.

    >>> zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    >>> kl_normal(Normal(one, zero), Normal(-one, zero))
    tensor([[2.]])
    """
    wider = q.log_var - p.log_var
    return 0.5 * ((q.mean - p.mean).square() * (-p.log_var).exp() + wider.exp() - 1 - wider)


def combine(q: Normal, p: Normal) -> Normal:
    """Add the precisions of Gaussians, weigh means by them (Sønderby et al. 2016, eq. 17-19)."""
    share = (p.log_var - q.log_var).sigmoid()  # of q's precision; nothing here can overflow
    return Normal(p.mean.lerp(q.mean, share), -torch.logaddexp(-q.log_var, -p.log_var))


class Block(nn.Module):
    """Two dense layers with batch norm, the second of which is added to the first."""

    def __init__(self, into: int, size: int, activation: type[nn.Module]) -> None:
        super().__init__()
        layers = (nn.Linear(n, size, bias=False) for n in (into, size))  # batch norm has biases
        self.first, self.second = (nn.Sequential(layer, nn.BatchNorm1d(size)) for layer in layers)
        self.activation = activation()

    def forward(self, x: Float[Tensor, "batch into"]) -> Float[Tensor, "batch size"]:
        """Return the features of the second layer."""
        h = self.activation(self.first(x))
        return self.activation(h + self.second(h))


class LadderEncoder(nn.Module):
    """The way up, without noise: what an image says of the codes of each level."""

    def __init__(self, inputs: int, latent_dims: Sizes, hidden: Sizes, activation: Any) -> None:
        super().__init__()
        blocks = (Block(*sizes, activation) for sizes in pairwise((inputs, *hidden)))
        heads = (nn.Linear(size, 2 * z) for size, z in zip(hidden, latent_dims, strict=True))
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)

    def forward(self, x: ImageBatch) -> tuple[Codes, Codes]:
        """Return means and log-variances of all levels side by side, z_1 first."""
        h, found = x.flatten(1), []
        for block, head in zip(self.blocks, self.heads, strict=True):
            h = block(h)
            found.append(head(h).chunk(2, 1))
        means, log_vars = zip(*found, strict=True)
        return torch.cat(means, 1), torch.cat(log_vars, 1)


class LadderDecoder(nn.Module):
    """The way down: from each level a network to the prior of the one below, or to the pixels."""

    def __init__(
        self, image_shape: ImageShape, latent_dims: Sizes, hidden: Sizes, activation: Any
    ) -> None:
        super().__init__()
        below = (math.prod(image_shape), *(2 * z for z in latent_dims[:-1]))
        networks = [
            nn.Sequential(Block(z, size, activation), nn.Linear(size, out))
            for z, size, out in zip(latent_dims, hidden, below, strict=True)
        ]
        networks[0].append(nn.Unflatten(1, image_shape))
        self.networks = nn.ModuleList(networks)

    def descend(self, z: Codes, pick: Callable[[int, Normal], Codes]) -> ImageBatch:
        """Decode codes of the top; `pick` gives those of a level, z_1 being 0, by its prior."""
        for i in reversed(range(1, len(self.networks))):
            z = pick(i - 1, Normal(*self.networks[i](z).to(z.dtype).chunk(2, 1)))
        return self.networks[0](z)

    def forward(self, z: Codes) -> ImageBatch:
        """Decode codes of the top, those below being drawn from their priors."""
        return self.descend(z, lambda i, prior: prior.draw())


class LadderOutput(NamedTuple):
    """What one pass of a `LadderVAE` computes: all levels side by side, z_1 first."""

    params: ImageBatch
    z: Codes
    posterior: Normal
    prior: Normal

    @property
    def kls(self) -> Codes:
        """KL(q(z_i|z_i+1, x) ‖ p(z_i|z_i+1)) of each image and latent dimension, in nats."""
        return kl_normal(self.posterior, self.prior)


class LadderVAE(VAE):
    """A VAE with codes in levels, z_1 next to the pixels and z_L at the top.

    Sønderby, Raiko, Maaløe, Sønderby & Winther, *Ladder Variational Autoencoders*, 2016. z_L has
    the prior N(0, I), each other level one that the codes above it give; its posterior is that
    prior combined with what the image says. `latent_dims` has the sizes of all levels, z_1 first.

    `latent_dim`, `encode` and `decode` are those of z_L: `decode` draws the levels below from
    their priors, so that a code decodes to another image each time.
    """

    decoder: LadderDecoder

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, latent_dims: Sizes, **options: Any
    ) -> None:
        super().__init__(encoder, decoder, latent_dim=latent_dims[-1], **options)
        self.latent_dims = latent_dims

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z_L|x); a ValueError if images do not fit the model."""
        mean, log_var = (part[:, -self.latent_dim :] for part in super().encode(x))
        return mean, log_var

    def _infer(
        self, x: Tensor, pick: Callable[[int, Normal, Normal], Codes], draws: int = 1
    ) -> LadderOutput:
        """Go up, and down `draws` times; `pick` gives a level's codes by posterior and prior."""
        parts = (part.repeat(draws, 1).split(self.latent_dims, 1) for part in super().encode(x))
        said = [Normal(*both) for both in zip(*parts, strict=True)]
        top, steps = len(said) - 1, []

        def step(i: int, prior: Normal) -> Codes:
            posterior = said[i] if i == top else combine(said[i], prior)
            steps.append((pick(i, posterior, prior), *posterior, *prior))
            return steps[-1][0]

        nothing = torch.zeros_like(said[top].mean)
        params = self.decoder.descend(step(top, Normal(nothing, nothing)), step).to(x.dtype)
        z, *moments = (torch.cat(level, 1) for level in zip(*steps[::-1], strict=True))
        return LadderOutput(params, z, Normal(*moments[:2]), Normal(*moments[2:]))

    def forward(self, x: Tensor) -> LadderOutput:  # type: ignore[override]
        """Encode images, draw codes of all levels for each, decode them."""
        return self._infer(x, lambda i, posterior, prior: posterior.draw())

    def draw(self, x: Tensor, draws: int, *, path_only: bool = False) -> Draws:
        """Draw so many codes of all levels for each image and return the log-densities there.

        Raises a ValueError for `path_only`: the gradient of Tucker et al. 2019 is for one level.
        """
        if path_only:
            raise ValueError("path_only: expected False for codes in levels, got True")
        output = self._infer(x, lambda i, posterior, prior: posterior.draw(), draws)
        likelihood = self.likelihood.log_prob(output.params, x.repeat(draws, 1, 1, 1))
        moments = (output.z, *output.prior, *output.posterior)
        z, *pairs = (part.unflatten(0, (draws, len(x))) for part in moments)
        prior, posterior = log_normal(z, *pairs[:2]), log_normal(z, *pairs[2:])
        return Draws(likelihood.unflatten(0, (draws, len(x))), prior, posterior, z)

    def reconstruct(self, x: Tensor) -> ImageBatch:
        """Decode the posterior means of all levels to expected pixels in [0, 1]."""
        return self.variations(x, keep=len(self.latent_dims), n=1)[:, 0]

    @torch.no_grad()
    def variations(
        self, x: Tensor, keep: int, n: int = 8
    ) -> Float[Tensor, "batch n channels height width"]:
        """Return `n` images for each of x that share the codes of its upper levels.

        `keep` levels, counted from the top, have their posterior means, and those below are drawn
        from their priors: with 0 all is new, with all levels all are the reconstruction. Returns
        expected pixels in [0, 1]; raises a ValueError for numbers of which there are none.
        """
        check_positive(n=n)
        redrawn = len(self.latent_dims) - keep
        if not 0 <= keep <= len(self.latent_dims):
            raise ValueError(f"keep: expected 0 to {len(self.latent_dims)} levels, got {keep}")
        x, pick = x.to(self.device), lambda i, q, p: p.draw() if i < redrawn else q.mean
        with eval_mode(self):
            output = self._infer(x, pick, n)
        return self.likelihood.mean(output.params).unflatten(0, (n, len(x))).transpose(0, 1)


@torch.no_grad()
def kl_per_level(model: LadderVAE, images: Any, *, seed: int = 0) -> Float[np.ndarray, " levels"]:
    """Return how much of the KL each level has, in nats per image, z_1 first.

    In eval mode, with one draw from `seed` for each of the images, which `as_images` takes.

    >>> kl_per_level(ladder_vae((1, 28, 28)), torch.rand(5, 1, 28, 28)).shape
    (4,)
    """
    images = prepare(images, "images", model, model.device)
    with seeded(model.device, seed, 0), eval_mode(model):
        parts = [model(x).kls.cpu() for x in minibatches(images, 500, device=model.device)]
    levels = torch.cat(parts).double().mean(0).split(model.latent_dims)
    return np.array([level.sum() for level in levels])


def ladder_vae(
    image_shape: ImageShape, latent_dims: Sequence[int] = (64, 32, 16, 8), *,
    hidden: Sequence[int] = (512, 256, 128, 64), activation: str = "leaky_relu",
    likelihood: Any = "bernoulli",
) -> LadderVAE:  # fmt: skip
    """Build a ladder VAE of fully connected layers, for images of any size.

    As in the paper each level has two hidden layers with batch norm on the way up and two on the
    way down, and the pixels see z_1 alone. In short runs on MNIST adding the second layer to the
    first gained a little; a path down beside the codes, as of Kingma et al. 2016, gained nothing.

    Parameters
    ----------
    image_shape, activation, likelihood
        As for `dense_vae`.
    latent_dims, hidden
        Latent dimensions of each level, z_1 first, and the size of its hidden layers.

    Raises
    ------
    ValueError
        For sizes that are not positive or not one for each level, or an unknown name.

    Examples
    --------
    >>> ladder_vae((1, 28, 28)).variations(torch.rand(3, 1, 28, 28), keep=2, n=5).shape
    torch.Size([3, 5, 1, 28, 28])
    """
    image_shape = check_shape(image_shape, smallest=1, largest=math.inf)
    latent_dims, hidden = tuple(latent_dims), tuple(hidden)
    check_count("hidden", hidden, len(latent_dims), "levels")
    for name, sizes in {"latent_dims": latent_dims, "hidden": hidden}.items():
        check_positive(levels=len(sizes), **{f"{name}[{i}]": n for i, n in enumerate(sizes)})
    act = choose("activation", activation, ACTIVATIONS)
    likelihood = as_likelihood(likelihood)
    shared: Any = dict(image_shape=image_shape, latent_dims=latent_dims)
    config = dict(builder="ladder_vae", hidden=hidden, activation=activation)
    config |= dict(likelihood=likelihood.spec, **shared)

    encoder = LadderEncoder(math.prod(image_shape), latent_dims, hidden, act)
    decoder = LadderDecoder(image_shape, latent_dims, hidden, act)
    return LadderVAE(encoder, decoder, **shared, likelihood=likelihood, config=config)


BUILDERS["ladder_vae"] = ladder_vae
