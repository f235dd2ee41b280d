"""Bringing images of any size to one size."""

import operator
from typing import Any

import torch
from torch import Tensor


def parse_size(image_size: Any) -> tuple[int, int] | None:
    """Turn 64 into ``(64, 64)``, keep ``(height, width)`` and None, and refuse the rest."""
    if image_size is None:
        return None
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"image_size: expected a positive integer or (height, width), got {image_size!r}"
        )
    return height, width


def resize_crop(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale images until they just cover `size`, then cut out the middle.

    Bicubic and antialiased, so that a picture that shrinks does not glitter; uint8 stays uint8.
    """
    old, new = pixels.shape[2:], torch.Size(size)
    if old == new:
        return pixels
    scale = max(new[0] / old[0], new[1] / old[1])
    cover = [max(side, round(scale * before)) for side, before in zip(new, old, strict=True)]
    pixels = torch.nn.functional.interpolate(pixels, cover, mode="bicubic", antialias=True)
    if pixels.is_floating_point():
        pixels = pixels.clamp(0, 1)  # a cubic overshoots at edges; uint8 is clamped by torch
    top, left = ((wide - side) // 2 for wide, side in zip(cover, new, strict=True))
    return pixels[:, :, top : top + new[0], left : left + new[1]].contiguous()
