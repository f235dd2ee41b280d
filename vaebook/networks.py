"""Encoders and decoders for images of any channels × height × width.

An encoder maps images to the mean and the log-variance of q(z|x); a decoder maps codes to the
parameters of p(x|z). Neither knows of the loss.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from vaebook.likelihoods import ImageBatch

ImageShape = tuple[int, int, int]
Pair = tuple[int, int]
Codes = Float[Tensor, "batch latent"]
Maps = Float[Tensor, "_ _ _ _"]  # batch × channels × height × width, before or after a layer

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "softplus": nn.Softplus, "tanh": nn.Tanh,
    "gelu": nn.GELU,
}  # fmt: skip


class Encoder(nn.Module):
    """A body that ends in a flat vector, and two linear heads on it."""

    def __init__(self, body: nn.Module, features: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)

    def forward(self, x: ImageBatch) -> tuple[Codes, Codes]:
        """Return the mean and the log-variance of q(z|x)."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)


class Conv2dBeforeNorm(nn.Conv2d):
    """A convolution whose bias takes no gradient in training, where batch norm subtracts it."""

    def forward(self, input: Maps) -> Maps:
        """Return what `nn.Conv2d` does."""
        bias = self.bias.detach() if self.training and self.bias is not None else self.bias
        return self._conv_forward(input, self.weight, bias)


class PointTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of one pixel, as the matrix product it is: several times faster."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels 1 1"]
    ) -> Float[Tensor, "batch out side side"]:
        """Return ``[batch, out_channels, kernel, kernel]`` for ``[batch, in_channels, 1, 1]``."""
        return (x.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])


class FewTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution to so few channels that one matrix product and a sum are faster."""

    def forward(self, x: Maps) -> Maps:  # type: ignore[override]
        """Return what `nn.ConvTranspose2d` does, in the precision of the weights."""
        return _ProductAndSum.apply(x, self.weight, self.stride, self.padding, self.output_padding)


class _ProductAndSum(torch.autograd.Function):
    """Each pixel times the kernel, then the sum where kernels overlap; gradients as usual."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, extra: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = dict(stride=stride, padding=padding)
        kernel = weight.shape[2:]
        sides = zip(x.shape[2:], stride, padding, kernel, extra, strict=True)
        size = tuple((n - 1) * s - 2 * p + k + e for n, s, p, k, e in sides)
        products = (weight.flatten(1).T @ x.flatten(2)).to(weight.dtype)
        return F.fold(products, size, kernel, padding=padding, stride=stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        to_x = F.conv2d(gradient, weight.to(x.dtype), **ctx.how)
        to_weight = conv2d_weight(gradient, weight.shape, x, **ctx.how).to(weight.dtype)
        return to_x, to_weight, None, None, None


def conv_encoder(image_shape: ImageShape, latent_dim: int, width: int = 28) -> Encoder:
    """Stack four 3×3 convolutions of stride 2, each with batch norm and leaky ReLU.

    The channels double from layer to layer, the sides halve and are rounded up: for
    1×28×28 and width 28, [28, 14, 14] → [56, 7, 7] → [112, 4, 4] → [224, 2, 2] → 896 features.
    """
    widths = [image_shape[0], width, 2 * width, 4 * width, 8 * width]
    layers: list[nn.Module] = []
    for into, out in pairwise(widths):
        convolution = Conv2dBeforeNorm(into, out, kernel_size=3, stride=2, padding=1)
        layers += [convolution, nn.BatchNorm2d(out), nn.LeakyReLU(0.01, inplace=True)]
    features = widths[-1] * math.prod(math.ceil(side / 16) for side in image_shape[1:])
    return Encoder(nn.Sequential(*layers, nn.Flatten()), features, latent_dim)


def conv_decoder(image_shape: ImageShape, latent_dim: int, width: int = 28) -> nn.Sequential:
    """Stack a linear layer and four 4×4 transposed convolutions up to the image's size.

    For 1×28×28 and width 28: [224, 1, 1] → [112, 4, 4] → [56, 8, 8] → [28, 14, 14] →
    [1, 28, 28]. Other sizes are planned backwards from the image by `upsampling_sizes`, and
    the padding of each layer follows. No convolution has a bias: batch norm brings its own,
    and the last layer follows the R original.
    """
    sizes = list(zip(*(upsampling_sizes(side) for side in image_shape[1:]), strict=True))
    widths = [8 * width, 4 * width, 2 * width, width, image_shape[0]]
    features = widths[0] * math.prod(sizes[0])
    layers = [nn.Linear(latent_dim, features), nn.Unflatten(1, (widths[0], *sizes[0]))]
    for i, (into, out) in enumerate(pairwise(widths)):
        stride = 1 if i == 0 else 2
        plan = [_padding(*sides, stride) for sides in zip(sizes[i], sizes[i + 1], strict=True)]
        padding, extra = zip(*plan, strict=True)
        kind = nn.ConvTranspose2d
        if sizes[i] == (1, 1) and padding == (0, 0):
            kind = PointTranspose2d
        elif out <= 4:
            kind = FewTranspose2d
        layers.append(kind(into, out, 4, stride, padding, extra, bias=False))
        if i < 3:
            layers += [nn.BatchNorm2d(out), nn.LeakyReLU(0.01, inplace=True)]
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


def _padding(into: int, out: int, stride: int) -> tuple[int, int]:
    """Return padding and output padding that make `into` pixels `out` by a 4×4 kernel."""
    surplus = stride * (into - 1) + 4 - out
    padding = math.ceil(surplus / 2)
    return padding, 2 * padding - surplus


def dense_encoder(
    image_shape: ImageShape, latent_dim: int, hidden: Sequence[int], activation: str
) -> Encoder:
    """Stack fully connected layers of the `hidden` sizes on the flattened image."""
    widths = [math.prod(image_shape), *hidden]
    body = nn.Sequential(nn.Flatten(), *_dense_layers(widths, activation))
    return Encoder(body, widths[-1], latent_dim)


def dense_decoder(
    image_shape: ImageShape, latent_dim: int, hidden: Sequence[int], activation: str
) -> nn.Sequential:
    """Stack fully connected layers of the `hidden` sizes, then one to the image's shape."""
    widths = [latent_dim, *hidden]
    layers = _dense_layers(widths, activation)
    layers += [nn.Linear(widths[-1], math.prod(image_shape)), nn.Unflatten(1, image_shape)]
    return nn.Sequential(*layers)


def _dense_layers(widths: list[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for into, out in pairwise(widths):
        layers += [nn.Linear(into, out), ACTIVATIONS[activation]()]
    return layers
