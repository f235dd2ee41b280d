"""The convolutional VAE of the book's first chapter, for images of any size."""

import math
from itertools import pairwise
from typing import Any

from torch import nn

from vaebook.checks import ImageShape, as_image_shape, positive
from vaebook.models.networks import Encoder, Residual, residual_blocks
from vaebook.models.registry import register
from vaebook.models.vae import VAE


@register
def conv_vae(
    image_shape: ImageShape, latent_dim: int, *, width: int = 28, residual: int = 0,
    likelihood: Any = "bernoulli",
) -> VAE:  # fmt: skip
    """Build a convolutional VAE for images of any size from 16 to 128 pixels a side.

    For 1×28×28 these are the layers of the R original: four strided convolutions with batch
    norm down, four transposed convolutions up. Chapter *A first VAE* writes them out. Raises a
    ValueError for sizes that cannot be built, or an unknown likelihood.

    Parameters
    ----------
    image_shape, latent_dim
        Channels, height and width of an image; number of latent dimensions.
    width
        Channels after the first convolution; the others make 2, 4 and 8 times as many.
    residual
        Residual blocks after each convolution of the encoder, and after each but the last of the
        decoder, up to 100: slower, and sharper.
    likelihood
        p(x|z), as for `VAE`.

    Examples
    --------
    >>> conv_vae((1, 28, 28), latent_dim=2).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    shape = as_image_shape(image_shape, smallest=16, largest=128)
    positive(latent_dim=latent_dim, width=width)
    blocks = residual_blocks(residual)
    encoder = conv_encoder(shape, latent_dim, int(width), blocks)
    decoder = conv_decoder(shape, latent_dim, int(width), blocks)
    return VAE(encoder, decoder, image_shape=shape, latent_dim=latent_dim, likelihood=likelihood)


def conv_encoder(shape: ImageShape, latent_dim: int, width: int, residual: int) -> Encoder:
    """Build four 3×3 convolutions of stride 2: channels double, sides halve and are rounded up.

    For 1×28×28 and width 28: [28, 14, 14] → [56, 7, 7] → [112, 4, 4] → [224, 2, 2] → 896.
    """
    layers: list[nn.Module] = []
    for into, out in pairwise([shape[0], width, 2 * width, 4 * width, 8 * width]):
        layers.append(nn.Conv2d(into, out, kernel_size=3, stride=2, padding=1))
        layers += [nn.BatchNorm2d(out), nn.LeakyReLU()]
        layers += [Residual(out) for _ in range(residual)]
    features = 8 * width * math.prod(math.ceil(side / 16) for side in shape[1:])
    return Encoder(nn.Sequential(*layers, nn.Flatten()), features, latent_dim)


def conv_decoder(shape: ImageShape, latent_dim: int, width: int, residual: int) -> nn.Sequential:
    """Build a linear layer and four 4×4 transposed convolutions up to the image's size.

    For 1×28×28 and width 28: [224, 1, 1] → [112, 4, 4] → [56, 8, 8] → [28, 14, 14] → [1, 28, 28].
    Other sizes are planned backwards by `upsampling_sizes`, and the padding of each layer follows.
    No convolution has a bias: batch norm brings its own, and the last follows the R original.
    """
    sizes = list(zip(*map(upsampling_sizes, shape[1:]), strict=True))
    channels = [8 * width, 4 * width, 2 * width, width, shape[0]]
    first = (channels[0], *sizes[0])
    layers: list[nn.Module] = [nn.Linear(latent_dim, math.prod(first)), nn.Unflatten(1, first)]
    for i, (into, out) in enumerate(pairwise(channels)):
        if i > 0:
            layers += [nn.BatchNorm2d(into), nn.LeakyReLU()]
            layers += [Residual(into) for _ in range(residual)]
        stride = 2 if i > 0 else 1
        surplus = [stride * (a - 1) + 4 - b for a, b in zip(*sizes[i : i + 2], strict=True)]
        padding: Any = [math.ceil(n / 2) for n in surplus]
        extra: Any = [n % 2 for n in surplus]
        layers.append(nn.ConvTranspose2d(into, out, 4, stride, padding, extra, bias=False))
    return nn.Sequential(*layers)


def upsampling_sizes(side: int) -> list[int]:
    """Plan the side lengths of the decoder's five maps, the last being `side`.

    Going backwards each side is halved and rounded up to an even number; the first layer,
    of stride 1, widens its input by 3 (or by 1, where only 2 pixels are wanted).

    >>> upsampling_sizes(28), upsampling_sizes(64), upsampling_sizes(17)
    ([1, 4, 8, 14, 28], [5, 8, 16, 32, 64], [1, 4, 6, 10, 17])
    """
    sizes = [side]
    for _ in range(3):
        sizes.insert(0, 2 * math.ceil(sizes[0] / 4))
    return [max(sizes[0] - 3, 1), *sizes]
