"""Priors for codes that are vectors: chapter *A better prior* compares them."""

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from vaebook.checks import above_0, as_seed, positive, wrong
from vaebook.data.images import as_tensor
from vaebook.models.networks import Codes
from vaebook.training.devices import seeded
from vaebook.training.progress import Progress

CPU = torch.device("cpu")
FREQUENCIES = 2.0 ** torch.arange(4) / 2  # of the sines and cosines of time
LogDensities = Float[Tensor, " codes"]


def as_codes(z: Any, latent: int | None = None, name: str = "z") -> Codes:
    """Return codes as float32 on the CPU, or raise a ValueError that says what does not fit."""
    codes = as_tensor(z, name).detach().float().cpu()
    if codes.ndim != 2 or not codes.numel() or codes.shape[1] != (latent or codes.shape[1]):
        raise wrong(name, f"codes of shape [codes, {latent or 'latent'}]", tuple(codes.shape))
    if odd := int((~codes.isfinite()).any(1).sum()):
        raise wrong(name, "finite codes", f"{odd:,} of {len(codes):,} with NaN or infinity")
    return codes


def _fitted(prior: Any, part: Any) -> Any:
    """Return a part that is there once a prior was fitted, or raise a ValueError."""
    if part is None:
        raise wrong("prior", "one that was fitted, by fit(z)", type(prior).__name__)
    return part


class Mixture:
    """A mixture of Gaussians with full covariances, scikit-learn's; with one, a plain Gaussian.

    It is fitted by expectation and maximization, from k-means. Ghosh et al. 2020 draw from such a
    mixture of 10. Compare numbers of components by the `log_prob` of held-out codes: many overfit.
    A ValueError tells of too few codes, of NaN, and of codes that do not fill all dimensions.

    >>> prior = Mixture(components=2).fit(torch.randn(100, 3))
    >>> prior.sample(5).shape, prior.log_prob(torch.zeros(4, 3)).shape
    (torch.Size([5, 3]), torch.Size([4]))
    """

    def __init__(self, components: int = 50) -> None:
        positive(components=components)
        self.components = components
        self.mixture: Any = None  #: scikit-learn's, once it is fitted

    def fit(self, z: Any, *, seed: int = 0) -> "Mixture":
        """Fit the Gaussians to codes, such as `sample_posterior` gives of training images."""
        from sklearn.mixture import GaussianMixture

        codes = as_codes(z)
        least = max(self.components, codes.shape[1] + 1)
        if len(codes) < least:
            wanted = f"at least {least:,} codes, for components={self.components}"
            raise wrong("z", f"{wanted} and {codes.shape[1]} dimensions", f"{len(codes):,}")
        rank = torch.linalg.matrix_rank((codes - codes.mean(0)).double(), rtol=1e-7)
        if rank < codes.shape[1]:
            raise wrong("z", f"codes that fill all {codes.shape[1]} dimensions", f"{rank} filled")
        mixture = GaussianMixture(self.components, random_state=as_seed(seed) % 2**32)
        self.mixture = mixture.fit(codes.double().numpy())
        return self

    def log_prob(self, z: Any) -> LogDensities:
        """Return the logarithm of the density at each code, in nats."""
        mixture = _fitted(self, self.mixture)
        codes = as_codes(z, latent=mixture.means_.shape[1]).double()
        return torch.from_numpy(mixture.score_samples(codes.numpy()))

    def sample(self, n: int = 64, seed: int = 0) -> Codes:
        """Draw `n` codes, the same again for the same `seed`."""
        positive(n=n)
        seed = as_seed(seed) % 2**32
        z, _ = _fitted(self, self.mixture).set_params(random_state=seed).sample(n)  # in order
        return torch.from_numpy(np.random.default_rng(seed).permutation(z)).float()


class Subspace:
    """A prior for some `dimensions`, fitted to them, and N(0, 1) for each of the others.

    Where a latent dimension carries nothing, its codes follow N(0, 1) already, and a prior need not
    learn this. `dimensions` is a mask, such as
    ``vb.diagnose(model, images).activity > 0.01``, else a ValueError. What `fit` and `sample` are
    given besides, the prior gets.

    >>> prior = Subspace([True, False, True], Mixture(2)).fit(torch.randn(100, 3))
    >>> prior.sample(5).shape
    torch.Size([5, 3])
    """

    def __init__(self, dimensions: Any, prior: Any) -> None:
        mask = np.asarray(dimensions).copy()
        if mask.dtype != bool or mask.ndim != 1 or not mask.any():
            raise wrong("dimensions", "a mask that is true for one dimension or more", mask)
        if isinstance(prior, type) or not hasattr(prior, "fit"):
            raise wrong("prior", "a prior such as Mixture()", prior)
        self.dimensions, self.prior = torch.from_numpy(mask), prior

    def fit(self, z: Any, **how: Any) -> "Subspace":
        """Fit the prior to its dimensions of the codes."""
        self.prior.fit(as_codes(z, latent=len(self.dimensions))[:, self.dimensions], **how)
        return self

    def log_prob(self, z: Any) -> LogDensities:
        """Return the logarithm of the density at each code, in nats."""
        if not hasattr(self.prior, "log_prob"):
            raise wrong("prior", "one that has log_prob", type(self.prior).__name__)
        codes = as_codes(z, latent=len(self.dimensions))
        others = Normal(0, 1).log_prob(codes[:, ~self.dimensions]).sum(1)
        return self.prior.log_prob(codes[:, self.dimensions]) + others

    def sample(self, n: int = 64, seed: int = 0, **how: Any) -> Codes:
        """Draw `n` codes, the same again for the same `seed`."""
        drawn = self.prior.sample(n, seed=seed, **how)
        if drawn.shape[1] != self.dimensions.sum():
            raise wrong("prior", f"one for {self.dimensions.sum()} dimensions", drawn.shape[1])
        with seeded(CPU, seed, 1):
            z = drawn.new_empty(n, len(self.dimensions)).normal_()
        z[:, self.dimensions] = drawn
        return z


class Trained:
    """A network that is built for codes, and trained on them to make its loss smaller."""

    network: Any = None
    shift: Tensor  #: what is taken from codes, and
    scale: Tensor  #: what they are divided by
    build: Callable[[int], nn.Module]  #: the network for so many dimensions
    loss: Callable[[Any, Tensor], Tensor]  #: of the network, on a batch of codes made ready

    def ready(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """Return codes as the network takes them, standardized, and what undoes this."""
        shift, scale = codes.mean(0), codes.std(0, correction=0)
        if not ((scale > 0) & scale.isfinite()).all():
            raise wrong("z", "two codes or more that differ in each dimension", tuple(codes.shape))
        return (codes - shift) / scale, {"shift": shift, "scale": scale}

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(
        self, z: Any, *, steps: int = 5000, batch_size: int = 256, lr: float = 2e-3,
        seed: int = 0, progress: bool = True,
    ) -> Any:  # fmt: skip
        """Train on codes, such as `sample_posterior` gives of training images.

        Adam's rate rises to `lr` and falls again. `seed` decides weights and order.
        """
        positive(steps=steps, batch_size=batch_size)
        above_0(lr=lr)
        codes, kept = self.ready(as_codes(z))
        with closing(Progress(steps, enabled=progress)) as bar, seeded(CPU, seed, 0):
            network = self.build(codes.shape[1]).float()
            optimizer = torch.optim.Adam(network.parameters(), lr)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
            for _ in range(steps):
                optimizer.zero_grad()
                self.loss(network, codes[torch.randint(len(codes), (batch_size,))]).backward()
                optimizer.step()
                schedule.step()
                bar.step()
        if not all(weights.isfinite().all() for weights in network.parameters()):
            raise wrong("lr", "a rate at which the weights stay finite", lr)
        vars(self).update(kept, network=network.requires_grad_(False))
        return self


class SplineFlow(Trained):
    """A normalizing flow: invertible functions that turn normal noise into codes, zuko's.

    Neural spline flows (Durkan et al. 2019), so many `transforms`, each by a network with two
    hidden layers of `width`. Needs zuko, else an ImportError says how to get it.

    >>> prior = SplineFlow(transforms=1, width=8)
    >>> prior.fit(torch.randn(100, 3), steps=5, progress=False).sample(5).shape
    torch.Size([5, 3])
    """

    def __init__(self, transforms: int = 3, width: int = 128) -> None:
        positive(transforms=transforms, width=width)
        self.transforms, self.width = transforms, width

    def build(self, latent: int) -> nn.Module:
        """Return zuko's flow."""
        try:
            from zuko.flows import NSF
        except ImportError as error:
            raise ImportError(f"SplineFlow needs zuko: pip install zuko ({error})") from error
        return NSF(latent, transforms=self.transforms, hidden_features=[self.width] * 2)

    def loss(self, network: Any, codes: Codes) -> Tensor:
        """Return the negative log-density, averaged over codes."""
        return -network().log_prob(codes).mean()

    @torch.no_grad()
    def log_prob(self, z: Any) -> LogDensities:
        """Return the logarithm of the density at each code, in nats."""
        flow = _fitted(self, self.network)()
        codes = (as_codes(z, latent=len(self.shift)) - self.shift) / self.scale
        return (flow.log_prob(codes) - self.scale.log().sum()).double()

    @torch.no_grad()
    def sample(self, n: int = 64, seed: int = 0) -> Codes:
        """Draw `n` codes, the same again for the same `seed`."""
        positive(n=n)
        with seeded(CPU, seed, 0):
            drawn: Tensor = _fitted(self, self.network)().sample((n,))
        return drawn * self.scale + self.shift


class Velocity(nn.Module):
    """The velocity at a place and a time: what noise would have on its way to noise, and the rest.

    Between standard normals the average velocity is the place times a factor that goes from -1 to
    1. The network adds what is different on the way to codes: at first nothing.
    """

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(latent + 2 * len(FREQUENCIES), width)
        hidden = [layer for _ in range(4) for layer in (nn.SiLU(), nn.Linear(width, width))]
        self.blocks = nn.ModuleList([nn.Sequential(*hidden[:4]), nn.Sequential(*hidden[4:])])
        self.last = nn.Linear(width, latent)
        for name, weights in self.named_parameters():
            if name.startswith("last") or name.endswith("bias"):
                nn.init.zeros_(weights)
            else:  # larger than PyTorch's, with which it learns late
                nn.init.kaiming_normal_(weights)

    def forward(self, place: Codes, time: Float[Tensor, "batch 1"]) -> Codes:
        """Return how fast, and where to, points at these places move at a time from 0 to 1."""
        angle = 2 * math.pi * time * FREQUENCIES
        h = self.first(torch.cat([place, angle.sin(), angle.cos()], 1))
        for block in self.blocks:
            h = h + block(h)
        between_normals = (2 * time - 1) / (time**2 + (1 - time) ** 2)
        return between_normals * place + self.last(F.silu(h))


class FlowMatching(Trained):
    """A velocity field that carries normal noise to codes in straight lines, on average.

    At time t a code is on its way at (1 - t) · noise + t · z, with the velocity z - noise, which a
    network learns to tell from the place and the time (Lipman et al. 2023, sec. 4.1): two residual
    blocks of `width`, which see the time as sines and cosines. It has no `log_prob`.

    >>> prior = FlowMatching(width=16).fit(torch.randn(100, 3), steps=5, progress=False)
    >>> prior.sample(5, steps=2).shape
    torch.Size([5, 3])
    """

    def __init__(self, width: int = 128) -> None:
        positive(width=width)
        self.width = width

    def build(self, latent: int) -> nn.Module:
        """Return the network."""
        return Velocity(latent, self.width)

    def loss(self, network: Any, codes: Codes) -> Tensor:
        """Return the squared error of the velocity, averaged over codes and dimensions."""
        noise, time = torch.randn_like(codes), torch.rand_like(codes[:, :1])
        return (network(torch.lerp(noise, codes, time), time) - (codes - noise)).square().mean()

    @torch.no_grad()
    def sample(self, n: int = 64, seed: int = 0, *, steps: int = 20) -> Codes:
        """Draw `n` codes: noise, followed from time 0 to 1 in so many `steps` (midpoint rule)."""
        positive(n=n, steps=steps)
        velocity = _fitted(self, self.network)
        with seeded(CPU, seed, 0):
            z = self.shift.new_empty(n, len(self.shift)).normal_()
        for step in range(steps):
            time = z.new_full((n, 1), step / steps)
            middle = z + velocity(z, time) / (2 * steps)
            z = z + velocity(middle, time + 1 / (2 * steps)) / steps
        return z * self.scale + self.shift
