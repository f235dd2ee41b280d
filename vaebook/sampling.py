"""Codes and what they decode to: draws, traversals, paths.

Chapter *Inside the latent space* begins with them.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vaebook.checks import as_seed, is_whole, one_of, positive, wrong
from vaebook.data.images import Batch, as_tensor, minibatches, prepare
from vaebook.models.likelihoods import ImageBatch
from vaebook.models.networks import Codes, eval_mode
from vaebook.models.quantized import need_vectors
from vaebook.models.vae import VAE
from vaebook.priors.fitted import Mixture

__all__ = [
    "Posterior", "decode", "embed", "interpolate", "posterior", "reconstruct", "sample_density",
    "sample_posterior", "sample_prior", "traversal",
]  # fmt: skip


class Posterior(NamedTuple):
    """Mean and standard deviation of q(z|x) for each image."""

    mean: Codes  #: where the code of an image lies
    std: Codes  #: how uncertain it is


@torch.no_grad()
def posterior(model: VAE, images: Any) -> Posterior:
    """Return mean and standard deviation of q(z|x) for each image.

    Here and below `images` is what `as_images` takes, or a DataLoader, else a ValueError.

    >>> import vaebook as vb
    >>> mean, std = posterior(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(5, 1, 8, 8))
    >>> mean.shape, bool((std > 0).all())
    (torch.Size([5, 2]), True)
    """
    with eval_mode(model):
        parts = [
            model.given(labels).encode(x.to(model.dtype))
            for x, labels, _ in _batches(model, images)
        ]
    mean, log_var = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
    return Posterior(mean, (0.5 * log_var).exp())


def embed(model: VAE, images: Any) -> Float[np.ndarray, "images latent"]:
    """Return the posterior means of images as an array: the points of a latent scatter plot.

    >>> import vaebook as vb
    >>> embed(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(5, 1, 8, 8)).shape
    (5, 2)
    """
    return posterior(model, images).mean.numpy()


def reconstruct(model: VAE, images: Any) -> ImageBatch:
    """Return what the posterior means of images decode to, in [0, 1].

    >>> import vaebook as vb
    >>> reconstruct(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 1, 8, 8])
    """
    batches = _batches(model, images)
    return torch.cat([model.given(y).reconstruct(x).float().cpu() for x, y, _ in batches])


def _batches(model: VAE, images: Any) -> Iterator[Batch]:
    return minibatches(prepare(images, model.image_shape, "cpu"), 500, device=model.device)


@torch.no_grad()
def decode(model: VAE, z: Codes | Float[np.ndarray, "batch latent"]) -> ImageBatch:
    """Return the expected pixels of codes `z`, in [0, 1], in eval mode; a ValueError if none fit.

    >>> import vaebook as vb
    >>> decode(vb.dense_vae((1, 8, 8), latent_dim=2), torch.zeros(3, 2)).shape
    torch.Size([3, 1, 8, 8])
    """
    codes = as_tensor(z, "z")
    if codes.ndim != 2 or codes.shape[1] != model.latent_dim:
        raise wrong("z", f"codes of shape [batch, {model.latent_dim}]", tuple(codes.shape))
    with eval_mode(model):
        parts = [model.decode(model.take(part)) for part in codes.split(500)]
    return model.likelihood.mean(torch.cat(parts)).float().cpu()


def sample_prior(model: VAE, n: int = 64, seed: int = 0) -> Codes:
    """Draw `n` codes from the model's prior, N(0, I) for most; a ValueError for none.

    >>> import vaebook as vb
    >>> sample_prior(vb.dense_vae((1, 8, 8), latent_dim=2), n=3).shape
    torch.Size([3, 2])
    """
    positive(n=n)
    generator = torch.Generator().manual_seed(as_seed(seed))
    return model.draw_prior(n, generator=generator, dtype=torch.float32)


def sample_posterior(model: VAE, images: Any, seed: int = 0) -> Codes:
    """Draw one code for each image from q(z|x): together, draws from the aggregate posterior.

    Raises a ValueError for a seed that is none, or images that do not fit.

    >>> import vaebook as vb
    >>> sample_posterior(vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 2])
    """
    mean, std = posterior(model, images)
    noise = torch.Generator().manual_seed(as_seed(seed))
    return mean + std * torch.randn(mean.shape, generator=noise, dtype=torch.float32)


def sample_density(
    model: VAE, images: Any, n: int = 64, *, kind: Literal["mixture", "kernel"] = "mixture",
    components: int = 10, seed: int = 0,
) -> Codes:  # fmt: skip
    """Draw `n` codes from a density fitted to the codes of images, one from each q(z|x).

    Where these codes together are not like the prior, such codes decode better (Ghosh et al. 2020,
    sec. 4). The density is scikit-learn's, of a `kind`: a ``"mixture"`` of so many `components`,
    Gaussians with full covariances; or a ``"kernel"`` at each code, Gaussian, as wide as Scott's
    rule has it, which is best in few dimensions. ``vaebook.priors.Mixture`` keeps the fitted
    mixture. Raises a ValueError for another kind, or too few images.

    >>> import vaebook as vb
    >>> model, x = vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(20, 1, 8, 8)
    >>> sample_density(model, x, n=3, kind="kernel").shape
    torch.Size([3, 2])
    """
    from sklearn.neighbors import KernelDensity

    need_vectors(model)
    positive(n=n, components=components)
    one_of("kind", kind, "mixture", "kernel")
    z = sample_posterior(model, images, seed)
    if kind == "mixture":
        if len(z) < (least := max(components, z.shape[1] + 1)):
            raise wrong("images", f"at least {least:,}, for {components=} and this model", len(z))
        return Mixture(components).fit(z, seed=seed).sample(n, seed)
    kernels = KernelDensity(bandwidth="scott").fit(z.double().numpy())
    return torch.from_numpy(kernels.sample(n, random_state=seed % 2**32)).float()


class Traversal(NamedTuple):
    """Decoded images on a grid of codes, and where it lies: the top row has the largest y."""

    images: Float[Tensor, "rows columns channels height width"]
    values: Float[np.ndarray, " columns"]  # along both axes, ascending
    dims: tuple[int, int]
    spacing: str


def traversal(
    model: VAE, *, steps: int = 8, spacing: Literal["quantiles", "equal"] = "quantiles",
    limit: float = 8.0, dims: tuple[int, int] = (0, 1),
) -> Traversal:  # fmt: skip
    """Decode a square grid over two latent dimensions `dims`, x and y, the others staying 0.

    Of the `steps` along each axis the `spacing` ``"quantiles"`` cuts the prior into parts of equal
    mass and takes the middle of each; ``"equal"`` goes evenly from -`limit` to `limit`. Raises a
    ValueError for an unknown spacing or dimensions that the model lacks.

    >>> import vaebook as vb
    >>> traversal(vb.dense_vae((1, 8, 8), latent_dim=2), steps=3).images.shape
    torch.Size([3, 3, 1, 8, 8])
    """
    need_vectors(model)
    positive(steps=steps)
    one_of("spacing", spacing, "quantiles", "equal")
    if len(set(dims)) != 2 or not all(is_whole(d, 0) and d < model.latent_dim for d in dims):
        raise wrong("dims", f"two different dimensions below {model.latent_dim}", dims)
    values = torch.linspace(-limit, limit, steps, dtype=torch.float32)
    if spacing == "quantiles":
        values = torch.special.ndtri((torch.arange(steps) + 0.5).float() / steps)
    z = torch.zeros(steps, steps, model.latent_dim, dtype=torch.float32)
    z[..., dims[0]], z[..., dims[1]] = values, values.flip(0)[:, None]
    grid = decode(model, z.flatten(0, 1)).unflatten(0, (steps, steps))
    return Traversal(grid, values.numpy(), dims, spacing)


def interpolate(
    model: VAE, start: Any, end: Any, steps: int = 11,
    path: Literal["straight", "spherical"] = "straight",
) -> ImageBatch:  # fmt: skip
    """Decode equal steps, both ends included, on a path between the posterior means of two images.

    The `path` is a ``"straight"`` line, or ``"spherical"``: along the great circle through both
    directions while the length goes evenly from one to the other (White 2016). `start` and `end`
    hold one image each, such as ``data.test[3]``, else a ValueError says so.

    >>> import vaebook as vb
    >>> start, end = torch.rand(2, 1, 1, 8, 8)
    >>> interpolate(vb.dense_vae((1, 8, 8), latent_dim=2), start, end, steps=5).shape
    torch.Size([5, 1, 8, 8])
    """
    need_vectors(model)
    positive(steps=steps)
    one_of("path", path, "straight", "spherical")
    first, last = (posterior(model, image).mean for image in (start, end))
    if (len(first), len(last)) != (1, 1):
        raise wrong("start, end", "one image each", f"{len(first)} and {len(last)}")
    between = torch.lerp if path == "straight" else spherical
    return decode(model, between(first, last, torch.linspace(0, 1, steps).float()[:, None]))


def spherical(
    first: Codes, last: Codes, share: Float[Tensor, "steps 1"]
) -> Float[Tensor, "steps latent"]:
    """Go from one code to another on an arc: direction and length change evenly.

    >>> spherical(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5]]))
    tensor([[1.4142, 1.4142]])
    """
    lengths = torch.lerp(first.norm(dim=1), last.norm(dim=1), share)
    start, end = F.normalize(first), F.normalize(last)
    angle = (start * end).sum().clamp(-1, 1).acos()
    # From or to the origin, in one direction, or between opposite ones, no arc stands out.
    if angle.sin() < 1e-4 or not lengths.all():
        return torch.lerp(first, last, share)
    weights = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return lengths * (weights[0] * start + weights[1] * end)
