"""Images at rest, and the one place where they become model input."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "images channels height width"] | Float32[Tensor, "images c h w"]


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A set of images of one size, with or without labels.

    Parameters
    ----------
    pixels
        Shape ``[images, channels, height, width]``; uint8 in 0…255, or float32 in [0, 1] for
        pixels that are not whole steps of 1/255.
    labels
        Class indices of shape ``[images]``, or None.

    Raises
    ------
    ValueError
        For another shape or type, an empty set, pixels that are NaN or outside [0, 1], or
        labels of another length.

    Examples
    --------
    >>> images = Images(torch.zeros(8, 1, 28, 28, dtype=torch.uint8))
    >>> len(images[:3]), images.image_shape
    (3, (1, 28, 28))
    """

    pixels: Pixels
    labels: Int64[Tensor, " images"] | None = None

    def __post_init__(self) -> None:
        check_pixels(self.pixels, "images")
        labels = self.labels
        if labels is not None and (labels.dtype, len(labels)) != (torch.int64, len(self)):
            raise ValueError(
                f"labels: expected {len(self)} of int64, one per image, got {_describe(labels)}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> "Images":
        """Return the images at a position, a slice, positions or a boolean mask, as `Images`."""
        if not isinstance(index, slice):
            index = torch.atleast_1d(torch.as_tensor(index))
        return Images(self.pixels[index], None if self.labels is None else self.labels[index])

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"{len(self.labels.unique())} classes"
        size = "×".join(str(n) for n in self.image_shape)
        return f"Images({len(self):,} of {size}, {_kind(self.pixels)}, {labels})"

    def to(self, device: torch.device | str) -> "Images":
        """Return the same images on another device, as compact as they are here."""
        return Images(self.pixels.to(device), self.labels)


def check_pixels(pixels: Tensor, name: str) -> None:
    """Raise a ValueError that begins with `name` unless `pixels` is what `Images` can hold."""
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(
            f"{name}: expected at least one image, [images, channels, height, width], "
            f"got {_describe(pixels)}"
        )
    if pixels.dtype == torch.uint8:
        return
    low, high = (bound.item() for bound in pixels.aminmax())
    if pixels.dtype != torch.float32 or not (low >= 0 and high <= 1):  # false for NaN, too
        raise ValueError(
            f"{name}: expected pixels in [0, 1] or uint8, got {_kind(pixels)} "
            f"with minimum {low} and maximum {high}"
        )


def as_images(images: Any, labels: Any = None, *, name: str = "images") -> Images:
    """Turn an array or a tensor into `Images`.

    Parameters
    ----------
    images
        `Images` (returned as they are), or anything array-like of shape ``[images, height,
        width]``, ``[images, channels, height, width]`` or ``[images, height, width, channels]``
        with 1 or 3 channels; uint8, or floating point in [0, 1].
    labels
        Whole numbers, one per image, or None.
    name
        What an error calls the argument.

    Raises
    ------
    ValueError
        As `Images` does, and for what is no array of numbers.
    """
    if isinstance(images, Images):
        return images
    pixels = _as_tensor(images, name)
    pixels = pixels.float() if pixels.is_floating_point() else pixels
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.permute(0, 3, 1, 2)
    check_pixels(pixels, name)
    if labels is not None:
        labels = _as_tensor(labels, "labels")
        if labels.is_floating_point() or labels.ndim != 1:
            raise ValueError(f"labels: expected whole numbers in a row, got {_describe(labels)}")
        labels = labels.long()
    return Images(pixels.contiguous(), labels)


def to_pixels(pixels: Tensor, device: torch.device | str) -> Float32[Tensor, "*shape"]:
    """Turn pixels at rest into model input on `device`: float32, with 255 becoming 1."""
    pixels = pixels.to(device)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def minibatches(
    images: Any,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Iterator[Float32[Tensor, "batch channels height width"]]:
    """Yield model input, batch after batch.

    `Images` are gathered on the device where they lie: put them on `device` first, and no
    worker process and no copy per image is needed.

    Parameters
    ----------
    images
        `Images`, or a DataLoader whose batches are tensors or tuples that begin with one.
    batch_size
        Images per batch; a DataLoader keeps its own.
    device
        Where the batches are wanted.
    generator
        A CPU generator that shuffles; None keeps the order.
    """
    if isinstance(images, Images):
        count = len(images)
        order = None if generator is None else torch.randperm(count, generator=generator)
        order = None if order is None else order.to(images.pixels.device)
        for start, stop in batch_bounds(count, batch_size):
            rows = slice(start, stop) if order is None else order[start:stop]
            yield to_pixels(images.pixels[rows], device)
    else:
        for batch in images:
            pixels = batch[0] if isinstance(batch, (tuple, list)) else batch
            check_pixels(pixels, "images: a batch of the DataLoader")
            yield to_pixels(pixels, device)


def batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Return where each batch starts and stops.

    A last batch of one image joins the one before it: batch norm cannot standardize a single
    value.
    """
    starts = list(range(0, count, batch_size))
    if batch_size > 1 and len(starts) > 1 and count % batch_size == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _as_tensor(array: Any, name: str) -> Tensor:
    if isinstance(array, Tensor):
        return array
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected an array of numbers, got one of {array.dtype}")
    return torch.as_tensor(array.astype(array.dtype.newbyteorder("="), copy=False))


def _kind(array: Tensor) -> str:
    return str(array.dtype).removeprefix("torch.")


def _describe(array: Tensor) -> str:
    return f"{_kind(array)} of shape {tuple(array.shape)}"
