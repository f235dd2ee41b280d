"""Reading folders of pictures."""

import sys
import warnings
from glob import glob
from pathlib import Path, PurePath

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from vaebook.data.images import Images
from vaebook.data.sizes import resize_crop

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def read_folder(
    folder: Path, size: tuple[int, int] | None
) -> tuple[list[Images], tuple[str, ...], int]:
    """Read pictures that lie flat in a folder or in class folders.

    A folder ``train`` with ``test`` or ``val`` beside it, or alone, holds the classes one level
    down. Hidden files and other suffixes do not count. Classes are numbered in the order of
    their names. Pictures are turned upright by their EXIF tag; alpha is laid over white;
    16-bit grey is divided by 257; an animation gives its first frame. The images have one
    channel if every pixel of every picture is grey, and three otherwise.

    An unreadable picture is skipped, with one warning that counts and names them: a bad file
    among ten thousand should cost a reader that file only. When more than half are unreadable
    something else is wrong, and that is an error.

    Returns the training and perhaps the test images, the classes, and how many were skipped.
    """
    splits = [_listing(part) for part in _split_folders(folder)]
    if not splits[0]:
        raise ValueError(f"{folder}: expected pictures to train on, or .npz archives, got none")
    pictures, failures = _decode_all([file for part in splits for file in part], size)
    failed = f"{len(failures):,} unreadable pictures: {', '.join(failures[:3])}"
    classes = sorted({name for part in splits for name in part.values() if name})
    index = {name: number for number, name in enumerate(classes)}
    channels = max(map(len, pictures.values()), default=1)
    images = []
    for part in filter(None, splits):
        files = [file for file in part if file in pictures]
        if 2 * len(files) < len(part):
            raise ValueError(f"{folder}: expected most pictures to be readable, got {failed}")
        pixels = torch.stack([pictures[file].expand(channels, -1, -1) for file in files])
        labels = [index[name] for file in files if (name := part[file])]
        images.append(Images(pixels, torch.tensor(labels) if labels else None))
    if failures:
        warnings.warn(f"{folder}: skipped {failed}", stacklevel=4)
    return images, tuple(classes), len(failures)


def _split_folders(folder: Path) -> list[Path]:
    names = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."}
    held_out = [name for name in ("test", "val") if name in names][:1]
    if "train" in names and (held_out or len(names) == 1):
        return [folder / name for name in ("train", *held_out)]
    return [folder]


def _listing(folder: Path) -> dict[Path, str | None]:
    """Map each picture below a folder to the class folder it lies in, or all to None."""
    # glob leaves out what is hidden and follows links, of which readers build their subsets.
    below = [PurePath(file) for file in sorted(glob("**/*", root_dir=folder, recursive=True))]
    below = [file for file in below if file.suffix.lower() in SUFFIXES]
    flat = sum(len(file.parts) == 1 for file in below)
    if 0 < flat < len(below):
        raise ValueError(
            f"{folder}: expected all pictures in class folders or none, got {flat:,} outside them "
            f"and {len(below) - flat:,} inside"
        )
    return {folder / file: None if flat else file.parts[0] for file in below}


def _decode_all(
    files: list[Path], size: tuple[int, int] | None
) -> tuple[dict[Path, Tensor], list[str]]:
    pictures: dict[Path, Tensor] = {}
    failures = []
    for file in tqdm(files, desc="pictures", leave=False, disable=not sys.stderr.isatty()):
        try:
            picture = decode(file)
        except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
            failures.append(f"{file.name} ({type(error).__name__})")
            continue
        if size is not None:
            picture = resize_crop(picture[None], size)[0]
        first, like = next(iter(pictures.items()), (file, picture))
        if picture.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"{file}: expected the size of {first.name}, {tuple(like.shape[1:])}, got "
                f"{tuple(picture.shape[1:])}; pass image_size to bring the pictures to one size"
            )
        pictures[file] = picture
    return pictures, failures


def decode(file: Path) -> UInt8[Tensor, "channels height width"]:
    """Read one picture, as grey (one channel) if all of its pixels are."""
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
