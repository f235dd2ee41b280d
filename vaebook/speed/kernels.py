"""Faster ways through some layers of PyTorch, which a model is lent while it trains.

Each computes what the layer does; `lent` puts it in the place of the layer's ``forward``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from vaebook.models.networks import Maps

FEW = 4  # channels of an image, for which one product is faster than a transposed convolution
Pair = tuple[int, int]


@contextmanager
def lent(model: nn.Module) -> Iterator[None]:
    """Give a model faster ways through its layers inside a block, and take them back after it."""
    layers: list[Any] = []
    try:
        for layer, forward in faster(model):
            if "forward" not in vars(layer):  # or somebody has put one there
                layer.forward = partial(forward, layer)
                layers.append(layer)
        yield
    finally:
        for layer in layers:
            del layer.forward


def faster(model: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Tensor]]]:
    """Yield the layers for which there is a faster way, with a function of layer and input."""
    for sequence in model.modules():
        if type(sequence) is not nn.Sequential:
            continue
        layers = [None, *sequence, None]
        for before, layer, after in zip(layers, layers[1:], layers[2:], strict=False):
            if type(layer) is nn.Conv2d and _is_plain(layer):
                if layer.bias is None or type(after) is nn.BatchNorm2d:
                    yield layer, convolve
            elif type(layer) is nn.ConvTranspose2d and _is_plain(layer) and layer.bias is None:
                yield layer, convolve_transposed
            # Nothing needs batch norm's output once the activation has it.
            elif type(before) is nn.BatchNorm2d and not before._forward_hooks:
                if type(layer) is nn.LeakyReLU:
                    yield layer, lambda layer, x: F.leaky_relu(x, layer.negative_slope, True)
                elif type(layer) is nn.ReLU:
                    yield layer, lambda layer, x: F.relu(x, inplace=True)


def _is_plain(layer: Any) -> bool:
    usual = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return usual and not isinstance(layer.padding, str)


def convolve(layer: nn.Conv2d, x: Maps) -> Maps:
    """Return what a convolution does whose bias, if any, batch norm subtracts again.

    In training such a bias takes no gradient, which would be 0 but for rounding.
    """
    bias = layer.bias.detach() if layer.training and layer.bias is not None else layer.bias
    if _mixes(layer, x):
        how = [layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups]
        return _Mixed.apply(x, layer.weight, bias, how)
    return layer._conv_forward(x, layer.weight, bias)


def convolve_transposed(layer: nn.ConvTranspose2d, x: Maps) -> Maps:
    """Return what a transposed convolution without a bias does."""
    padding, extra = layer.padding, layer.output_padding
    if x.shape[2:] == (1, 1) and padding == extra == (0, 0):  # the matrix product that it is
        return (x.flatten(1) @ layer.weight.flatten(1)).unflatten(1, layer.weight.shape[1:])
    if layer.out_channels <= FEW:
        return _ProductAndSum.apply(x, layer.weight, layer.stride, padding, extra)
    if _mixes(layer, x):
        how = [layer.stride, padding, layer.dilation, True, extra, layer.groups]
        return _Mixed.apply(x, layer.weight, None, how)
    return nn.ConvTranspose2d.forward(layer, x)


def _mixes(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Tell whether `_Mixed` is faster."""
    # PyTorch's bfloat16 kernel for such weights is slower on two cores than on one.
    few = min(layer.in_channels, layer.out_channels) < 32
    return few and layer.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


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
