"""Codes and what they decode to: draws, traversals, paths."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaebook.data.images import as_images, minibatches
from vaebook.vae import VAE, check_positive, eval_mode


@torch.no_grad()
def posterior(
    model: VAE, images: Any
) -> tuple[Float[Tensor, "images latent"], Float[Tensor, "images latent"]]:
    """Return mean and standard deviation of q(z|x) for each image, on the CPU."""
    images = as_images(images)
    with eval_mode(model):
        parts = [model.encode(x) for x in minibatches(images, 500, device=model.device)]
    mean, log_var = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
    return mean, (0.5 * log_var).exp()


def embed(model: VAE, images: Any) -> Float[np.ndarray, "images latent"]:
    """Return the posterior means of images: the points of a latent scatter plot.

    Raises
    ------
    ValueError
        For images that do not fit the model.
    """
    return posterior(model, images)[0].numpy()


def reconstruct(model: VAE, images: Any) -> Float[Tensor, "images channels height width"]:
    """Return what the posterior means of images decode to, in [0, 1], on the CPU."""
    return decode(model, posterior(model, images)[0])


@torch.no_grad()
def decode(
    model: VAE, z: Float[Tensor, "codes latent"]
) -> Float[Tensor, "codes channels height width"]:
    """Return the expected pixels of codes, in [0, 1], on the CPU, in eval mode."""
    with eval_mode(model):
        parts = [
            model.likelihood.mean(model.decode(part.to(model.device))) for part in z.split(500)
        ]
    return torch.cat(parts).float().cpu()


def sample_prior(model: VAE, n: int = 64, seed: int = 0) -> Float[Tensor, "n latent"]:
    """Draw codes from the prior N(0, I)."""
    return torch.randn(n, model.latent_dim, generator=torch.Generator().manual_seed(seed))


def sample_posterior(model: VAE, images: Any, seed: int = 0) -> Float[Tensor, "images latent"]:
    """Draw one code for each image from q(z|x): together, draws from the aggregate posterior."""
    mean, std = posterior(model, images)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    return mean + std * noise


@dataclass(frozen=True)
class Traversal:
    """Decoded images on a grid of codes, and where the grid lies."""

    images: Float[Tensor, "rows columns channels height width"]
    """The top row has the largest value of the second dimension, as in a plot."""
    values: Float[np.ndarray, " columns"]
    """Latent values along both axes, ascending."""
    dims: tuple[int, int]
    spacing: str


def traversal(
    model: VAE,
    *,
    steps: int = 8,
    spacing: Literal["quantiles", "equal"] = "quantiles",
    limit: float = 8.0,
    dims: tuple[int, int] = (0, 1),
) -> Traversal:
    """Decode a square grid over two latent dimensions, the others staying 0.

    Parameters
    ----------
    model
        A model with at least two latent dimensions.
    steps
        Images along each axis.
    spacing
        ``"quantiles"`` cuts the prior into `steps` parts of equal mass along each axis and
        takes the middle of each; ``"equal"`` takes equal steps from ``-limit`` to ``limit``.
    limit
        The outermost value of ``"equal"``.
    dims
        The dimension along x and the one along y.

    Raises
    ------
    ValueError
        For an unknown spacing or dimensions that the model lacks.
    """
    check_positive(steps=steps)
    if spacing not in ("quantiles", "equal"):
        raise ValueError(f"spacing: expected 'quantiles' or 'equal', got {spacing!r}")
    if len(set(dims)) != 2 or not all(0 <= dim < model.latent_dim for dim in dims):
        raise ValueError(
            f"dims: expected two different dimensions below {model.latent_dim}, got {dims}"
        )
    values = torch.linspace(-limit, limit, steps)
    if spacing == "quantiles":
        values = torch.special.ndtri((torch.arange(steps) + 0.5) / steps)
    z = torch.zeros(steps, steps, model.latent_dim)
    z[..., dims[0]] = values
    z[..., dims[1]] = values.flip(0)[:, None]
    grid = decode(model, z.flatten(0, 1)).unflatten(0, (steps, steps))
    return Traversal(grid, values.numpy(), dims, spacing)


def interpolate(
    model: VAE, start: Any, end: Any, steps: int = 11
) -> Float[Tensor, "steps channels height width"]:
    """Decode equal steps on the straight line between the posterior means of two images.

    Parameters
    ----------
    model
        Any model.
    start, end
        `Images` of one image each, such as ``data.test[3]``.
    steps
        Images on the way, both ends included.

    Raises
    ------
    ValueError
        For other than one image at either end.
    """
    check_positive(steps=steps)
    ends = [posterior(model, image)[0] for image in (start, end)]
    if any(len(mean) != 1 for mean in ends):
        raise ValueError(
            f"start, end: expected one image each, got {len(ends[0])} and {len(ends[1])}"
        )
    return decode(model, torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps)[:, None]))
