"""The VQ-VAE: a code is a grid of words, each of which stands for a vector of one codebook.

Chapter *Codes that are words* trains one.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaebook.checks import ImageShape, as_image_shape, at_least_0, is_whole, positive, wrong
from vaebook.models.likelihoods import ImageBatch, batch_mean
from vaebook.models.networks import Codes, Maps, Residual, residual_blocks
from vaebook.models.registry import register
from vaebook.models.vae import VAE, Draws

MEMORY = 0.95  # of the moving averages: about twenty steps
DEAD = 0.1  # of what a word would be used if all were used alike
Vectors = Float[Tensor, "batch places dim"]
Words = Int[Tensor, "batch places"]


class Codebook(nn.Module):
    """The vectors that words stand for: means of the encoder's outputs that are nearest to them.

    In training they are moving averages (van den Oord et al. 2017, app. A.1). A word hardly used
    for 50 steps takes half of a frequent one, beside whose vector it goes on (Linde et al. 1980).
    """

    vectors: Float[Tensor, "words dim"]
    counts: Float[Tensor, " words"]
    sums: Float[Tensor, "words dim"]

    def __init__(self, words: int, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("vectors", torch.randn(words, dim))
        self.register_buffer("counts", torch.ones(words))  # uses of each word in an image
        self.register_buffer("sums", self.vectors.clone())  # of the outputs that it stood for

    def forward(self, z: Codes) -> Maps:
        """Return the vectors of words on their grid."""
        return self.vectors[z.long()].transpose(1, 2).unflatten(2, self.grid)

    def nearest(self, h: Vectors) -> Words:
        """Return the word of the vector which is nearest to each output of the encoder."""
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 has too few digits for these
            return (self.vectors.square().sum(1) - 2 * h @ self.vectors.T).argmin(-1)

    @torch.no_grad()
    def learn(self, h: Vectors, words: Words) -> None:
        """Move the vectors towards the means of the outputs that are nearest to them."""
        hot = F.one_hot(words, len(self.counts)).to(h)
        with torch.autocast(h.device.type, enabled=False):
            outputs = hot.transpose(1, 2) @ h
        self.counts.lerp_(batch_mean(hot.sum(1), 0), 1 - MEMORY)
        self.sums.lerp_(batch_mean(outputs, 0), 1 - MEMORY)
        order, half = self.counts.argsort(), len(self.counts) // 2
        rare, frequent = order[:half], order.flip(0)[:half]
        dead = self.counts[rare] < DEAD * self.counts.mean()
        both, twice = torch.cat([rare, frequent]), dead.repeat(2)
        share, sums = self.counts[frequent] / 2, self.sums[frequent] / 2
        shift = 0.01 * share[:, None] * self.vectors.std(0)
        self.counts[both] = share.repeat(2).where(twice, self.counts[both])
        split = torch.cat([sums + shift, sums - shift])
        self.sums[both] = split.where(twice[:, None], self.sums[both])
        used = self.counts[:, None] > 1e-12  # else neither sum nor count has digits left
        self.vectors.copy_(torch.where(used, self.sums / self.counts[:, None], self.vectors))


class QuantizedOutput(NamedTuple):
    """What one pass of a `VQVAE` computes."""

    params: ImageBatch
    z: Codes
    kls: Codes  #: the price of each word in nats, whose gradient is the commitment's


class VQVAE(VAE):
    """A VAE whose codes are words: whole numbers, one for each place of a grid.

    Van den Oord, Vinyals & Kavukcuoglu, *Neural Discrete Representation Learning*, 2017. q(z|x) is
    certain of one code, the words of the codebook's vectors that are nearest to the encoder's
    outputs. The prior is uniform, so that KL(q(z|x) ‖ p(z)) is log(words) for each place, whatever
    the image: the ELBO is exact, and the same at each draw.

    The gradient goes from a vector straight on to the encoder's output in its place. That of the
    KL, which has none, is the commitment's: it draws outputs to their vectors. So what weighs the
    KL weighs the commitment. The vectors are no parameters, but buffers, which a pass in training
    mode moves.

    `encode` returns the words as floating-point numbers, and log-variances of -inf; `decode` takes
    such numbers, and raises a ValueError for any that is no word. As a prior it takes
    ``vaebook.priors.Autoregressive``. Paths and grids of codes, which are for vectors, raise a
    ValueError. `networks` are an encoder to maps and a decoder as `vq_vae` builds them, which
    begins with the codebook; `commitment` is at least 0; `image_shape` and `likelihood` are as for
    `VAE`.

    >>> import vaebook as vb
    >>> model = vb.vq_vae((1, 8, 8), codebook=16, width=4)
    >>> vb.embed(model, torch.rand(5, 1, 8, 8)).shape
    (5, 4)
    """

    decoder: nn.Sequential

    def __init__(self, *networks: nn.Module, commitment: float = 0.25, **options: Any) -> None:
        at_least_0(commitment=commitment)
        places = math.prod(networks[1][0].grid)  # type: ignore[index]
        super().__init__(*networks, latent_dim=places, **options)
        self.commitment = float(commitment)

    @property
    def codebook(self) -> Codebook:
        """The vectors that words stand for."""
        return self.decoder[0]  # type: ignore[return-value]

    def quantize(self, x: Tensor) -> tuple[Vectors, Words]:
        """Return the encoder's outputs for images, place by place, and the nearest words."""
        self.check(x)
        h = self.encoder(x).to(x.dtype).flatten(2).transpose(1, 2)
        return h, self.codebook.nearest(h)

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Return the words of images, and -inf; a ValueError if images do not fit the model."""
        _, words = self.quantize(x)
        return words.float(), torch.full_like(words, -math.inf, dtype=torch.float32)

    def decode(self, z: Codes) -> Tensor:
        """Return the parameters of p(x|z), such as logits; a ValueError for what is no word."""
        if not torch.compiler.is_compiling():  # in which no code can be looked at
            check_words("z", z, len(self.codebook.counts))
        return self.decoder(z).to(self.dtype)

    def forward(self, x: Tensor) -> QuantizedOutput:  # type: ignore[override]
        """Encode images, take the nearest words, decode these."""
        h, words = self.quantize(x)
        nearest = self.codebook.vectors[words]
        vectors = h + (nearest - h).detach()  # whose gradient is the decoder's, and goes to h
        params = self.decoder[1:](vectors.transpose(1, 2).unflatten(2, self.codebook.grid))
        away = self.commitment * (h - nearest).square().sum(2)
        if self.training:
            self.codebook.learn(h, words)
        kls = math.log(len(self.codebook.counts)) + away - away.detach()
        return QuantizedOutput(params.to(x.dtype), words.to(x.dtype), kls)

    def draw(self, x: Tensor, draws: int, *, path_only: bool = False) -> Draws:
        """Return the log-densities at so many draws, all alike; a ValueError for `path_only`."""
        if path_only:
            raise wrong("path_only", "False for codes that are words", True)
        params, z, kls = self(x)
        likelihood, prior = self.likelihood.log_prob(params, x), -kls.sum(1)
        found = likelihood, prior, torch.zeros_like(prior), z
        return Draws(*(part.expand(draws, *part.shape) for part in found))

    def draw_prior(self, n: int, dtype: Any = None, **how: Any) -> Codes:
        """Draw `n` codes from the uniform prior, in float32, whatever the `dtype`."""
        return torch.randint(len(self.codebook.counts), (n, self.latent_dim), **how).float()

    def take(self, z: Codes) -> Codes:
        """Return codes on the model's device; fewer digits would change words."""
        return z.to(self.device)

    def check_prior(self, prior: Any) -> None:
        """Raise a ValueError for a prior that is not of these words on this grid."""
        grid, words = self.codebook.grid, len(self.codebook.counts)
        of = getattr(prior, "grid", None), getattr(prior, "codebook", None)
        if of != (grid, words):
            got = type(prior).__name__ if of == (None, None) else f"{of[1]} words on {of[0]}"
            raise wrong("prior", f"one of {words} words on a grid of {grid}", got)


def check_words(name: str, z: Tensor, words: int) -> None:
    """Raise a ValueError for numbers that are no words."""
    odd = ~((z == z.round()) & (z >= 0) & (z < words))
    if odd.any():
        raise wrong(name, f"words, whole numbers from 0 to {words - 1}", z[odd][0].item())


def need_vectors(model: VAE) -> None:
    """Raise a ValueError for a model whose codes are words, which lie on no line."""
    if isinstance(model, VQVAE):
        raise wrong("model", "one whose codes are vectors", type(model).__name__)


@register
def vq_vae(
    image_shape: ImageShape, codes: Any = None, codebook: int = 64, *, dim: int = 16,
    width: int = 32, residual: int = 1, commitment: float = 0.25, likelihood: Any = "bernoulli",
) -> VQVAE:  # fmt: skip
    """Build a VQ-VAE of convolutions, whose codes are words on a grid.

    Convolutions of stride 2 bring an image down to the grid, and transposed ones up again.
    Chapter *Codes that are words* explains it. Raises a ValueError for sizes that cannot be built,
    or an unknown likelihood.

    Parameters
    ----------
    image_shape
        Channels, height and width of an image.
    codes
        Rows and columns of the grid: height and width divided by 2, 4, 8 or a higher power of 2;
        by default by 4.
    codebook, dim
        The number of words, at least 2, and of the dimensions of their vectors.
    width, residual
        Channels of all maps; residual blocks on the grid, before it and after it, up to 100 each.
    commitment
        The weight of what draws the encoder's outputs to the vectors of words, at least 0.
    likelihood
        p(x|z), as for `VAE`.

    Examples
    --------
    >>> model = vq_vae((1, 28, 28), codes=(7, 7), codebook=64)
    >>> model.latent_dim, model.sample(3).shape
    (49, torch.Size([3, 1, 28, 28]))
    """
    shape = as_image_shape(image_shape)
    positive(dim=dim, width=width)
    count = residual_blocks(residual)
    if not is_whole(codebook, least=2):
        raise wrong("codebook", "a whole number, 2 or more", repr(codebook))
    grid, halvings = as_grid(shape, codes)
    channels = [shape[0], *[width] * halvings]
    blocks = [Residual(width) for _ in range(2 * count)]
    down: list[nn.Module] = []
    for into, out in pairwise(channels):
        down += [nn.Conv2d(into, out, 4, 2, 1), nn.BatchNorm2d(out), nn.LeakyReLU()]
    down += [*blocks[:count], nn.Conv2d(width, dim, 1)]
    up: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1), *blocks[count:]]
    for into, out in pairwise(channels[::-1]):
        up += [nn.BatchNorm2d(into), nn.LeakyReLU()]
        up.append(nn.ConvTranspose2d(into, out, 4, 2, 1, bias=False))
    decoder = nn.Sequential(Codebook(int(codebook), int(dim), grid), *up)
    options = {"commitment": commitment, "likelihood": likelihood}
    return VQVAE(nn.Sequential(*down), decoder, image_shape=shape, **options)


def as_grid(shape: ImageShape, codes: Any) -> tuple[tuple[int, int], int]:
    """Return rows and columns of the grid, and how often sides are halved on the way to it."""
    sides = shape[1:]
    grid = [*codes] if isinstance(codes, Iterable) else [s // 4 for s in sides if codes is None]
    if all(map(is_whole, grid)):
        for halvings in range(1, min(sides).bit_length()):
            if [side / 2**halvings for side in sides] == grid:
                return (int(grid[0]), int(grid[1])), halvings
    wanted = f"rows and columns that are {sides[0]} and {sides[1]} halved as often, once or more"
    raise wrong("codes", wanted, repr(codes))
