"""The VAE of two lists of layers, which JSON can hold: an architecture as configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import nn

from vaebook.checks import ImageShape, as_image_shape, is_whole, positive, wrong
from vaebook.models.networks import ACTIVATIONS, Encoder, Residual, eval_mode
from vaebook.models.registry import plain, register
from vaebook.models.vae import VAE

Shape = tuple[int, ...]  # of one image or feature vector, without the batch
Sides = Any  # a whole number for height and width, or one for each
Layers = Sequence[Mapping[str, Any]]


@register
def layered_vae(
    image_shape: ImageShape, latent_dim: int, *, encoder: Layers,
    decoder: Layers, likelihood: Any = "bernoulli",
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
    ``leaky_relu``, ``softplus``, ``tanh`` or ``gelu``. Raises a ValueError for a layer that does
    not fit: which one, what comes in, and what is expected.

    Parameters
    ----------
    image_shape, latent_dim, likelihood
        As for `conv_vae`.
    encoder, decoder
        From an image to the features on which mean and log-variance of q(z|x) stand, two linear
        layers that are added; from a code to the parameters of p(x|z), of the image's shape.

    Examples
    --------
    >>> down = [{"kind": "dense", "size": 500, "activation": "softplus"}]
    >>> up = [*down, {"kind": "dense", "size": 784}, {"kind": "reshape", "shape": [1, 28, 28]}]
    >>> layered_vae((1, 28, 28), 20, encoder=down, decoder=up).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    shape = as_image_shape(image_shape)
    positive(latent_dim=latent_dim)
    body, features = stack("encoder", encoder, shape)
    if len(features) > 1:
        body.append(nn.Flatten())
    down = Encoder(body, math.prod(features), latent_dim)
    up, out = stack("decoder", decoder, (latent_dim,))
    if out != shape:
        raise wrong("decoder", f"to end in {_times(shape)}", _times(out))
    return VAE(down, up, image_shape=shape, latent_dim=latent_dim, likelihood=likelihood)


def _dense(into: Shape, /, *, size: int, bias: bool = True) -> list[nn.Module]:
    flatten: list[nn.Module] = [nn.Flatten()] * (len(into) > 1)
    return [*flatten, nn.Linear(math.prod(into), size, bias)]


def _reshape(into: Shape, /, *, shape: Sequence[int]) -> list[nn.Module]:
    if into != (math.prod(shape),):
        raise ValueError(f"{_times(shape)} has {math.prod(shape)} features")
    return [nn.Unflatten(1, tuple(shape))]


def _pool(into: Shape, /, *, size: int = 2) -> list[nn.Module]:
    return [nn.MaxPool2d(size)]


def _residual(into: Shape, /) -> list[nn.Module]:
    return [Residual(into[0])]


def _conv(
    into: Shape, /, *, channels: int, kernel: int = 3, stride: int = 1, padding: Sides = 0,
    bias: bool = True, norm: bool = False,
) -> list[nn.Module]:  # fmt: skip
    layer = nn.Conv2d(into[0], channels, kernel, stride, padding, bias=bias)
    return [layer, *[nn.BatchNorm2d(channels)] * norm]


def _transposed_conv(
    into: Shape, /, *, channels: int, kernel: int = 4, stride: int = 1, padding: Sides = 0,
    output_padding: Sides = 0, bias: bool = True, norm: bool = False,
) -> list[nn.Module]:  # fmt: skip
    sizes = kernel, stride, padding, output_padding
    layer = nn.ConvTranspose2d(into[0], channels, *sizes, bias=bias)
    return [layer, *[nn.BatchNorm2d(channels)] * norm]


KINDS: dict[str, Callable[..., list[nn.Module]]] = {
    "dense": _dense, "conv": _conv, "transposed_conv": _transposed_conv, "pool": _pool,
    "reshape": _reshape, "residual": _residual,
}  # fmt: skip


def _wholes(values: Any, count: int, least: int) -> bool:
    listed = isinstance(values, list | tuple) and len(values) == count
    return listed and all(is_whole(n, least) for n in values)


# What a layer's keys may be: a test, and words for it.
FLAG = (lambda value: isinstance(value, bool), "true or false")
SIDES = (
    lambda value: is_whole(value, 0) or _wholes(value, 2, 0),
    "a whole number, or one for height and one for width",
)
RULES: dict[str, tuple[Callable[..., bool], str]] = {
    "bias": FLAG, "norm": FLAG, "padding": SIDES, "output_padding": SIDES,
    "shape": (lambda value: _wholes(value, 3, 1), "[channels, height, width]"),
    "activation": (lambda value: value in [None, *ACTIVATIONS], f"one of {', '.join(ACTIVATIONS)}"),
}  # fmt: skip


def stack(name: str, layers: Layers, shape: Shape) -> tuple[nn.Sequential, Shape]:
    """Build the modules that a list of layers describes; return them and the shape that leaves.

    Raises a ValueError that tells which layer of the list called `name` does not fit, and why.

    >>> stack("encoder", [{"kind": "conv", "channels": 4}, {"kind": "pool"}], (1, 28, 28))[1]
    (4, 13, 13)
    """
    network = nn.Sequential()
    for i, layer in enumerate(layers):
        place = f"{name}[{i}]"
        if not isinstance(layer, Mapping) or layer.get("kind") not in [*KINDS]:
            raise wrong(place, f"a dict whose kind is one of {', '.join(KINDS)}", repr(layer))
        keys = plain(layer)
        build = KINDS[keys.pop("kind")]
        for key, value in keys.items():
            fits, wanted = RULES.get(key, (is_whole, "a positive whole number"))
            if not fits(value):
                raise wrong(place, f"{wanted} as its {key}", repr(value))
        activation = keys.pop("activation", None)
        try:
            built = nn.Sequential(*build(shape, **keys))
            with torch.no_grad(), eval_mode(built):
                out = built(torch.zeros(1, *shape))
            if not out.numel():  # which only some layers refuse themselves
                raise ValueError(f"{_times(out.shape[1:])} would leave it")
        except TypeError:
            _, *known = signature(build).parameters
            wanted = f"a {layer['kind']} layer by {', '.join([*known, 'activation'])}"
            raise wrong(place, wanted, repr(layer)) from None
        except (RuntimeError, ValueError) as error:
            wanted = "features" if build is _reshape else "channels × height × width"
            got = f"{_times(shape)} ({error})".partition("\n")[0]
            raise wrong(place, f"{wanted} that suit {layer}", got) from None
        shape = tuple(out.shape[1:])
        network.extend(built)
        if activation:
            network.append(ACTIVATIONS[activation]())
    return network, shape


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} features"
