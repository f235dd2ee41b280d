"""Reading .npz archives of images, without ever unpickling one."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from vaebook.data.images import Images, as_images

# What NumPy and zipfile raise over a damaged archive, or one that wants unpickling.
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_archive(path: Path) -> Images:
    """Read ``images`` and perhaps ``labels``; a ValueError names the file and what is wrong."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is truncated or another kind of file")
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in ("images", "labels") if key in archive}
            if "images" not in found:
                raise ValueError(f"expected an array 'images', got {list(archive)}")
        return as_images(found["images"], found.get("labels"))
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not an .npz archive of images: {error}") from error


def has_splits(folder: Path) -> bool:
    """Tell whether a folder is meant for `read_splits`: one half of it is enough."""
    return (folder / "train.npz").is_file() or (folder / "test.npz").is_file()


def read_splits(folder: Path) -> tuple[Images, Images]:
    """Read ``train.npz`` and ``test.npz``."""
    for file in ("train.npz", "test.npz"):
        if not (folder / file).is_file():
            raise ValueError(f"{folder}: expected train.npz and test.npz, got no {file}")
    return read_archive(folder / "train.npz"), read_archive(folder / "test.npz")
