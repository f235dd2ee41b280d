"""Images from files: .npz archives and folders of pictures, brought to one size."""

import warnings
import zipfile
from glob import glob
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from vaebook.data.images import Images, as_images

Size = tuple[int, int] | None  # height and width, or as it comes
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def parse_size(image_size: Any) -> Size:
    """Turn 64 into ``(64, 64)``, keep ``(height, width)`` and None, and refuse the rest."""
    if image_size is None:
        return None
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    # PyTorch 2.15 scales wrongly to a single column.
    if len(sides) != 2 or not all(isinstance(s, int | np.integer) and s > 1 for s in sides):
        wish = "2 pixels or more, or (height, width)"
        raise ValueError(f"image_size: expected {wish}, got {image_size!r}")
    return int(sides[0]), int(sides[1])


def resize_crop(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale images, bicubic and antialiased, until they cover `size`; cut out the middle."""
    old = pixels.shape[2:]
    if old == size:
        return pixels
    scale = max(new / side for new, side in zip(size, old, strict=True))
    cover = [max(new, round(scale * side)) for new, side in zip(size, old, strict=True)]
    pixels = torch.nn.functional.interpolate(pixels, cover, mode="bicubic", antialias=True)
    if pixels.is_floating_point():
        pixels = pixels.clamp(0, 1)  # a cubic overshoots at edges; uint8 is clamped by torch
    top, left = (cover[0] - size[0]) // 2, (cover[1] - size[1]) // 2
    return pixels[:, :, top : top + size[0], left : left + size[1]].contiguous()


def read_archive(path: Path) -> Images:
    """Read ``images`` and perhaps ``labels``; a ValueError names the file and what is wrong."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is truncated or another kind of file")
        with np.load(path, allow_pickle=False) as archive:
            if "images" not in archive:
                raise ValueError(f"expected an array 'images', got {list(archive)}")
            return as_images(archive["images"], archive.get("labels"))
    except Exception as error:  # a damaged archive makes NumPy and zipfile raise nearly anything
        raise ValueError(f"{path}: not an .npz archive of images: {error}") from error


def read_splits(folder: Path) -> list[Images]:
    """Read ``train.npz`` and ``test.npz``; return nothing where neither is."""
    files = [folder / "train.npz", folder / "test.npz"]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == 1:
        raise ValueError(f"{folder}: expected train.npz and test.npz, got no {missing[0]}")
    return [] if missing else [read_archive(file) for file in files]


def read_folder(folder: Path, size: Size) -> tuple[list[Images], tuple[str, ...], int]:
    """Return training and perhaps test images, the classes, and how many pictures were skipped.

    Pictures lie flat or in class folders, below ``train`` and ``test`` (or ``val``) if there is
    one, and become RGB unless every pixel of them all is grey. A few unreadable ones among many
    are skipped with one warning: a bad file should cost that file only.
    """
    names = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."}
    held_out = [name for name in ("test", "val") if name in names][:1]
    apart = "train" in names and (held_out or len(names) == 1)
    splits = [_listing(folder / part) for part in (["train", *held_out] if apart else ["."])]
    if not splits[0]:
        raise ValueError(f"{folder}: expected pictures to train on, or .npz archives, got none")
    pictures, unreadable = {}, []
    for file in tqdm([file for part in splits for file in part], leave=False, disable=None):
        try:
            picture = _decode(file)
            pictures[file] = resize_crop(picture[None], size)[0] if size else picture
        except Exception:  # Pillow's readers raise nearly anything, too
            unreadable.append(file.name)
    skipped = f"{len(unreadable):,} unreadable pictures: {', '.join(unreadable[:3])}"
    sizes = {str(tuple(picture.shape[1:])): file.name for file, picture in pictures.items()}
    if len(sizes) > 1:
        got = ", ".join(f"{size} of {name}" for size, name in [*sizes.items()][:2])
        raise ValueError(f"{folder}: expected pictures of one size, got {got}; pass image_size")
    classes = sorted({name for part in splits for name in part.values() if name})
    channels = max(map(len, pictures.values()), default=1)
    images = []
    for part in filter(None, splits):
        files = [file for file in part if file in pictures]
        if 2 * len(files) < len(part):
            raise ValueError(f"{folder}: expected most pictures to be readable, got {skipped}")
        pixels = torch.stack([pictures[file].expand(channels, -1, -1) for file in files])
        labels = [classes.index(name) for file in files if (name := part[file])]
        images.append(Images(pixels, torch.tensor(labels) if labels else None))
    if unreadable:
        warnings.warn(f"{folder}: skipped {skipped}", stacklevel=4)
    return images, tuple(classes), len(unreadable)


def _listing(folder: Path) -> dict[Path, str | None]:
    """Map each picture below a folder to the class folder it lies in, or all to None."""
    # glob leaves out what is hidden and follows links, of which readers build their subsets.
    below = [PurePath(file) for file in sorted(glob("**/*", root_dir=folder, recursive=True))]
    below = [file for file in below if file.suffix.lower() in SUFFIXES]
    flat = sum(len(file.parts) == 1 for file in below)
    if 0 < flat < len(below):
        got = f"{flat:,} outside them and {len(below) - flat:,} inside"
        raise ValueError(f"{folder}: expected all pictures in class folders or none, got {got}")
    return {folder / file: None if flat else file.parts[0] for file in below}


def _decode(file: Path) -> UInt8[Tensor, "channels height width"]:
    """Read one picture upright, over white where it is clear, as grey if all its pixels are."""
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode[0] in "IF":
        deep = np.asarray(picture)
        if deep.dtype.kind == "f" or deep.min() < 0 or deep.max() > 65535:
            raise ValueError("expected 8 or 16 bits per channel: nothing tells what white is here")
        return torch.from_numpy(np.rint(deep / 257).astype(np.uint8))[None]
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    colour = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    return (colour[:1] if (colour == colour[:1]).all() else colour).contiguous()
