"""The VAE of fully connected layers."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from vaebook.checks import ImageShape, as_image_shape, choose, positive
from vaebook.models.networks import ACTIVATIONS, Encoder, dense
from vaebook.models.registry import register
from vaebook.models.vae import VAE


@register
def dense_vae(
    image_shape: ImageShape, latent_dim: int, *, hidden: Sequence[int] = (500, 500),
    activation: str = "softplus", likelihood: Any = "bernoulli",
) -> VAE:  # fmt: skip
    """Build a VAE of fully connected layers, for images of any size.

    Raises a ValueError for sizes that are not positive, or an unknown name.

    Parameters
    ----------
    image_shape, latent_dim, likelihood
        As for `conv_vae`.
    hidden, activation
        Sizes of the encoder's hidden layers, which the decoder has in reverse, and what follows
        each of them: ``relu``, ``leaky_relu``, ``softplus``, ``tanh`` or ``gelu``.

    Examples
    --------
    >>> import torch
    >>> dense_vae((1, 28, 28), latent_dim=20).reconstruct(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 1, 28, 28])
    """
    shape = check_dense(image_shape, hidden, activation, latent_dim=latent_dim)
    sizes = [math.prod(shape), *hidden]
    body = nn.Sequential(nn.Flatten(), *dense(sizes, activation))
    encoder = Encoder(body, sizes[-1], latent_dim)
    decoder = dense_decoder([latent_dim, *hidden[::-1]], activation, shape)
    return VAE(encoder, decoder, image_shape=shape, latent_dim=latent_dim, likelihood=likelihood)


def dense_decoder(sizes: Sequence[int], activation: str, shape: ImageShape) -> nn.Sequential:
    """Build the layers from a code to the parameters of p(x|z), of the images' shape."""
    layers = [*dense(sizes, activation), nn.Linear(sizes[-1], math.prod(shape))]
    return nn.Sequential(*layers, nn.Unflatten(1, shape))


def check_dense(image_shape: Any, hidden: Any, activation: Any, **sizes: Any) -> ImageShape:
    """Return the image shape for a model of dense layers; a ValueError names what does not fit."""
    positive(**sizes, **{f"hidden[{i}]": n for i, n in enumerate(hidden)})
    choose("activation", activation, ACTIVATIONS)
    return as_image_shape(image_shape)
