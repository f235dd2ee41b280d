"""The conditional VAE: for each label a model of its own, all of which share their networks.

Chapter *Beyond one layer* trains one.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebook.checks import ImageShape, wrong
from vaebook.models.dense import check_dense, dense_decoder
from vaebook.models.likelihoods import ImageBatch
from vaebook.models.networks import Codes, Encoder, dense
from vaebook.models.registry import register
from vaebook.models.vae import VAE


class WithLabels(nn.Module):
    """A network whose input is flattened and followed by labels, one-hot."""

    def __init__(self, network: nn.Module, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.network, self.labels, self.classes = network, labels, classes

    def forward(self, given: ImageBatch | Codes) -> Any:
        """Return the network's output; the labels begin anew where there are more inputs."""
        count = given.shape[0]  # an export follows this, and no len or divmod
        rounds, left = count // len(self.labels), count % len(self.labels)
        if left:
            some = f"one label, or as many as divide {len(given)} images or codes"
            raise wrong("labels", some, len(self.labels))
        flat = given.flatten(1)
        hot = F.one_hot(self.labels, self.classes).to(flat)
        return self.network(torch.cat([flat, hot.repeat(rounds, 1)], 1))


class ConditionalVAE(VAE):
    """A VAE of p(x|y), given labels y of images x (Sohn, Lee & Yan 2015).

    Encoder and decoder see the label; the prior of z is N(0, I) whatever it is, so that a code
    holds what the label does not tell. `fit`, `evaluate`, `log_likelihood`, `embed` and
    `reconstruct` take the labels from `Images`. For all else ``model.given(7)`` is a `VAE`. The
    labels go from 0 to `classes` - 1; the other arguments are those of `VAE`.

    >>> model = conditional_vae((1, 8, 8), latent_dim=2, classes=10)
    >>> model.given(range(10)).sample(50).shape
    torch.Size([50, 1, 8, 8])
    """

    def __init__(self, *networks: nn.Module, classes: int, **options: Any) -> None:
        super().__init__(*networks, **options)
        self.classes = int(classes)

    def given(self, labels: Any = None) -> VAE:
        """Return the model given a label, or one label for each image or code.

        It shares its networks with this model. Fewer labels than codes begin anew, so that
        ``model.given(range(10)).sample(50)`` goes through ten classes five times. Raises a
        ValueError for labels that are not whole numbers from 0 to `classes` - 1.
        """
        if labels is None:
            raise wrong("labels", "those of the images, as in model.given(labels)", "none")
        labels = torch.atleast_1d(torch.as_tensor(labels))
        if labels.is_floating_point() or labels.ndim != 1 or not len(labels):
            raise wrong("labels", "whole numbers in a row", labels)
        low, high = labels.min().item(), labels.max().item()
        if not 0 <= low <= high < self.classes:
            raise wrong("labels", f"labels from 0 to {self.classes - 1}", f"{low} to {high}")
        labels = labels.long().to(self.device, non_blocking=True)
        parts = (WithLabels(part, labels, self.classes) for part in (self.encoder, self.decoder))
        shape: Any = dict(image_shape=self.image_shape, latent_dim=self.latent_dim)
        model = VAE(*parts, **shape, likelihood=self.likelihood)
        model.training = self.training  # not by `train`, which would reach the shared networks
        return model

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Raise a ValueError: there is no q(z|x) without a label."""
        return self.given().encode(x)

    def decode(self, z: Codes) -> Tensor:
        """Raise a ValueError: there is no p(x|z) without a label."""
        return self.given().decode(z)


@register
def conditional_vae(
    image_shape: ImageShape, latent_dim: int, *, classes: int, hidden: Sequence[int] = (500, 500),
    activation: str = "softplus", likelihood: Any = "bernoulli",
) -> ConditionalVAE:  # fmt: skip
    """Build a VAE of fully connected layers that are given the class of an image.

    There are so many `classes`, whose labels go from 0 to one less. `image_shape`, `latent_dim`,
    `hidden`, `activation` and `likelihood` are as for `dense_vae`. Raises a ValueError for sizes
    that are not positive, or an unknown name.

    >>> model = conditional_vae((1, 28, 28), latent_dim=20, classes=10)
    >>> model.given(7).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    sizes: Any = dict(latent_dim=latent_dim, classes=classes)
    shape = check_dense(image_shape, hidden, activation, **sizes)
    inputs = [math.prod(shape) + classes, *hidden]
    encoder = Encoder(nn.Sequential(*dense(inputs, activation)), inputs[-1], latent_dim)
    decoder = dense_decoder([latent_dim + classes, *hidden[::-1]], activation, shape)
    return ConditionalVAE(encoder, decoder, image_shape=shape, likelihood=likelihood, **sizes)
