"""Formulations of one training step on the CPU, among them those that `vaebook.fit` does not use.

`Convolution` and `TransposedConvolution` are for stride 2 only. Both are made of two operations on
images whose channels come last: `down` gathers windows and multiplies them by the kernel; `up` is
its adjoint. Each is the other's gradient.
"""

import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import vaebook as vb
from benchmarks.contenders import NETWORKS
from vaebook.speed.kernels import FEW, lent


def windows(x, kernel, stride):
    """Gather the windows of images ``[batch, height, width, channels]``, one in each row."""
    count, height, width, channels = x.shape
    rows, columns = ((n - k) // stride + 1 for n, k in zip((height, width), kernel, strict=True))
    image, row, column, channel = x.stride()
    strides = (image, stride * row, stride * column, row, column, channel)
    seen = x.as_strided((count, rows, columns, *kernel, channels), strides)
    return seen.reshape(count * rows * columns, -1), rows, columns


def down(x, weight, padding):
    """Return the convolution of stride 2 with ``[out, in, height, width]``, and the windows."""
    x = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    gathered, rows, columns = windows(x, weight.shape[2:], 2)
    product = gathered @ weight.permute(2, 3, 1, 0).flatten(0, 2)
    return product.view(len(x), rows, columns, -1), gathered


def up(x, weight, padding, size):
    """Return the transposed convolution of stride 2 with ``[in, out, height, width]``.

    Of two neighbours in a row or a column of the output both see the same two pixels of the input,
    by a kernel of up to 4. So each 2×2 block of the output is one window times one matrix.
    """
    before, after, *kernel = weight.shape
    whole = F.pad(weight, (0, 4 - kernel[1], 0, 4 - kernel[0])).view(before, after, 2, 2, 2, 2)
    # A window's later pixel meets the kernel's earlier half.
    matrix = whole.flip(2, 4).permute(2, 4, 0, 3, 5, 1).reshape(4 * before, 4 * after)
    pads, kept = [], []
    for n, cut, out in zip(x.shape[1:3], padding, size, strict=True):
        first, last = cut // 2, (out - 1 + cut) // 2  # of the blocks that are wanted
        pads = [1 - first, last - (n - 1), *pads]  # F.pad begins with the last dimension
        kept.append(slice(cut % 2, cut % 2 + out))
    x = F.pad(x, (0, 0, *pads)).contiguous()
    gathered, rows, columns = windows(x, (2, 2), 1)
    blocks = (gathered @ matrix).view(-1, rows, columns, 2, 2, after).transpose(2, 3)
    return blocks.reshape(-1, 2 * rows, 2 * columns, after)[:, kept[0], kept[1]].contiguous()


def channels_last(x):
    return x.permute(0, 2, 3, 1).contiguous()


def channels_first(x):
    """Return a view: what follows may well compute on channels that lie last."""
    return x.permute(0, 3, 1, 2)


class Convolution(torch.autograd.Function):
    """`F.conv2d` of stride 2 by window gathering and one matrix product."""

    @staticmethod
    def forward(ctx, x, weight, padding):
        y, gathered = down(channels_last(x), weight, padding)
        ctx.save_for_backward(gathered, weight)
        ctx.padding, ctx.size = padding, x.shape[2:]
        return channels_first(y)

    @staticmethod
    def backward(ctx, gradient):
        gathered, weight = ctx.saved_tensors
        gradient, to_x = channels_last(gradient), None
        after, before, *kernel = weight.shape
        to_weight = (gradient.flatten(0, 2).T @ gathered).view(after, *kernel, before)
        if ctx.needs_input_grad[0]:
            to_x = channels_first(up(gradient, weight, ctx.padding, ctx.size))
        return to_x, to_weight.permute(0, 3, 1, 2), None


class TransposedConvolution(torch.autograd.Function):
    """`F.conv_transpose2d` of stride 2 by window gathering and one matrix product."""

    @staticmethod
    def forward(ctx, x, weight, padding, output_padding):
        x = channels_last(x)
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        sides = zip(x.shape[1:3], padding, weight.shape[2:], output_padding, strict=True)
        size = [2 * (n - 1) - 2 * p + k + extra for n, p, k, extra in sides]
        return channels_first(up(x, weight, padding, size))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        to_x, gathered = down(channels_last(gradient), weight, ctx.padding)
        before, after, *kernel = weight.shape
        to_weight = (x.flatten(0, 2).T @ gathered).view(before, *kernel, after)
        return channels_first(to_x), to_weight.permute(0, 3, 1, 2), None, None


def cast(*tensors):
    """Return tensors in the precision of autocast, which reaches no `torch.autograd.Function`."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors]


def gather(model):
    """Give a model's convolutions of stride 2, but for the last one, the formulation above."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.forward = partial(gathered, Convolution, layer)
            continue
        several = isinstance(layer, nn.ConvTranspose2d) and layer.out_channels > FEW
        if several and layer.stride == (2, 2):
            layer.forward = partial(gathered, TransposedConvolution, layer)
    return model


def gathered(kind, layer, x):
    how = (layer.padding, layer.output_padding)[: 1 + (kind is TransposedConvolution)]
    return kind.apply(*cast(x, layer.weight), *how)


def build(model, x, dtype, *, fused=True, compiled=False, plain=False):
    """Return a function that makes one training step, as `vaebook.fit` makes it."""
    objective = vb.NegativeELBO()
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3, fused=fused)
    if not plain:
        ExitStack().enter_context(lent(model))  # for good

    def loss_of(x):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32, cache_enabled=False):
            return objective(model, x).loss.mean()

    loss_of = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step():
        loss = loss_of(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def formulations(batch_size, dtype, compiled=True):
    """Return, for each formulation, a step on fixed pixels, and what is to be said of it."""
    x = torch.rand(batch_size, 1, 28, 28)

    def model():
        torch.manual_seed(0)
        return NETWORKS["conv"](x.shape[1:])

    last = torch.channels_last
    steps = {
        "as fit does it": (build(model(), x, dtype), ""),
        "float32": (build(model(), x, torch.float32), ""),
        "bfloat16": (build(model(), x, torch.bfloat16), ""),
        "plain layers of torch.nn": (build(model(), x, dtype, plain=True), ""),
        "channels last": (
            build(model().to(memory_format=last), x.to(memory_format=last), dtype), "",
        ),
        "windows and one matrix product": (build(gather(model()), x, dtype), ""),
        "optimizer not fused": (build(model(), x, dtype, fused=False), ""),
    }  # fmt: skip
    del steps["float32" if dtype == torch.float32 else "bfloat16"]  # which fit uses
    if compiled:
        steps["torch.compile"] = _compiled(build(model(), x, dtype, compiled=True))
    return steps


def _compiled(step):
    """Compile a step; return it and the seconds that took, or None and why not."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return None, "not measured: no C++ compiler is here"
    started = time.perf_counter()
    # What an earlier run compiled is not to be found.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        step()
        step()
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    return step, f"compiled in {time.perf_counter() - started:.0f} s"


def measure(found, batch_size, steps, repeats):
    """Return a row per formulation: milliseconds per step, in turn and several times over."""
    times = {name: [] for name in found}
    for repeat in range(-1, repeats):  # the first round warms up
        for name, (step, _) in found.items():
            if step is None:
                continue
            started = time.perf_counter()
            for _ in range(steps):
                step()
            if repeat >= 0:
                times[name].append((time.perf_counter() - started) / steps * 1000)
    base, rows = times["as fit does it"], []
    for name, (step, note) in found.items():
        ratios = [own / fit for own, fit in zip(times[name], base, strict=True)] if step else []
        rows.append({
            "step": name, "batch_size": batch_size, "milliseconds": times[name],
            "relative": statistics.median(ratios) if ratios else None, "note": note,
        })  # fmt: skip
    return rows
