"""Images from files: .npz archives and folders of pictures, brought to one size."""

import math
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from vaebook.checks import is_whole, printable, some, wrong
from vaebook.data.images import Images, as_images

Size = tuple[int, int] | None  # height and width, or as it comes
HELD_OUT = ("test", "testing", "validation", "valid", "val", "dev", "eval")  # the first counts
MOST_PIXELS = 50_000_000  # of one picture, which take about 800 MB while it is read
INFLATED, RATIO = 2**30, 200  # bytes of an array that any archive may hold, and times its own
# Those that Pillow can only name, or hands to other programs.
NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


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
    _check_pixels(*cover)  # a long thin picture covers far more than is kept of it
    pixels = torch.nn.functional.interpolate(pixels, cover, mode="bicubic", antialias=True)
    pixels = pixels.clamp(0, 1 if pixels.is_floating_point() else 255)  # a cubic overshoots edges
    top, left = (cover[0] - size[0]) // 2, (cover[1] - size[1]) // 2
    return pixels[:, :, top : top + size[0], left : left + size[1]].contiguous()


def read_archive(path: Path) -> Images:
    """Read ``images`` and perhaps ``labels``; a ValueError names the file and what is wrong."""
    try:
        # np.load would take other files, too, and any amount of memory. Of what is odd in a header
        # Python warns without the file's name.
        with warnings.catch_warnings(action="ignore"), ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if "images" not in names:
                raise ValueError(f"expected an array 'images', got [{some([*map(repr, names)])}]")
            limit = max(INFLATED, RATIO * path.stat().st_size)
            labels = _read_array(archive, "labels", limit) if "labels" in names else None
            return as_images(_read_array(archive, "images", limit), labels)
    except Exception as error:  # a damaged archive makes NumPy and zipfile raise nearly anything
        reason = " ".join(str(error).split())  # which may quote long parts of the file
        wanted = f"{path}: not an .npz archive of images, nor a folder of pictures"
        raise ValueError(f"{wanted}: {reason:.500}") from error


def _read_array(archive: ZipFile, name: str, limit: int) -> np.ndarray:
    """Read an array of an archive, unless its header tells of more bytes than `limit`."""
    with archive.open(f"{name}.npy") as file:
        # Of later formats the header may be of any length, and plain arrays do not need them.
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"expected {name!r} in NumPy's format 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if (size := math.prod(shape) * dtype.itemsize) > limit:
        wanted = f"{INFLATED / 2**30:.0f} GiB and {RATIO} times the file"
        raise ValueError(f"{name!r} of {size:,} bytes is more than {wanted}")
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_splits(folder: Path) -> list[Images]:
    """Read ``train.npz`` and ``test.npz``; return nothing where neither is."""
    files = [folder / "train.npz", folder / "test.npz"]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == 1:
        raise wrong(str(folder), "train.npz and test.npz", f"no {missing[0]}")
    return [] if missing else [read_archive(file) for file in files]


def read_folder(folder: Path, size: Size) -> tuple[list[Images], tuple[str, ...], Any, int]:
    """Return training and perhaps test images, classes, training files, and how many were skipped.

    Pictures lie flat or in class folders, below ``train`` and ``test`` (or ``val``, ``dev``, …, in
    any case) where there is a ``train``, and become RGB unless all are grey. A few unreadable ones
    are skipped with one warning.
    """
    splits = _splits(folder)
    others = [name for part in splits for name in part.others]
    left_out = f"{len(others):,} files that are no pictures by their names: {some(others)}"
    if not splits[0].pictures:
        got = f"none, but {left_out}" if others else "none"
        raise wrong(str(folder), "pictures to train on, or .npz archives", got)
    classes = sorted({name for part in splits for name in part.pictures.values() if name})
    if strange := [ascii(name) for name in classes if name != printable(name)]:
        raise wrong(str(folder), "class folders with names in UTF-8", some(strange))
    files = [*splits[0].pictures, *splits[-1].pictures]
    pictures, unreadable, paged = _read_pictures(folder, [*dict.fromkeys(files)], size)
    skipped = f"{len(unreadable):,} unreadable pictures: {some(unreadable)}"
    sizes = {str(tuple(picture.shape[1:])): file.name for file, picture in pictures.items()}
    if len(sizes) > 1:
        got = ", ".join(f"{size} of {name}" for size, name in [*sizes.items()][:2])
        raise wrong(str(folder), "pictures of one size", f"{got}; pass image_size")
    channels = max(map(len, pictures.values()), default=1)
    images = []
    for part in (part.pictures for part in splits if part.pictures):
        files = [file for file in part if file in pictures]
        if 2 * len(files) < len(part):
            raise wrong(str(folder), "most pictures to be readable", skipped)
        pixels = torch.stack([pictures[file].expand(channels, -1, -1) for file in files])
        labels = [classes.index(name) for file in files if (name := part[file])]
        images.append(Images(pixels, torch.tensor(labels) if labels else None))
    first = f"took the first of the images in each of {len(paged):,} files: {some(paged)}"
    told = {f"skipped {skipped}": unreadable, f"left out {left_out}": others, first: paged}
    for warning in (text for text, files in told.items() if files):
        warnings.warn(f"{folder}: {warning}", stacklevel=4)
    read = tuple(file for file in splits[0].pictures if file in pictures)
    return images, tuple(classes), read, len(unreadable)


def _read_pictures(
    folder: Path, files: list[Path], size: Size
) -> tuple[dict[Path, Tensor], list[str], list[str]]:
    """Return pictures, the names and faults of unreadable ones, and names of those of pages."""
    pictures, unreadable, paged = {}, [], []
    for file in tqdm(files, leave=False, disable=None):
        try:
            picture, pages = _decode(file)
            pictures[file] = resize_crop(picture[None], size)[0]
        except Exception as error:  # Pillow's readers raise nearly anything, too
            unknown = type(error).__name__ == "UnidentifiedImageError"  # and names the whole path
            fault = "not a kind that Pillow knows" if unknown else " ".join(str(error).split())
            unreadable.append(f"{file.name[:40]} ({(fault or type(error).__name__)[:75]})")
        else:
            paged += [file.name] * pages
            if (need := pictures[file].nbytes * len(files)) > (most := memory() / 2):
                wanted = f"pictures of at most {most / 2**30:.1f} GiB, half of the memory here"
                got = f"{need / 2**30:.1f} GiB, {len(files):,} times {file.name}"
                raise wrong(str(folder), wanted, f"{got}; a small image_size helps")
    return pictures, unreadable, paged


def memory() -> float:
    """Return the bytes of memory that this machine has, or infinity where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # on Windows
        return math.inf


class _Listing(NamedTuple):
    pictures: dict[Path, str | None]  # and the class folder that each lies in, or all None
    others: list[str]  # names of the other files


def _splits(folder: Path) -> list[_Listing]:
    """List the training and perhaps the held-out pictures, or all as training ones."""
    named = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    divided = {"train", "training"} & {entry.name.lower() for entry in named}
    listings = {entry.name: _listing(entry) for entry in named if divided}
    held = {name.lower(): name for name, listing in listings.items() if listing.pictures}
    train = next((held[name] for name in ("train", "training") if name in held), None)
    if train is None:
        return [_listing(folder)]
    known = [held[name] for name in HELD_OUT if name in held]
    if others := sorted({*held.values()} - {train, *known}):
        wanted = f"beside {train!r} only {', '.join(HELD_OUT)}"
        raise wrong(str(folder), wanted, some(others))
    return [listings[name] for name in (train, *known[:1])]


def _listing(folder: Path) -> _Listing:
    """List what lies below a folder: each real file once, and nothing hidden."""
    pictures, others = [], []
    # Links are followed, of which readers build their subsets, but not to a folder above.
    seen = {*Path(os.path.realpath(folder)).parents}
    for at, folders, files in os.walk(folder, followlinks=True):
        if (here := Path(os.path.realpath(at))) in seen:
            folders.clear()
            continue
        seen.add(here)
        # What a link leads to counts where it really lies, if that is below the folder, too.
        below = sorted((Path(at, name) for name in folders if name[0] != "."), key=_links_last)
        folders[:] = [path.name for path in below]
        for path in sorted((Path(at, name) for name in files if name[0] != "."), key=_links_last):
            real = Path(os.path.realpath(path)) if path.is_symlink() else here / path.name
            if not os.path.isfile(real) or path.suffix.lower() not in _suffixes():
                others.append(path.name)
            elif real not in seen:
                pictures.append(path)
            seen.add(real)
    pictures.sort(key=lambda path: os.fspath(path.relative_to(folder)))
    flat = sum(path.parent == folder for path in pictures)
    if 0 < flat < len(pictures):
        got = f"{flat:,} outside them and {len(pictures) - flat:,} inside"
        raise wrong(str(folder), "all pictures in class folders or none", got)
    kinds = {path: None if flat else path.relative_to(folder).parts[0] for path in pictures}
    return _Listing(kinds, others)


def _links_last(path: Path) -> tuple[bool, str]:
    return path.is_symlink(), path.name


@cache
def _suffixes() -> set[str]:
    """Return the suffixes of all pictures that Pillow can open."""
    from PIL import Image

    known = Image.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in {*Image.OPEN} - {*NO_PICTURES}}


def _check_pixels(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise ValueError(f"{height}×{width} is more than {most}")


def _decode(file: Path) -> tuple[UInt8[Tensor, "channels height width"], bool]:
    """Read one picture upright, over white where it is clear, as grey if all its pixels are.

    Return also whether the file holds more of them.
    """
    from PIL import Image, ImageOps

    # Pillow warns of what it leaves out, without the file's name, and of a limit that is higher.
    with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
        _check_pixels(opened.height, opened.width)
        # A phone's JPEG may come with a preview, and Photoshop's pages are layers.
        pages = getattr(opened, "is_animated", False) and opened.format not in ("MPO", "PSD")
        return _as_pixels(ImageOps.exif_transpose(opened)), bool(pages)


def _as_pixels(picture: Any) -> UInt8[Tensor, "channels height width"]:
    from PIL import Image

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
