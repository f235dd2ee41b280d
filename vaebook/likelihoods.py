"""What the decoder's output means: the distribution p(x|z) of an image given its code."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ImageBatch = Float[Tensor, "batch channels height width"]
PerImage = Float[Tensor, " batch"]


class Bernoulli(nn.Module):
    """Independent Bernoulli pixels, from logits (Kingma & Welling 2013, appendix C.1).

    On binary pixels this is a likelihood. On grey pixels it is the cross-entropy that most VAE
    code minimizes: useful, but each costs at least its own entropy, so no model can reach 0.
    """

    name = "bernoulli"

    @property
    def spec(self) -> Any:
        """What `as_likelihood` makes this likelihood of again."""
        return self.name

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image: summed over pixels and channels."""
        cross_entropy = F.binary_cross_entropy_with_logits(params, x, reduction="none")
        return -cross_entropy.flatten(1).sum(1)

    def mean(self, params: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected pixels, in [0, 1]."""
        return params.sigmoid()


class ContinuousBernoulli(Bernoulli):
    """The Bernoulli formula made a density on [0, 1] (Loaiza-Ganem & Cunningham 2019).

    What it adds is the constant by which the cross-entropy of grey pixels fails to integrate to
    one. It depends on the logit l alone: log of l / tanh(l/2), which is 2 at l = 0.
    """

    name = "continuous_bernoulli"

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, a density that may be above 0."""
        constant = _log_ratio_to_tanh(params)
        return super().log_prob(params, x) + constant.flatten(1).sum(1)

    def mean(self, params: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected pixels, which lie nearer to 1/2 than the Bernoulli's."""
        small = params.abs() < 0.1
        safe = params.masked_fill(small, 1.0)
        # Near 0 both terms of the formula grow without bound: a series instead.
        series = 0.5 + params / 12 - params**3 / 720
        return torch.where(small, series, 1 / -torch.expm1(-safe) - 1 / safe)


class Gaussian(nn.Module):
    """Independent Gaussian pixels of one standard deviation σ around the decoder's output.

    With σ fixed this is a squared error divided by 2σ²: σ weighs the reconstruction against
    the KL as β would. Rybkin et al. 2021 let the data decide it instead.

    Parameters
    ----------
    sigma
        A number above 0, in units of pixels in [0, 1]; ``"learned"`` for one parameter trained
        with the networks; ``"optimal"`` for the value that is best for each batch, the
        root of its mean squared error. Both are kept at 1e-3 or above.
    """

    name = "gaussian"
    SMALLEST = 1e-3  # a quarter of a grey level: below it a density on 256 levels means nothing

    def __init__(self, sigma: float | str = "learned") -> None:
        super().__init__()
        named = sigma in ("learned", "optimal")
        if not (named or (isinstance(sigma, int | float) and 0 < sigma < math.inf)):
            wanted = "a number above 0, 'learned' or 'optimal'"
            raise ValueError(f"sigma: expected {wanted}, got {sigma!r}")
        self.setting = sigma
        self.log_sigma: Tensor
        start = torch.tensor(0.0 if named else math.log(float(sigma)))
        if sigma == "learned":
            self.register_parameter("log_sigma", nn.Parameter(start))
        else:
            self.register_buffer("log_sigma", start)

    @property
    def spec(self) -> Any:
        """What `as_likelihood` makes this likelihood of again."""
        return [self.name, {"sigma": self.setting}]

    def extra_repr(self) -> str:
        """Return what `print` shows between the brackets."""
        return f"sigma={self.setting!r}"

    @property
    def sigma(self) -> Tensor:
        """The standard deviation; where it is optimal, that of the last batch trained on."""
        return self.log_sigma.exp().clamp(min=self.SMALLEST)

    def log_prob(self, params: ImageBatch, x: ImageBatch) -> PerImage:
        """Return log p(x|z) in nats per image, a density that may be above 0."""
        squares = (x - params).square()
        log_sigma = self.log_sigma
        if self.setting == "optimal" and self.training:
            log_sigma = 0.5 * squares.mean().log()
            self.log_sigma.copy_(log_sigma.detach())
        log_sigma = log_sigma.clamp(min=math.log(self.SMALLEST))
        log_density = -0.5 * (squares / (2 * log_sigma).exp() + math.log(2 * math.pi)) - log_sigma
        return log_density.flatten(1).sum(1)

    def mean(self, params: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected pixels, cut off at 0 and 1 to be shown."""
        return params.clamp(0, 1)


class DiscretizedLogistic(nn.Module):
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
    SMALLEST = 1e-3  # a quarter of a grey level, as narrow as a level can make use of

    def __init__(self, scale: float | str = "learned", levels: int = 256) -> None:
        super().__init__()
        if not (scale == "learned" or (isinstance(scale, int | float) and 0 < scale < math.inf)):
            raise ValueError(f"scale: expected a number above 0 or 'learned', got {scale!r}")
        if not (isinstance(levels, int) and levels > 1):
            raise ValueError(f"levels: expected a whole number above 1, got {levels!r}")
        self.setting, self.levels = scale, levels
        self.log_scale: Tensor
        start = torch.tensor(math.log(0.1 if scale == "learned" else float(scale)))
        if scale == "learned":
            self.register_parameter("log_scale", nn.Parameter(start))
        else:
            self.register_buffer("log_scale", start)

    @property
    def spec(self) -> Any:
        """What `as_likelihood` makes this likelihood of again."""
        return [self.name, {"scale": self.setting, "levels": self.levels}]

    def extra_repr(self) -> str:
        """Return what `print` shows between the brackets."""
        return f"scale={self.setting!r}, levels={self.levels}"

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

    def mean(self, params: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the location, cut off at 0 and 1 to be shown."""
        return params.clamp(0, 1)


KINDS = (Bernoulli, ContinuousBernoulli, Gaussian, DiscretizedLogistic)
LIKELIHOODS: dict[str, Any] = {kind.name: kind for kind in KINDS}


def as_likelihood(likelihood: Any) -> Any:
    """Return the likelihood of a name, of a `spec`, or as it is; a ValueError for what is none."""
    if isinstance(likelihood, nn.Module) and hasattr(likelihood, "log_prob"):
        return likelihood
    name, arguments = likelihood if isinstance(likelihood, list | tuple) else (likelihood, {})
    if not isinstance(name, str) or name not in LIKELIHOODS:
        names = ", ".join(LIKELIHOODS)
        raise ValueError(f"likelihood: expected one of {names}, got {likelihood!r}")
    return LIKELIHOODS[name](**arguments)


def _log_ratio_to_tanh(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return log(l / tanh(l/2)), exact to float32 also near l = 0."""
    small = logits.abs() < 0.1
    safe = logits.abs().masked_fill(small, 1.0)
    series = math.log(2) + logits.square() / 12 - 7 * logits.pow(4) / 1440
    # tanh(l/2) = (1 - exp(-l)) / (1 + exp(-l)), whose logarithm does not overflow.
    exact = safe.log() + torch.log1p((-safe).exp()) - (-torch.expm1(-safe)).log()
    return torch.where(small, series, exact)
