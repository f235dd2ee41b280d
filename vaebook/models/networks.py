"""What several models are built of."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from threading import RLock
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vaebook.checks import is_whole, wrong

Codes = Float[Tensor, "batch latent"]
Maps = Float[Tensor, "_ _ _ _"]  # batch × channels × height × width, before or after a layer

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "softplus": nn.Softplus, "tanh": nn.Tanh,
    "gelu": nn.GELU,
}  # fmt: skip

# Random numbers and a model's mode belong to all threads: one at a time may set them for a block.
TURN = RLock()


def _renew() -> None:
    """Free the lock in a forked child, where the other thread that holds it does not exist."""
    if not TURN._is_owned():  # type: ignore[attr-defined]
        TURN._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # as on every system that forks
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with batch norm on its running statistics, then restore each module's mode."""
    with TURN:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


class Encoder(nn.Module):
    """A body that ends in a flat vector, and two linear heads on it."""

    def __init__(self, body: nn.Module, features: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)

    def forward(self, x: Float[Tensor, "batch *image"]) -> tuple[Codes, Codes]:
        """Return the mean and the log-variance of q(z|x)."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)


def residual_blocks(count: Any) -> int:
    """Return how many residual blocks are asked for, or raise a ValueError."""
    if not (is_whole(count, least=0) and count <= 100):  # more would be built for minutes
        raise wrong("residual", "a whole number from 0 to 100", repr(count))
    return int(count)


class Residual(nn.Module):
    """Two 3×3 convolutions whose output is added to their input (He et al. 2016).

    Batch norm and leaky ReLU come before each of them, so that the sum itself stays untouched.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
            layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(), conv]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Maps) -> Maps:
        """Return maps of the same shape."""
        return x + self.body(x)


def dense(sizes: Sequence[int], activation: str) -> list[nn.Module]:
    """Return linear layers from each size to the next, each followed by the activation."""
    follow = ACTIVATIONS[activation]
    return [layer for two in pairwise(sizes) for layer in (nn.Linear(*two), follow())]
