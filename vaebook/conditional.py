"""The conditional VAE: for each label a model of its own, all of which share their networks."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaebook import networks
from vaebook.data.images import labelled_minibatches, minibatches
from vaebook.likelihoods import ImageBatch, as_likelihood
from vaebook.networks import Codes, ImageShape
from vaebook.vae import BUILDERS, VAE, check_dense


class WithLabels(nn.Module):
    """A network whose input is flattened and followed by labels, one-hot."""

    def __init__(self, network: nn.Module, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.network, self.labels, self.classes = network, labels, classes

    def forward(self, given: ImageBatch | Float[Tensor, "batch latent"]) -> Any:
        """Return the network's output; the labels begin anew where there are more inputs."""
        rounds, left = divmod(len(given), len(self.labels))
        if left:
            some = f"one label, or as many as divide {len(given)} images or codes"
            raise ValueError(f"labels: expected {some}, got {len(self.labels)}")
        flat = given.flatten(1)
        hot = F.one_hot(self.labels, self.classes).to(flat).repeat(rounds, 1)
        return self.network(torch.cat([flat, hot], 1))


class ConditionalVAE(VAE):
    """A VAE of p(x|y), given labels y of images x (Sohn, Lee & Yan 2015).

    Encoder and decoder see the label; the prior of z is N(0, I) whatever it is, so that a code
    holds what the label does not tell. `fit`, `evaluate`, `log_likelihood`, `embed` and
    `reconstruct` take the labels from `Images`. For all else ``model.given(7)`` is a `VAE`.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, classes: int, **options: Any
    ) -> None:
        super().__init__(encoder, decoder, **options)
        self.classes = classes

    def given(self, labels: Any) -> VAE:
        """Return the model given a label, or one label for each image or code.

        It shares its networks with this model. Fewer labels than codes begin anew, so that
        ``model.given(range(10)).sample(50)`` goes through ten classes five times. Raises a
        ValueError for labels that are not whole numbers from 0 to `classes` - 1.
        """
        labels = torch.atleast_1d(torch.as_tensor(labels))
        if labels.is_floating_point() or labels.ndim != 1 or not len(labels):
            raise ValueError(f"labels: expected whole numbers in a row, got {labels}")
        low, high = labels.min().item(), labels.max().item()
        if not 0 <= low <= high < self.classes:
            wanted = f"labels from 0 to {self.classes - 1}"
            raise ValueError(f"labels: expected {wanted}, got some from {low} to {high}")
        labels = labels.long().to(self.device)
        parts = (WithLabels(part, labels, self.classes) for part in (self.encoder, self.decoder))
        shared: Any = dict(image_shape=self.image_shape, latent_dim=self.latent_dim)
        return VAE(*parts, **shared, likelihood=self.likelihood).train(self.training)

    def encode(self, x: Tensor) -> tuple[Codes, Codes]:
        """Raise a ValueError: there is no q(z|x) without a label."""
        raise ValueError("labels: expected those of a conditional model, as model.given(labels)")

    def decode(self, z: Codes) -> Tensor:
        """Raise a ValueError: there is no p(x|z) without a label."""
        raise ValueError("labels: expected those of a conditional model, as model.given(labels)")


def batches(
    model: VAE, images: Any, batch_size: int, **options: Any
) -> Iterator[tuple[VAE, ImageBatch]]:
    """Yield model and input, batch after batch: a `ConditionalVAE` comes given their labels.

    `images`, `batch_size` and the other options are those of `minibatches`.
    """
    if not isinstance(model, ConditionalVAE):
        yield from ((model, x) for x in minibatches(images, batch_size, **options))
        return
    for x, labels in labelled_minibatches(images, batch_size, **options):
        if labels is None:
            raise ValueError("images: expected labels, for a conditional model, got none")
        yield model.given(labels), x


def conditional_vae(
    image_shape: ImageShape, latent_dim: int, *, classes: int, hidden: Sequence[int] = (500, 500),
    activation: str = "softplus", likelihood: Any = "bernoulli",
) -> ConditionalVAE:  # fmt: skip
    """Build a VAE of fully connected layers that are given the class of an image.

    Parameters
    ----------
    image_shape, latent_dim, hidden, activation, likelihood
        As for `dense_vae`.
    classes
        The number of labels, which go from 0 to one less.

    Raises
    ------
    ValueError
        For sizes that are not positive, or an unknown name.

    Examples
    --------
    >>> model = conditional_vae((1, 28, 28), latent_dim=20, classes=10)
    >>> model.given(7).sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    image_shape = check_dense(
        image_shape, hidden, activation, latent_dim=latent_dim, classes=classes
    )
    likelihood = as_likelihood(likelihood)
    shared: Any = dict(image_shape=image_shape, latent_dim=latent_dim, classes=classes)
    config = dict(builder="conditional_vae", hidden=tuple(hidden), activation=activation)
    config |= dict(likelihood=likelihood.spec, **shared)
    down, up = networks.dense_layers(image_shape, hidden, activation)
    encoder = networks.encoder(down, (math.prod(image_shape) + classes,), latent_dim)
    decoder = networks.decoder(up, image_shape, latent_dim + classes)
    return ConditionalVAE(encoder, decoder, **shared, likelihood=likelihood, config=config)


BUILDERS["conditional_vae"] = conditional_vae
