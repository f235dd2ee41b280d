"""Encoders and decoders for images of any channels × height × width.

An encoder maps images to the mean and the log-variance of q(z|x); a decoder maps codes to the
parameters of p(x|z). Neither knows of the loss.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

ImageShape = tuple[int, int, int]
Shape = tuple[int, ...]  # of one image or feature vector, without the batch
Pair = tuple[int, int]
Sides = int | Sequence[int]  # one number for height and width, or one for each
Layers = Sequence[Mapping[str, Any]]
Built = tuple[list[nn.Module], Shape]
Rule = tuple[Callable[[Any], bool], str]
Codes = Float[Tensor, "batch latent"]
Maps = Float[Tensor, "_ _ _ _"]  # batch × channels × height × width, before or after a layer

ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "softplus": nn.Softplus, "tanh": nn.Tanh,
    "gelu": nn.GELU,
}  # fmt: skip


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with batch norm on its running statistics, then restore the mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


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


class _Mixed(torch.autograd.Function):
    """A convolution in the precision of autocast; the gradient of its weights in their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: list) -> Tensor:
        dtype = torch.get_autocast_dtype(x.device.type)
        x = x.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.how = how
        bias = None if bias is None else bias.to(dtype)
        return torch.convolution(x, weight.to(dtype), bias, *how)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        back, own = torch.ops.aten.convolution_backward, weight.dtype
        only_x, only_weight = [True, False, False], [False, True, False]
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = back(gradient, x, weight.to(x.dtype), None, *ctx.how, only_x)[0]
        gradient, x = gradient.to(own), x.to(own)
        return to_x, back(gradient, x, weight, None, *ctx.how, only_weight)[1], None, None


def _mixes(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Tell whether `_Mixed` is faster."""
    # PyTorch's bfloat16 kernel for such weights is slower on two cores than on one.
    few = min(layer.in_channels, layer.out_channels) < 32
    return few and layer.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


class Conv2dBeforeNorm(nn.Conv2d):
    """A convolution whose bias takes no gradient in training, where batch norm subtracts it."""

    def forward(self, input: Maps) -> Maps:
        """Return what `nn.Conv2d` does."""
        bias = self.bias.detach() if self.training and self.bias is not None else self.bias
        if _mixes(self, input):
            how = [self.stride, self.padding, self.dilation, False, (0, 0), self.groups]
            return _Mixed.apply(input, self.weight, bias, how)
        return self._conv_forward(input, self.weight, bias)


class MixedTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution without a bias, faster in training in mixed precision."""

    def forward(self, x: Maps) -> Maps:  # type: ignore[override]
        """Return what `nn.ConvTranspose2d` does."""
        if not _mixes(self, x):
            return super().forward(x)
        how = [self.stride, self.padding, self.dilation, True, self.output_padding, self.groups]
        return _Mixed.apply(x, self.weight, None, how)


class PointTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of one pixel, as the matrix product it is: several times faster."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels 1 1"]
    ) -> Float[Tensor, "batch out side side"]:
        """Return ``[batch, out_channels, kernel, kernel]`` for ``[batch, in_channels, 1, 1]``."""
        return (x.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])


class FewTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution to so few channels that one matrix product and a sum are faster."""

    def forward(self, x: Maps) -> Maps:  # type: ignore[override]
        """Return what `nn.ConvTranspose2d` does, in the precision of the weights."""
        return _ProductAndSum.apply(x, self.weight, self.stride, self.padding, self.output_padding)


class Residual(nn.Module):
    """Two 3×3 convolutions whose output is added to their input (He et al. 2016).

    Batch norm and leaky ReLU come before each of them, so that the sum itself stays untouched.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = Conv2dBeforeNorm(channels, channels, kernel_size=3, padding=1, bias=False)
            layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(), conv]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Maps) -> Maps:
        """Return maps of the same shape."""
        return x + self.body(x)


class _ProductAndSum(torch.autograd.Function):
    """Each pixel times the kernel, then the sum where kernels overlap; gradients as usual."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, extra: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = dict(stride=stride, padding=padding)
        kernel = weight.shape[2:]
        sides = zip(x.shape[2:], stride, padding, kernel, extra, strict=True)
        size = tuple((n - 1) * s - 2 * p + k + e for n, s, p, k, e in sides)
        products = (weight.flatten(1).T @ x.flatten(2)).to(weight.dtype)
        return F.fold(products, size, kernel, padding=padding, stride=stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        to_x = F.conv2d(gradient, weight.to(x.dtype), **ctx.how)
        to_weight = conv2d_weight(gradient, weight.shape, x, **ctx.how).to(weight.dtype)
        return to_x, to_weight, None, None, None


def _dense(into: Shape, /, *, size: int, bias: bool = True) -> Built:
    flatten: list[nn.Module] = [nn.Flatten()] if len(into) > 1 else []
    return [*flatten, nn.Linear(math.prod(into), size, bias)], (size,)


def _reshape(into: Shape, /, *, shape: Sequence[int]) -> Built:
    if len(into) > 1 or math.prod(shape) != into[0]:
        raise ValueError(f"expected {math.prod(shape)} features to make {_times(shape)} of")
    return [nn.Unflatten(1, tuple(shape))], tuple(shape)


def _pool(into: Shape, /, *, size: int = 2) -> Built:
    channels, *sides = _maps(into)
    return [nn.MaxPool2d(size)], (channels, *(side // size for side in sides))


def _conv(
    into: Shape, /, *, channels: int, kernel: int = 3, stride: int = 1, padding: Sides = 0,
    bias: bool = True, norm: bool = False,
) -> Built:  # fmt: skip
    before, *sides = _maps(into)
    padding = _pair(padding)
    out = ((n + 2 * p - kernel) // stride + 1 for n, p in zip(sides, padding, strict=True))
    kind = Conv2dBeforeNorm if norm else nn.Conv2d
    modules: list[nn.Module] = [kind(before, channels, kernel, stride, padding, bias=bias)]
    return modules + [nn.BatchNorm2d(channels)] * norm, (channels, *out)


def _transposed_conv(
    into: Shape, /, *, channels: int, kernel: int = 4, stride: int = 1, padding: Sides = 0,
    output_padding: Sides = 0, bias: bool = True, norm: bool = False,
) -> Built:  # fmt: skip
    before, *sides = _maps(into)
    padding, extra = _pair(padding), _pair(output_padding)
    if max(extra) >= stride and any(extra):
        raise ValueError(f"expected an output_padding below its stride of {stride}")
    plan = zip(sides, padding, extra, strict=True)
    out = ((n - 1) * stride - 2 * p + kernel + e for n, p, e in plan)
    kind = nn.ConvTranspose2d
    if sides == [1, 1] and padding == extra == (0, 0) and not bias:
        kind = PointTranspose2d
    elif not bias:
        kind = FewTranspose2d if channels <= 4 else MixedTranspose2d
    modules: list[nn.Module] = [kind(before, channels, kernel, stride, padding, extra, bias=bias)]
    return modules + [nn.BatchNorm2d(channels)] * norm, (channels, *out)


def _residual(into: Shape, /) -> Built:
    return [Residual(_maps(into)[0])], into


KINDS: dict[str, Callable[..., Built]] = {
    "dense": _dense, "conv": _conv, "transposed_conv": _transposed_conv, "pool": _pool,
    "reshape": _reshape, "residual": _residual,
}  # fmt: skip


def _whole(values: Any, count: int, least: int) -> bool:
    """Tell whether something is a list of so many whole numbers, none below `least`."""
    counted = isinstance(values, list | tuple) and len(values) == count
    return counted and all(isinstance(n, int) and n >= least for n in values)


# What a layer's keys may be: a test, and words for it.
POSITIVE: Rule = (lambda value: _whole([value], 1, 1), "a positive whole number")
FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
SIDES: Rule = (
    lambda value: _whole([value], 1, 0) or _whole(value, 2, 0),
    "a whole number, or one for height and one for width",
)
RULES: dict[str, Rule] = {
    "bias": FLAG, "norm": FLAG, "padding": SIDES, "output_padding": SIDES,
    "shape": (lambda value: _whole(value, 3, 1), "[channels, height, width]"),
    "activation": (lambda value: value in [None, *ACTIVATIONS], f"one of {', '.join(ACTIVATIONS)}"),
}  # fmt: skip


def stack(name: str, layers: Layers, shape: Shape) -> Built:
    """Build the modules that a list of layers describes; return them and the shape that leaves.

    Raises a ValueError that tells which layer of the list called `name` does not fit, what comes
    in, and what is expected.

    >>> stack("encoder", [{"kind": "conv", "channels": 4}, {"kind": "pool"}], (1, 28, 28))[1]
    (4, 13, 13)
    """
    modules: list[nn.Module] = []
    for i, layer in enumerate(layers):
        place = f"{name}[{i}]"
        if not isinstance(layer, Mapping) or layer.get("kind") not in [*KINDS]:
            wanted = f"a dict whose kind is one of {', '.join(KINDS)}"
            raise ValueError(f"{place}: expected {wanted}, got {layer!r}")
        keys = {key: value for key, value in layer.items() if key != "kind"}
        for key, value in keys.items():
            fits, wanted = RULES.get(key, POSITIVE)
            if not fits(value):
                raise ValueError(f"{place}: expected {wanted} as its {key}, got {value!r}")
        activation = keys.pop("activation", None)
        build = KINDS[layer["kind"]]
        try:
            built, out = build(shape, **keys)
        except TypeError:
            _, *known = inspect.signature(build).parameters
            wanted = f"a {layer['kind']} layer by {', '.join([*known, 'activation'])}"
            raise ValueError(f"{place}: expected {wanted}, got {layer!r}") from None
        except ValueError as error:
            raise ValueError(f"{place}: {error}, got {_times(shape)}") from None
        if min(out) < 1:
            raise ValueError(
                f"{place}: expected maps large enough for {layer}, got {_times(shape)}"
            )
        modules += built
        if activation:
            # Nothing needs batch norm's output once the activation has it: in place saves a copy.
            in_place = "relu" in activation and isinstance(modules[-1], nn.BatchNorm2d)
            modules.append(ACTIVATIONS[activation](**dict(inplace=True) if in_place else {}))
        shape = out
    return modules, shape


def encoder(layers: Layers, image_shape: Shape, latent_dim: int) -> Encoder:
    """Build an encoder whose body is a list of layers."""
    modules, shape = stack("encoder", layers, image_shape)
    if len(shape) > 1:
        modules.append(nn.Flatten())
    return Encoder(nn.Sequential(*modules), math.prod(shape), latent_dim)


def decoder(layers: Layers, image_shape: ImageShape, latent_dim: int) -> nn.Sequential:
    """Build a decoder from a list of layers, which must end in the image's shape."""
    modules, shape = stack("decoder", layers, (latent_dim,))
    if shape != image_shape:
        raise ValueError(f"decoder: expected to end in {_times(image_shape)}, got {_times(shape)}")
    return nn.Sequential(*modules)


def conv_layers(
    image_shape: ImageShape, width: int = 28, residual: int = 0
) -> tuple[list[dict], list[dict]]:
    """Describe the encoder and the decoder of `vaebook.conv_vae`.

    The encoder has four 3×3 convolutions of stride 2, each with batch norm and leaky ReLU. The
    channels double from layer to layer, the sides halve and are rounded up: for 1×28×28 and
    width 28, [28, 14, 14] → [56, 7, 7] → [112, 4, 4] → [224, 2, 2] → 896 features.

    The decoder has a linear layer and four 4×4 transposed convolutions up to the image's size:
    [224, 1, 1] → [112, 4, 4] → [56, 8, 8] → [28, 14, 14] → [1, 28, 28]. Other sizes are planned
    backwards from the image by `upsampling_sizes`, and the padding of each layer follows. No
    convolution has a bias: batch norm brings its own, and the last layer follows the R original.

    After each layer with batch norm come so many `residual` blocks at its size.
    """
    block: dict[str, Any] = dict(norm=True, activation="leaky_relu")
    down: list[dict] = [
        dict(kind="conv", channels=width * 2**i, kernel=3, stride=2, padding=1, **block)
        for i in range(4)
    ]
    sizes = list(zip(*(upsampling_sizes(side) for side in image_shape[1:]), strict=True))
    first = [8 * width, *sizes[0]]
    up: list[dict] = [
        dict(kind="dense", size=math.prod(first)), dict(kind="reshape", shape=first),
    ]  # fmt: skip
    for i, channels in enumerate([4 * width, 2 * width, width, image_shape[0]]):
        stride = 1 if i == 0 else 2
        plan = [_padding(*sides, stride) for sides in zip(sizes[i], sizes[i + 1], strict=True)]
        padding, extra = ([*both] for both in zip(*plan, strict=True))
        shared = dict(kernel=4, stride=stride, padding=padding, output_padding=extra, bias=False)
        up.append(dict(kind="transposed_conv", channels=channels, **shared))
        up[-1] |= block if i < 3 else {}
    return _with_residual(down, residual), _with_residual(up, residual)


def _with_residual(layers: list[dict], count: int) -> list[dict]:
    blocks = [dict(kind="residual")] * count
    return [each for layer in layers for each in [layer, *(blocks if "norm" in layer else [])]]


def upsampling_sizes(side: int) -> list[int]:
    """Plan the side lengths of the decoder's five maps, the last being `side`.

    Going backwards each side is halved and rounded up to an even number; the first layer,
    of stride 1, widens its input by 3 (or by 1, where only 2 pixels are wanted).

    >>> upsampling_sizes(28), upsampling_sizes(64), upsampling_sizes(17)
    ([1, 4, 8, 14, 28], [5, 8, 16, 32, 64], [1, 4, 6, 10, 17])
    """
    sizes = [side]
    for _ in range(3):
        sizes.insert(0, 2 * math.ceil(sizes[0] / 4))
    return [max(sizes[0] - 3, 1), *sizes]


def dense_layers(
    image_shape: ImageShape, hidden: Sequence[int], activation: str
) -> tuple[list[dict], list[dict]]:
    """Describe the encoder and the decoder of `vaebook.dense_vae`."""
    down, up = (
        [dict(kind="dense", size=size, activation=activation) for size in sizes]
        for sizes in (hidden, hidden[::-1])
    )
    last = dict(kind="dense", size=math.prod(image_shape))
    return down, [*up, last, dict(kind="reshape", shape=[*image_shape])]


def _padding(into: int, out: int, stride: int) -> tuple[int, int]:
    """Return padding and output padding that make `into` pixels `out` by a 4×4 kernel."""
    surplus = stride * (into - 1) + 4 - out
    padding = math.ceil(surplus / 2)
    return padding, 2 * padding - surplus


def _pair(sides: Sides) -> Pair:
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])


def _maps(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ValueError("expected channels × height × width, which a reshape can make")
    return shape


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} features"
