"""Images from files: .npz archives and folders of pictures, brought to one size."""

import warnings
from glob import glob
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from vaebook.checks import is_whole, wrong
from vaebook.data.images import Images, as_images

Size = tuple[int, int] | None  # height and width, or as it comes
HELD_OUT = ("test", "testing", "validation", "valid", "val", "dev", "eval")  # the first counts
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def parse_size(image_size: Any) -> tuple[int, int]:
    """Turn 64 into ``(64, 64)``, keep ``(height, width)``, and refuse the rest."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    # PyTorch 2.15 scales wrongly to a single column.
    if len(sides) != 2 or not all(is_whole(side, least=2) for side in sides):
        raise wrong("image_size", "2 pixels or more, or (height, width)", repr(image_size))
    return int(sides[0]), int(sides[1])


def resize_crop(pixels: Tensor, size: Size) -> Tensor:
    """Scale images, bicubic and antialiased, until they cover `size`; cut out the middle."""
    old = pixels.shape[2:]
    if size is None or old == size:
        return pixels
    scale = max(new / side for new, side in zip(size, old, strict=True))
    cover = [max(new, round(scale * side)) for new, side in zip(size, old, strict=True)]
    pixels = torch.nn.functional.interpolate(pixels, cover, mode="bicubic", antialias=True)
    pixels = pixels.clamp(0, 1 if pixels.is_floating_point() else 255)  # a cubic overshoots edges
    top, left = (cover[0] - size[0]) // 2, (cover[1] - size[1]) // 2
    return pixels[:, :, top : top + size[0], left : left + size[1]].contiguous()


def read_archive(path: Path) -> Images:
    """Read ``images`` and perhaps ``labels``; a ValueError names the file and what is wrong."""
    try:
        # np.load would take other files, too.
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
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
        raise wrong(str(folder), "train.npz and test.npz", f"no {missing[0]}")
    return [] if missing else [read_archive(file) for file in files]


def read_folder(folder: Path, size: Size) -> tuple[list[Images], tuple[str, ...], int]:
    """Return training and perhaps test images, the classes, and how many pictures were skipped.

    Pictures lie flat or in class folders, below ``train`` and ``test`` (or ``val``, ``dev``, …, in
    any case) where there is a ``train``, and become RGB unless all are grey. A few unreadable ones
    are skipped with one warning.
    """
    splits = [_listing(folder / part) for part in _parts(folder)]
    if not splits[0]:
        raise wrong(str(folder), "pictures to train on, or .npz archives", "none")
    pictures, unreadable = {}, []
    for file in tqdm([file for part in splits for file in part], leave=False, disable=None):
        try:
            pictures[file] = resize_crop(_decode(file)[None], size)[0]
        except Exception:  # Pillow's readers raise nearly anything, too
            unreadable.append(file.name)
    skipped = f"{len(unreadable):,} unreadable pictures: {', '.join(unreadable[:3])}"
    sizes = {str(tuple(picture.shape[1:])): file.name for file, picture in pictures.items()}
    if len(sizes) > 1:
        got = ", ".join(f"{size} of {name}" for size, name in [*sizes.items()][:2])
        raise wrong(str(folder), "pictures of one size", f"{got}; pass image_size")
    classes = sorted({name for part in splits for name in part.values() if name})
    channels = max(map(len, pictures.values()), default=1)
    images = []
    for part in filter(None, splits):
        files = [file for file in part if file in pictures]
        if 2 * len(files) < len(part):
            raise wrong(str(folder), "most pictures to be readable", skipped)
        pixels = torch.stack([pictures[file].expand(channels, -1, -1) for file in files])
        labels = [classes.index(name) for file in files if (name := part[file])]
        images.append(Images(pixels, torch.tensor(labels) if labels else None))
    if unreadable:
        warnings.warn(f"{folder}: skipped {skipped}", stacklevel=4)
    return images, tuple(classes), len(unreadable)


def _parts(folder: Path) -> list[str]:
    """Return the folders of the training and held-out pictures, or that all are training ones."""
    named = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    held = {entry.name.lower(): entry.name for entry in named if _listing(entry)}
    train = next((held[name] for name in ("train", "training") if name in held), None)
    if train is None:
        return ["."]
    known = [held[name] for name in HELD_OUT if name in held]
    if others := sorted({*held.values()} - {train, *known}):
        wanted = f"beside {train!r} only {', '.join(HELD_OUT)}"
        raise wrong(str(folder), wanted, ", ".join(others[:5]))
    return [train, *known[:1]]


def _listing(folder: Path) -> dict[Path, str | None]:
    """Map each picture below a folder to the class folder it lies in, or all to None."""
    # glob leaves out what is hidden and follows links, of which readers build their subsets.
    below = [PurePath(file) for file in sorted(glob("**/*", root_dir=folder, recursive=True))]
    below = [file for file in below if file.suffix.lower() in SUFFIXES]
    flat = sum(len(file.parts) == 1 for file in below)
    if 0 < flat < len(below):
        got = f"{flat:,} outside them and {len(below) - flat:,} inside"
        raise wrong(str(folder), "all pictures in class folders or none", got)
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
