"""Images at rest, and the one place where they become model input."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Generator, Tensor

from vaebook.distributed import ALONE, Team

Device = torch.device | str
BINARIZATIONS = ("dynamic", "static")
Pixels = UInt8[Tensor, "images channels height width"] | Float32[Tensor, "images c h w"]


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A set of images of one size, with or without labels.

    `pixels` are uint8 in 0…255, or float32 in [0, 1] where they are not whole steps of 1/255;
    `labels` are class indices, one per image. Raises a ValueError for anything else.
    """

    pixels: Pixels
    labels: Int64[Tensor, " labels"] | None = None
    redrawn: bool = False  # whether `minibatches` makes each pixel 0 or 1 anew, see `binarized`

    def __post_init__(self) -> None:
        check_pixels(self.pixels, "images")
        if self.labels is not None and len(self.labels) != len(self):
            raise ValueError(f"labels: expected {len(self)}, one each, got {len(self.labels)}")

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
        labels = None if self.labels is None else self.labels[index]
        return Images(self.pixels[index], labels, self.redrawn)

    def __repr__(self) -> str:
        dtype, *_ = _describe(self.pixels).split()
        size = "×".join(map(str, self.image_shape))
        labels = "no labels" if self.labels is None else f"{len(self.labels.unique())} classes"
        drawn = ", binarized anew at each use" if self.redrawn else ""
        return f"Images({len(self):,} of {size}, {dtype}, {labels}{drawn})"

    def to(self, device: Device) -> "Images":
        """Return the same images on another device, as compact as they are here."""
        return Images(self.pixels.to(device), self.labels, self.redrawn)

    def binarized(self, kind: str = "dynamic", seed: int = 0) -> "Images":
        """Return images of pixels that are 0 or 1, each 1 with its grey value as probability.

        ``"static"`` draws them once, by `seed` (Salakhutdinov & Murray 2008); ``"dynamic"`` keeps
        the grey values and draws whenever the images are used as model input, so that no two
        epochs show the same ones (Burda et al. 2016). Likelihoods on the two do not compare.
        """
        if kind not in BINARIZATIONS:
            raise ValueError(f"kind: expected one of {', '.join(BINARIZATIONS)}, got {kind!r}")
        if kind == "dynamic":
            return replace(self, redrawn=True)
        generator = torch.Generator().manual_seed(seed)
        draws = torch.bernoulli(to_pixels(self.pixels, "cpu"), generator=generator)
        return Images(draws.mul_(255).byte(), self.labels)


def as_images(images: Any, labels: Any = None, *, name: str = "images") -> Images:
    """Turn an array or a tensor into `Images`, which are returned as they are.

    `images` are ``[images, height, width]``, ``[images, channels, height, width]`` or ``[images,
    height, width, channels]`` with 1 or 3 channels: uint8, or floating point in [0, 1]. `labels`
    are whole numbers, one per image. All else raises a ValueError that calls the images `name`.
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


def check_pixels(pixels: Tensor, name: str) -> None:
    """Raise a ValueError that begins with `name` unless `pixels` are what `Images` can hold."""
    got = _describe(pixels)
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(f"{name}: expected at least one image, [N, C, H, W], got {got}")
    if pixels.dtype != torch.uint8:
        low, high = (end.item() for end in pixels.float().aminmax())
        if pixels.dtype != torch.float32 or not 0 <= low <= high <= 1:  # not true of NaN
            got += f" with minimum {low} and maximum {high}"
            raise ValueError(f"{name}: expected pixels in [0, 1] or uint8, got {got}")


def to_pixels(pixels: Tensor, device: Device) -> Float32[Tensor, "*shape"]:
    """Turn pixels at rest into model input on `device`: float32, with 255 becoming 1."""
    pixels = pixels.to(device)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def minibatches(
    images: Any, batch_size: int, **options: Any
) -> Iterator[Float32[Tensor, "batch channels height width"]]:
    """Yield what `labelled_minibatches` does, which see for the options, without the labels."""
    yield from (x for x, _ in labelled_minibatches(images, batch_size, **options))


def labelled_minibatches(
    images: Any, batch_size: int, *, device: Device = "cpu", generator: Generator | None = None,
    team: Team = ALONE,
) -> Iterator[tuple[Float32[Tensor, "batch channels height width"], Tensor | None]]:  # fmt: skip
    """Yield model input on `device`, batch after batch, with the labels where there are any.

    `Images` are gathered on the device where they lie: put them on `device` first, and no
    worker process and no copy per image is needed. They are shuffled by a CPU `generator` if one
    is given; each process of a `team` gets its share of every batch. A DataLoader keeps its own
    size and order.
    """
    if not isinstance(images, Images):
        for batch in images:
            pixels, *rest = batch if isinstance(batch, tuple | list) else (batch,)
            check_pixels(pixels, "images: a batch of the DataLoader")
            yield to_pixels(pixels, device), rest[0] if rest else None
        return
    pixels, order = images.pixels, None
    labels = None if images.labels is None else images.labels.to(pixels.device)
    if generator is not None:
        order = torch.randperm(len(pixels), generator=generator).to(pixels.device)
    for whole in batch_bounds(len(pixels), batch_size, team.size):
        part = slice(*team.share(*whole))
        rows = part if order is None else order[part]
        x = to_pixels(_rows(pixels, rows), device)
        y = None if labels is None else _rows(labels, rows)
        yield torch.bernoulli(x) if images.redrawn else x, y


def _rows(tensor: Tensor, rows: slice | Tensor) -> Tensor:
    # index_select copies an image at once and not pixel by pixel: several times as fast.
    return tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows)


def batch_bounds(count: int, batch_size: int, processes: int = 1) -> list[tuple[int, int]]:
    """Return where each batch starts and stops.

    A last one of a single image, which batch norm could not standardize, or of fewer images than
    there are `processes` to share it, joins the batch before it.
    """
    last = count - max(processes - 1, 1) if batch_size > 1 else count
    return list(pairwise([0, *range(batch_size, last, batch_size), count]))


def _as_tensor(array: Any, name: str) -> Tensor:
    if isinstance(array, Tensor):
        return array
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected an array of numbers, got one of {array.dtype}")
    # Torch takes no foreign byte order and no negative stride, and warns of read-only memory.
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _describe(array: Tensor) -> str:
    return f"{str(array.dtype).removeprefix('torch.')} of shape {tuple(array.shape)}"
