"""Images at rest, and the one place where they become model input."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Generator, Tensor

from vaebook.checks import ImageShape, as_image_shape, as_seed, one_each, one_of, wrong

Device = torch.device | str
ODD_KINDS = ("meta", "quantized", "nested")  # of tensors, which hold no numbers to be read
Pixels = UInt8[Tensor, "images channels height width"] | Float32[Tensor, "images c h w"]


@dataclass(frozen=True, eq=False, repr=False)
class Images(torch.utils.data.Dataset[Any]):
    """Images of one size, with or without labels, or a ValueError. A DataLoader takes them, too."""

    pixels: Pixels  #: uint8, or float32 in [0, 1] where they are not whole steps of 1/255
    labels: Int64[Tensor, " labels"] | None = None  #: class indices, one per image
    redrawn: bool = False  #: whether `minibatches` makes each pixel 0 or 1 anew, see `binarized`

    def __post_init__(self) -> None:
        check_pixels(self.pixels, "images")
        if self.labels is not None:
            one_each("labels", self.labels, len(self), "images")
            if self.labels.ndim != 1 or self.labels.is_floating_point():
                raise wrong("labels", "whole numbers in a row", _describe(self.labels))

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height and width of every image."""
        return as_image_shape(self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> "Images":
        """Return the images at a position, a slice, positions or a boolean mask, as `Images`."""
        index = index if isinstance(index, slice) else torch.atleast_1d(torch.as_tensor(index))
        labels = None if self.labels is None else self.labels[index]
        return replace(self, pixels=self.pixels[index], labels=labels)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return what a DataLoader collates to a batch: pixels in [0, 1], each with its label."""
        x, labels, _ = next(minibatches(self[indices], len(indices)))
        return list(x if labels is None else zip(x, labels, strict=True))

    def __repr__(self) -> str:
        dtype, size = _describe(self.pixels).split()[0], "×".join(map(str, self.image_shape))
        labels = "no labels" if self.labels is None else f"{len(self.labels.unique())} classes"
        drawn = ", binarized anew at each use" if self.redrawn else ""
        return f"Images({len(self):,} of {size}, {dtype}, {labels}{drawn})"

    def to(self, device: Device) -> "Images":
        """Return the same images on another device, as compact as they are here."""
        return replace(self, pixels=self.pixels.to(device))

    def binarized(self, kind: str = "dynamic", seed: int = 0) -> "Images":
        """Return images of pixels that are 0 or 1, each 1 with its grey value as probability.

        ``"static"`` draws once, by `seed` (Salakhutdinov & Murray 2008); ``"dynamic"`` each time
        they become model input, so that no two epochs show the same (Burda et al. 2016).
        Likelihoods on the two do not compare.
        """
        one_of("kind", kind, "dynamic", "static")
        if kind == "dynamic":
            return replace(self, redrawn=True)
        generator = torch.Generator().manual_seed(as_seed(seed))
        draws = torch.bernoulli(to_pixels(self.pixels, "cpu"), generator=generator)
        return Images(draws.mul_(255).byte(), self.labels)


def as_images(images: Any, labels: Any = None, *, name: str = "images") -> Images:
    """Turn an array or a tensor into `Images`, which are returned as they are.

    `images` are ``[images, height, width]``, ``[images, channels, height, width]`` or ``[images,
    height, width, channels]`` with 1 or 3 channels: uint8, or floating point in [0, 1]. `labels`
    are whole numbers, one per image. All else raises a ValueError that calls the images `name`.

    >>> as_images(np.zeros((5, 28, 28), np.uint8), labels=range(5))
    Images(5 of 1×28×28, uint8, 5 classes)
    """
    if isinstance(images, Images):
        return images
    pixels = as_tensor(images, name)
    pixels = pixels.float() if pixels.is_floating_point() else pixels
    if pixels.ndim == 3:
        if 3 in (pixels.shape[0], pixels.shape[2]):
            hint = "give one colour picture as images[None], three grey ones as images[:, None]"
            raise wrong(name, "a batch of images", f"{_describe(pixels)}; {hint}")
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.ndim == 4 and pixels.shape[1] > 3:
        alpha = 4 in (pixels.shape[1], pixels.shape[3])
        hint = "images[..., :3] leaves out alpha" if alpha else "transpose reorders the axes"
        got = f"{_describe(pixels)}; {hint}, Images(pixels) takes any channels"
        raise wrong(name, "1 or 3 channels, [N, C, H, W] or [N, H, W, C]", got)
    check_pixels(pixels, name)
    if labels is not None:
        labels = as_tensor(labels, "labels")
        if labels.is_floating_point() or labels.ndim != 1:
            raise wrong("labels", "whole numbers in a row", _describe(labels))
        labels = labels.long().cpu()
    return Images(pixels.contiguous(), labels)


def prepare(images: Any, image_shape: ImageShape, device: Device, name: str = "images") -> Any:
    """Put what `as_images` takes on a model's device, or a ValueError; a DataLoader is read later.

    Grey images become three equal channels, and colour ones grey, where the model takes that.
    """
    other = isinstance(images, torch.utils.data.Dataset) and not isinstance(images, Images)
    if other:  # a Subset has a `dataset`, too
        got = f"a {type(images).__name__}; torch.utils.data.DataLoader makes batches of it"
        raise wrong(name, "an array, Images or a DataLoader", got)
    if hasattr(images, "dataset"):
        with suppress(TypeError):
            len(images)
            return Loader(images, image_shape, device, name)
        got = f"one of a {type(images.dataset).__name__}; give it a __len__, or make an array of it"
        raise wrong(name, "a DataLoader that knows its length", got)
    images = as_images(images, name=name)
    if (pixels := _recoloured(images.pixels, image_shape, name)) is not images.pixels:
        images = replace(images, pixels=pixels)
    if images.image_shape != image_shape:
        raise wrong(name, f"images of shape {image_shape}, as the model takes", images.image_shape)
    return images.to(device)


class Loader:
    """A DataLoader, of whose batches grey and colour become what a model takes."""

    def __init__(self, loader: Any, image_shape: ImageShape, device: Device, name: str) -> None:
        self.loader, self.dataset = loader, loader.dataset
        self.image_shape, self.device, self.name = image_shape, device, name

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator["Batch"]:
        for batch in self.loader:
            x, labels, count = _loaded(batch, self.device)
            yield Batch(_recoloured(x, self.image_shape, self.name), labels, count)


def _recoloured(pixels: Tensor, image_shape: ImageShape, name: str) -> Tensor:
    """Bring grey to colour or, with a warning, colour to grey; leave the rest as it is."""
    if pixels.shape[2:] != image_shape[1:]:
        return pixels
    if (pixels.shape[1], image_shape[0]) == (1, 3):
        return pixels.repeat(1, 3, 1, 1)
    if (pixels.shape[1], image_shape[0]) == (3, 1):
        warnings.warn(f"{name}: made grey, as the model takes; they are in colour", stacklevel=4)
        # A part at a time, for floats take four times the memory of bytes.
        return torch.cat([_grey(part) for part in pixels.split(1000)])
    return pixels


def _grey(pixels: Tensor) -> Tensor:
    """Weigh red, green and blue as the eye does, as ITU-R BT.601 has it."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device)
    grey = torch.einsum("nchw,c->nhw", pixels.float(), weights)[:, None]
    return grey.clamp_(0, 1) if pixels.is_floating_point() else grey.round_().byte()


def check_pixels(pixels: Tensor, name: str) -> None:
    """Raise a ValueError that begins with `name` unless `pixels` are what `Images` can hold."""
    if not isinstance(pixels, Tensor):
        raise wrong(name, "a tensor; as_images takes arrays, too", type(pixels).__name__)
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise wrong(name, "at least one image, [N, C, H, W]", _describe(pixels))
    if pixels.dtype != torch.uint8:
        low, high = (end.item() for end in pixels.float().aminmax())
        if pixels.dtype != torch.float32 or not 0 <= low <= high <= 1:  # not true of NaN
            got = f"{_describe(pixels)} with minimum {low} and maximum {high}"
            raise wrong(name, "pixels in [0, 1] or uint8", got)


def to_pixels(pixels: Tensor, device: Device) -> Float32[Tensor, "*shape"]:
    """Turn pixels at rest into model input on `device`: float32, with 255 becoming 1."""
    pixels = pixels.to(device)  # and then in memory of its own, which a network may change
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.clone()


class Batch(NamedTuple):
    """Model input, the labels that belong to it, and how many images the whole batch has."""

    x: Float32[Tensor, "batch channels height width"]
    labels: Tensor | None  # on the CPU
    count: int  # type: ignore[assignment]  # more than len(x) where processes share the batch


def minibatches(
    images: Any, batch_size: int, *, device: Device = "cpu", generator: Generator | None = None,
    rank: int = 0, processes: int = 1,
) -> Iterator[Batch]:  # fmt: skip
    """Yield model input on `device`, batch after batch, with the labels where there are any.

    `Images` are gathered where they lie: on `device`, they need no worker and no copy per image.
    They are shuffled by a CPU `generator` if one is given; the process of a `rank` gets its share
    of every batch. A DataLoader keeps its own size and order.
    """
    if not isinstance(images, Images):
        batch = None
        for batch in images:
            x, labels, count = batch if isinstance(batch, Batch) else _loaded(batch, device)
            yield Batch(x.to(device), labels, count)
        if batch is None:
            raise wrong("images", "at least one batch", "none")
        return
    pixels, labels, N = images.pixels, images.labels, len(images)
    order = torch.arange(N) if generator is None else torch.randperm(N, generator=generator)
    there = order.to(pixels.device)
    for start, stop in batch_bounds(N, batch_size, processes):
        count = stop - start
        part = slice(start + count * rank // processes, start + count * (rank + 1) // processes)
        # index_select copies an image at once and not pixel by pixel: several times as fast.
        x = to_pixels(pixels.index_select(0, there[part]), device)
        y = None if labels is None else labels[order[part]]
        yield Batch(torch.bernoulli(x) if images.redrawn else x, y, count)


def _loaded(batch: Any, device: Device) -> Batch:
    """Return what a DataLoader yields as a batch."""
    if isinstance(batch, Images):
        return next(minibatches(batch, len(batch), device=device))
    pixels, *rest = batch if isinstance(batch, tuple | list) else (batch,)
    if not isinstance(pixels, Tensor):
        raise wrong("images", "a DataLoader that yields images or (images, labels)", type(pixels))
    pixels = pixels.float() if pixels.is_floating_point() else pixels
    check_pixels(pixels, "images: a batch of the DataLoader")
    labels = rest[0].cpu() if rest and isinstance(rest[0], Tensor) else None
    return Batch(to_pixels(pixels, device), labels, len(pixels))


def batch_bounds(count: int, batch_size: int, processes: int = 1) -> list[tuple[int, int]]:
    """Return where each batch starts and stops.

    A last one too small for batch norm (1 image) or for all `processes` joins the one before it.
    """
    last = count - max(processes - 1, 1) if batch_size > 1 else count
    return list(pairwise([0, *range(batch_size, last, batch_size), count]))


def as_tensor(array: Any, name: str) -> Tensor:
    """Return an array of numbers as a tensor without gradients, or a ValueError."""
    if isinstance(array, Tensor):
        kind = next((kind for kind in ODD_KINDS if getattr(array, f"is_{kind}")), None)
        if kind or array.layout != torch.strided or array.is_complex():
            got = f"a {kind} one" if kind else f"{array.layout} of {array.dtype}"
            raise wrong(name, "a dense tensor of real numbers", got)
        return array.detach()
    try:
        array = np.asarray(array)
    except ValueError as error:  # lists of several lengths
        raise wrong(name, "an array of numbers", error) from None
    if array.dtype.kind not in "iuf":
        raise wrong(name, "an array of numbers", f"one of {array.dtype}")
    # Torch takes no foreign byte order and no negative stride, and warns of read-only memory.
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _describe(array: Tensor) -> str:
    return f"{str(array.dtype).removeprefix('torch.')} of shape {tuple(array.shape)}"
