"""The ladder VAE: codes in levels, from the gist of an image at the top to its strokes below.

Chapter *Beyond one layer* trains one.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaebook.checks import ImageShape, is_whole, one_each, positive, wrong
from vaebook.models.dense import check_dense
from vaebook.models.likelihoods import ImageBatch
from vaebook.models.networks import ACTIVATIONS, Codes, eval_mode
from vaebook.models.registry import register
from vaebook.models.vae import VAE, Draws, log_normal

Sizes = tuple[int, ...]  # of each level, z_1 first


class Normal(NamedTuple):
    """A diagonal Gaussian over codes for each image."""

    mean: Codes
    log_var: Codes

    def draw(self) -> Codes:
        """Return mean + std · noise, through which gradients flow."""
        return self.mean + (0.5 * self.log_var).exp() * torch.randn_like(self.mean)


def kl_normal(q: Normal, p: Normal) -> Codes:
    """Return KL(`q` ‖ `p`) of each image and latent dimension, in nats.

    Both are a ``vaebook.models.ladder.Normal``: means and log-variances, ``[batch, latent]``.

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

    def __init__(self, into: int, size: int, activation: str) -> None:
        super().__init__()
        layers = (nn.Linear(n, size, bias=False) for n in (into, size))  # batch norm has biases
        self.first, self.second = (nn.Sequential(layer, nn.BatchNorm1d(size)) for layer in layers)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Float[Tensor, "batch into"]) -> Float[Tensor, "batch size"]:
        """Return the features of the second layer."""
        h = self.activation(self.first(x))
        return self.activation(h + self.second(h))


class LadderEncoder(nn.Module):
    """The way up, without noise: what an image says of the codes of each level."""

    def __init__(self, inputs: int, codes: Sizes, hidden: Sizes, activation: str) -> None:
        super().__init__()
        blocks = (Block(*sizes, activation) for sizes in pairwise((inputs, *hidden)))
        heads = (nn.Linear(size, 2 * z) for size, z in zip(hidden, codes, strict=True))
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)

    def forward(self, x: ImageBatch) -> tuple[Codes, Codes]:
        """Return means and log-variances of all levels side by side, z_1 first."""
        h, found = x.flatten(1), []
        for block, head in zip(self.blocks, self.heads, strict=True):
            h = block(h)
            found.append(head(h).chunk(2, 1))
        means, log_vars = (torch.cat(levels, 1) for levels in zip(*found, strict=True))
        return means, log_vars


class LadderDecoder(nn.Module):
    """The way down: from each level a network to the prior of the one below, or to the pixels."""

    def __init__(self, shape: ImageShape, codes: Sizes, hidden: Sizes, activation: str) -> None:
        super().__init__()
        below = (math.prod(shape), *(2 * z for z in codes[:-1]))
        networks = [
            nn.Sequential(Block(z, size, activation), nn.Linear(size, out))
            for z, size, out in zip(codes, hidden, below, strict=True)
        ]
        networks[0].append(nn.Unflatten(1, shape))
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

    >>> model = ladder_vae((1, 8, 8), latent_dims=(4, 2), hidden=(16, 8))
    >>> model(torch.rand(3, 1, 8, 8)).kls.shape
    torch.Size([3, 6])
    """

    decoder: LadderDecoder

    def __init__(self, *networks: nn.Module, latent_dims: Sequence[int], **options: Any) -> None:
        super().__init__(*networks, latent_dim=latent_dims[-1], **options)
        self.latent_dims = tuple(map(int, latent_dims))

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z_L|x); a ValueError if images do not fit the model."""
        said = self.say(x)
        return said.mean[:, -self.latent_dim :], said.log_var[:, -self.latent_dim :]

    def say(self, x: Tensor) -> Normal:
        """Return what an image says of the codes of all levels, before their priors are known."""
        return Normal(*super().encode(x))

    def _infer(self, x: Tensor, pick: Callable[..., Codes], draws: int = 1) -> LadderOutput:
        """Go up, and down `draws` times; `pick` gives codes by level, posterior and prior."""
        parts = (part.repeat(draws, 1).split(self.latent_dims, 1) for part in self.say(x))
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
        return self._infer(x, lambda i, q, p: q.draw())

    def draw(self, x: Tensor, draws: int, *, path_only: bool = False) -> Draws:
        """Draw so many codes of all levels for each image and return the log-densities there.

        Raises a ValueError for `path_only`: the gradient of Tucker et al. 2019 is for one level.
        """
        if path_only:
            raise wrong("path_only", "False for codes in levels", True)
        params, z, q, p = self._infer(x, lambda i, q, p: q.draw(), draws)
        likelihood = self.likelihood.log_prob(params, x.repeat(draws, 1, 1, 1))
        found = likelihood, log_normal(z, *p), log_normal(z, *q), z
        return Draws(*(part.unflatten(0, (draws, len(x))) for part in found))

    def average(self, x: Tensor) -> Codes:
        """Return the posterior means of all levels, each given those above it, z_1 first."""
        return self._infer(x, lambda i, q, p: q.mean).z

    def autoencode(self, x: Tensor) -> ImageBatch:
        """Decode the posterior means of all levels to expected pixels in [0, 1]."""
        return self.likelihood.mean(self._infer(x, lambda i, q, p: q.mean).params)

    @torch.no_grad()
    def variations(self, x: Tensor, keep: int, n: int = 8) -> Float[Tensor, "batch n _ _ _"]:
        """Return `n` images for each of x that share the codes of its upper levels.

        `keep` levels, counted from the top, have their posterior means, those below are drawn from
        their priors: with 0 all is new, with all of them all are the reconstruction. Returns
        expected pixels in [0, 1]; raises a ValueError for numbers of which there are none.
        """
        positive(n=n)
        if not (is_whole(keep, 0) and keep <= len(self.latent_dims)):
            raise wrong("keep", f"0 to {len(self.latent_dims)} levels", keep)
        redrawn = len(self.latent_dims) - keep
        x, pick = x.to(self.device), lambda i, q, p: p.draw() if i < redrawn else q.mean
        with eval_mode(self):
            output = self._infer(x, pick, n)
        return self.likelihood.mean(output.params).unflatten(0, (n, len(x))).transpose(0, 1)


@register
def ladder_vae(
    image_shape: ImageShape, latent_dims: Sequence[int] = (64, 32, 16, 8), *,
    hidden: Sequence[int] = (512, 256, 128, 64), activation: str = "leaky_relu",
    likelihood: Any = "bernoulli",
) -> LadderVAE:  # fmt: skip
    """Build a ladder VAE of fully connected layers, for images of any size.

    As in the paper each level has two hidden layers with batch norm on the way up and two on the
    way down, and the pixels see z_1 alone. In short runs on MNIST adding the second layer to the
    first gained a little; a path down beside the codes, as of Kingma et al. 2016, gained nothing.
    `latent_dims` and `hidden` have the latent dimensions of each level, z_1 first, and the size of
    its hidden layers; `image_shape`, `activation` and `likelihood` are as for `dense_vae`. Raises a
    ValueError for sizes that are not positive or not one for each level, and for an unknown name.

    >>> ladder_vae((1, 28, 28)).variations(torch.rand(3, 1, 28, 28), keep=2, n=5).shape
    torch.Size([3, 5, 1, 28, 28])
    """
    one_each("hidden", hidden, len(latent_dims), "levels")
    codes = {f"latent_dims[{i}]": n for i, n in enumerate(latent_dims)}
    shape = check_dense(image_shape, hidden, activation, levels=len(hidden), **codes)
    layers = tuple(map(int, latent_dims)), tuple(map(int, hidden)), activation
    up, down = LadderEncoder(math.prod(shape), *layers), LadderDecoder(shape, *layers)
    return LadderVAE(up, down, image_shape=shape, latent_dims=latent_dims, likelihood=likelihood)
