"""Codes and what they decode to: draws, traversals, paths."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vaebook.conditional import batches
from vaebook.data.images import as_images
from vaebook.likelihoods import ImageBatch
from vaebook.networks import Codes, eval_mode
from vaebook.vae import VAE, check_positive


@torch.no_grad()
def posterior(model: VAE, images: Any) -> tuple[Codes, Codes]:
    """Return mean and standard deviation of q(z|x) for each image, on the CPU.

    Here and below `images` is what `as_images` takes, with a ValueError if it does not fit.
    """
    images = as_images(images)
    with eval_mode(model):
        stream = batches(model, images, 500, device=model.device)
        parts = [given.encode(x) for given, x in stream]
    mean, log_var = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
    return mean, (0.5 * log_var).exp()


def embed(model: VAE, images: Any) -> Float[np.ndarray, "images latent"]:
    """Return the posterior means of images: the points of a latent scatter plot."""
    return posterior(model, images)[0].numpy()


def reconstruct(model: VAE, images: Any) -> ImageBatch:
    """Return what the posterior means of images decode to, in [0, 1], on the CPU."""
    stream = batches(model, as_images(images), 500, device=model.device)
    return torch.cat([given.reconstruct(x).float().cpu() for given, x in stream])


@torch.no_grad()
def decode(model: VAE, z: Codes | Float[np.ndarray, "batch latent"]) -> ImageBatch:
    """Return the expected pixels of codes, in [0, 1], on the CPU, in eval mode."""
    with eval_mode(model):
        parts = [model.decode(part.to(model.device)) for part in torch.as_tensor(z).split(500)]
    return model.likelihood.mean(torch.cat(parts)).float().cpu()


def sample_prior(model: VAE, n: int = 64, seed: int = 0) -> Codes:
    """Draw `n` codes from the prior N(0, I)."""
    check_positive(n=n)
    return torch.randn(n, model.latent_dim, generator=torch.Generator().manual_seed(seed))


def sample_posterior(model: VAE, images: Any, seed: int = 0) -> Codes:
    """Draw one code for each image from q(z|x): together, draws from the aggregate posterior."""
    mean, std = posterior(model, images)
    return mean + std * sample_prior(model, len(mean), seed)


def sample_density(
    model: VAE, images: Any, n: int = 64, *, kind: Literal["mixture", "kernel"] = "mixture",
    components: int = 10, seed: int = 0,
) -> Codes:  # fmt: skip
    """Draw `n` codes from a density fitted to the codes of images, one from each q(z|x).

    Where these codes together are not like the prior, such codes decode better (Ghosh et al.
    2020, sec. 4). ``"mixture"`` is one of so many Gaussians with full covariances, ``"kernel"`` has
    a Gaussian at each code, as wide as Scott's rule has it: best in few dimensions. Both are
    scikit-learn's. Raises a ValueError for another kind, or fewer images than components.
    """
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import KernelDensity

    check_positive(n=n, components=components)
    if kind not in ("mixture", "kernel"):
        raise ValueError(f"kind: expected 'mixture' or 'kernel', got {kind!r}")
    z = sample_posterior(model, images, seed).double().numpy()
    if kind == "kernel":
        drawn = KernelDensity(bandwidth="scott").fit(z).sample(n, random_state=seed)
    elif len(z) < components:
        raise ValueError(f"components: expected at most {len(z)}, as many as images")
    else:
        mixture = GaussianMixture(components, random_state=seed).fit(z)
        drawn = np.random.default_rng(seed).permutation(mixture.sample(n)[0])
    return torch.from_numpy(drawn).float()


@dataclass(frozen=True)
class Traversal:
    """Decoded images on a grid of codes, and where the grid lies."""

    # The top row has the largest value of the second of the `dims`, as in a plot.
    images: Float[Tensor, "rows columns channels height width"]
    values: Float[np.ndarray, " columns"]  # along both axes, ascending
    dims: tuple[int, int]
    spacing: str


def traversal(
    model: VAE, *, steps: int = 8, spacing: Literal["quantiles", "equal"] = "quantiles",
    limit: float = 8.0, dims: tuple[int, int] = (0, 1),
) -> Traversal:  # fmt: skip
    """Decode a square grid over two latent dimensions, the others staying 0.

    Parameters
    ----------
    steps, dims
        Images along each axis; the dimension along x and the one along y.
    spacing, limit
        ``"quantiles"`` cuts the prior into parts of equal mass and takes the middle of each;
        ``"equal"`` goes from ``-limit`` to ``limit`` in equal steps.

    Raises
    ------
    ValueError
        For an unknown spacing or dimensions that the model lacks.
    """
    check_positive(steps=steps)
    if spacing not in ("quantiles", "equal"):
        raise ValueError(f"spacing: expected 'quantiles' or 'equal', got {spacing!r}")
    if len(set(dims)) != 2 or not all(0 <= dim < model.latent_dim for dim in dims):
        highest = model.latent_dim
        raise ValueError(f"dims: expected two different dimensions below {highest}, got {dims}")
    values = torch.linspace(-limit, limit, steps)
    if spacing == "quantiles":
        values = torch.special.ndtri((torch.arange(steps) + 0.5) / steps)
    z = torch.zeros(steps, steps, model.latent_dim)
    z[..., dims[0]] = values
    z[..., dims[1]] = values.flip(0)[:, None]
    grid = decode(model, z.flatten(0, 1)).unflatten(0, (steps, steps))
    return Traversal(grid, values.numpy(), dims, spacing)


def interpolate(
    model: VAE, start: Any, end: Any, steps: int = 11,
    path: Literal["straight", "spherical"] = "straight",
) -> ImageBatch:  # fmt: skip
    """Decode equal steps on a path between the posterior means of two images.

    The path is a straight line, or runs along the great circle through both directions while the
    length goes evenly from one to the other (White 2016). `start` and `end` hold one image each,
    such as ``data.test[3]``, else a ValueError says so; both ends are among the `steps`.
    """
    check_positive(steps=steps)
    if path not in ("straight", "spherical"):
        raise ValueError(f"path: expected 'straight' or 'spherical', got {path!r}")
    first, last = (posterior(model, image)[0] for image in (start, end))
    if (len(first), len(last)) != (1, 1):
        raise ValueError(f"start, end: expected one image each, got {len(first)} and {len(last)}")
    between = torch.lerp if path == "straight" else spherical
    return decode(model, between(first, last, torch.linspace(0, 1, steps)[:, None]))


def spherical(
    first: Float[Tensor, "1 latent"], last: Float[Tensor, "1 latent"],
    share: Float[Tensor, "steps 1"],
) -> Float[Tensor, "steps latent"]:  # fmt: skip
    """Go from one code to another on an arc: direction and length change evenly.

    >>> spherical(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5]]))
    tensor([[1.4142, 1.4142]])
    """
    lengths = torch.lerp(first.norm(dim=1), last.norm(dim=1), share)
    ends = F.normalize(first), F.normalize(last)
    angle = (ends[0] * ends[1]).sum().clamp(-1, 1).acos()
    # From or to the origin, in one direction, or between opposite ones, no arc stands out.
    if angle.sin() < 1e-4 or not lengths.all():
        return torch.lerp(first, last, share)
    weights = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return lengths * (weights[0] * ends[0] + weights[1] * ends[1])
