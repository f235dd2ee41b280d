"""What the decoder's output means: the distribution p(x|z) of an image given its code.

Chapter *What your loss assumes* compares the likelihoods.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaebook.checks import choose, is_number, is_whole, wrong
from vaebook.models.registry import LIKELIHOODS, register

__all__ = ["Bernoulli", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Likelihood"]

ImageBatch = Float[Tensor, "batch channels height width"]
PerImage = Float[Tensor, " batch"]
Pixels = Float[Tensor, "*shape"]
_mean: ContextVar[Callable[..., Tensor]] = ContextVar("mean", default=torch.mean)


class Likelihood(Protocol):
    """What a p(x|z) of your own must be able to do, as an ``nn.Module`` without arguments or with.

    `params` is what the decoder returns for a batch of codes. To be kept in files it is made
    known by `vaebook.register`.
    """

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, summed over pixels and channels."""

    def mean(self, params: ImageBatch) -> ImageBatch:
        """Return the expected pixels, in [0, 1]."""


def batch_mean(values: Tensor, *dim: int) -> Tensor:
    """Return the mean over a batch: over all of it, where several processes share it."""
    return _mean.get()(values, *dim)


@contextmanager
def means_by(mean: Callable[..., Tensor]) -> Iterator[None]:
    """Let `batch_mean` be computed by a function like ``torch.mean`` inside a block."""
    token = _mean.set(mean)
    try:
        yield
    finally:
        _mean.reset(token)


@register
class Bernoulli(nn.Module):
    """Independent Bernoulli pixels, from logits (Kingma & Welling 2013, appendix C.1).

    On binary pixels this is a likelihood. On grey pixels it is the cross-entropy that most VAE
    code minimizes: useful, but each costs at least its own entropy, so no model can reach 0.
    """

    name = "bernoulli"

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image: summed over pixels and channels."""
        cross_entropy = F.binary_cross_entropy_with_logits(params, x, reduction="none")
        return -cross_entropy.flatten(1).sum(1)

    def mean(self, params: Pixels) -> Pixels:
        """Return the expected pixels, in [0, 1]."""
        return params.sigmoid()


@register
class ContinuousBernoulli(Bernoulli):
    """The Bernoulli formula made a density on [0, 1] (Loaiza-Ganem & Cunningham 2019).

    What it adds is the constant by which the cross-entropy of grey pixels fails to integrate to
    one. It depends on the logit l alone: log of l / tanh(l/2), which is 2 at l = 0.
    """

    name = "continuous_bernoulli"

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, a density that may be above 0."""
        small = params.abs() < 0.1  # where a series is exact to float32, and the formula is not
        safe = params.abs().masked_fill(small, 1.0)
        series = math.log(2) + params.square() / 12 - 7 * params.pow(4) / 1440
        # tanh(l/2) = (1 - exp(-l)) / (1 + exp(-l)), whose logarithm does not overflow.
        exact = safe.log() + torch.log1p((-safe).exp()) - (-torch.expm1(-safe)).log()
        constant = torch.where(small, series, exact)
        return super().log_prob(params, x) + constant.flatten(1).sum(1)

    def mean(self, params: Pixels) -> Pixels:
        """Return the expected pixels, which lie nearer to 1/2 than the Bernoulli's."""
        small = params.abs() < 0.1
        safe = params.masked_fill(small, 1.0)
        # Near 0 both terms of the formula grow without bound.
        series = 0.5 + params / 12 - params**3 / 720
        return torch.where(small, series, 1 / -torch.expm1(-safe) - 1 / safe)


class LocationScale(nn.Module):
    """A density around the decoder's output, as wide for all pixels: fixed, learned or found."""

    SMALLEST = 1e-3  # a quarter of a grey level, as narrow as 256 levels can make use of
    name: str

    def __init__(self, width: str, setting: Any, start: float, *words: str, **others: Any) -> None:
        super().__init__()
        named = setting in words
        if not (named or (is_number(setting) and setting > 0)):
            wanted = " or ".join(["a number above 0", *map(repr, words)])
            raise wrong(width, wanted, repr(setting))
        self.setting = setting if named else float(setting)
        self.arguments = {width: self.setting, **others}
        log_width = torch.tensor(math.log(start if named else self.setting))
        if setting == "learned":
            self.register_parameter(f"log_{width}", nn.Parameter(log_width))
        else:
            self.register_buffer(f"log_{width}", log_width)

    @property
    def spec(self) -> Any:
        """What `as_likelihood` makes this likelihood of again."""
        return [self.name, self.arguments]

    def extra_repr(self) -> str:
        """Return what `print` shows between the brackets."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())

    def mean(self, params: Pixels) -> Pixels:
        """Return the location, cut off at 0 and 1 to be shown."""
        return params.clamp(0, 1)


@register
class Gaussian(LocationScale):
    """Independent Gaussian pixels of one standard deviation σ around the decoder's output.

    With σ fixed this is a squared error divided by 2σ²: σ weighs the reconstruction against
    the KL as β would. Rybkin et al. 2021 let the data decide it instead.

    Parameters
    ----------
    sigma
        ``"optimal"`` for the value that is best for each batch, the root of its mean squared
        error; ``"learned"`` for one parameter that starts at 1 and is trained with the networks; or
        a number above 0, in units of pixels in [0, 1]. The first two are kept at 1e-3 or above.
    """

    name = "gaussian"
    log_sigma: Tensor

    def __init__(self, sigma: float | str = "optimal") -> None:
        super().__init__("sigma", sigma, 1.0, "learned", "optimal")

    @property
    def sigma(self) -> Tensor:
        """The standard deviation; where it is optimal, that of the last batch trained on."""
        return self.log_sigma.exp().clamp(min=self.SMALLEST)

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, a density that may be above 0."""
        squares = (x - params).square()
        log_sigma = self.log_sigma
        if self.setting == "optimal" and self.training:
            log_sigma = 0.5 * batch_mean(squares).log()
            self.log_sigma.copy_(log_sigma.detach())
        log_sigma = log_sigma.clamp(min=math.log(self.SMALLEST))
        log_density = -0.5 * (squares / (2 * log_sigma).exp() + math.log(2 * math.pi)) - log_sigma
        return log_density.flatten(1).sum(1)


@register
class DiscretizedLogistic(LocationScale):
    """The probability of a pixel's level under a logistic distribution (Kingma et al. 2016).

    The decoder's output is the location. A level has the mass of the distribution within half a
    step of it, the lowest and the highest have all that lies beyond, so that the probabilities of
    all levels sum to one. A pixel between two levels counts as the nearer one.

    Parameters
    ----------
    scale
        A number above 0, in units of pixels in [0, 1], or ``"learned"`` for one parameter that
        starts at 0.1 and is trained with the networks. It is kept at 1e-3 or above.
    levels
        How many values a pixel can have: 256 for 8-bit images.
    """

    name = "discretized_logistic"
    log_scale: Tensor

    def __init__(self, scale: float | str = "learned", levels: int = 256) -> None:
        if not is_whole(levels, least=2):
            raise wrong("levels", "a whole number above 1", repr(levels))
        super().__init__("scale", scale, 0.1, "learned", levels=int(levels))
        self.levels = int(levels)

    @property
    def scale(self) -> Tensor:
        """The scale; the standard deviation is π/√3 times as large."""
        return self.log_scale.exp().clamp(min=self.SMALLEST)

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, a probability: never above 0."""
        steps = self.levels - 1
        level = (x * steps).round()
        width = 1 / (steps * self.scale)
        to_centre = (level / steps - params) / self.scale
        below = F.logsigmoid(to_centre + width / 2)  # log of the mass below the level's upper edge
        above = F.logsigmoid(width / 2 - to_centre)
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)), which does not cancel far out in a tail.
        between = below + above + (-torch.expm1(-width)).log()
        log_mass = torch.where(level <= 0, below, torch.where(level >= steps, above, between))
        return log_mass.flatten(1).sum(1)


def as_likelihood(likelihood: Any) -> Any:
    """Return the likelihood of a name, of a `spec`, or as it is; a ValueError for what is none."""
    if all(callable(getattr(likelihood, name, None)) for name in ("log_prob", "mean")):
        if isinstance(likelihood, nn.Module):
            return likelihood
        raise wrong("likelihood", "an nn.Module, such as one made by Own()", repr(likelihood))
    pair = isinstance(likelihood, list | tuple) and len(likelihood) == 2
    name, arguments = likelihood if pair else (likelihood, {})
    kind = choose("likelihood", name, LIKELIHOODS)
    try:
        return kind(**arguments)
    except TypeError as error:
        raise wrong("likelihood", f"arguments of {name}", error) from None
