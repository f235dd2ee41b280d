"""The one door to data: `load` takes a name or a path and returns a `Dataset`."""

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from warnings import catch_warnings

import numpy as np
import torch

from vaebook.data import textures
from vaebook.data.files import Size, parse_size, read_archive, read_folder, read_splits, resize_crop
from vaebook.data.images import Images, as_images

CLOTHES = "T-shirt/trouser/pullover/dress/coat/sandal/shirt/sneaker/bag/ankle boot"
THINGS = "airplane/automobile/bird/cat/deer/dog/frog/horse/ship/truck"
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": tuple(CLOTHES.split("/")),
    "kmnist": tuple("おきすつなはまやれを"),
    "cifar10": tuple(THINGS.split("/")),
    "digits": tuple("0123456789"),
    "textures": textures.FAMILIES,
}
NAMES = tuple(CLASSES)
FULL = dict(mnist=70_000, fashion_mnist=70_000, kmnist=70_000, cifar10=60_000)
PUBLIC = dict(mnist="MNIST", fashion_mnist="FashionMNIST", kmnist="KMNIST", cifar10="CIFAR10")
TIMEOUT = 10.0  # seconds in which a server has to answer
PAUSES = (0.0, 1.0, 2.0)  # seconds to wait before each try of a download

_one_download = threading.Lock()  # because the socket timeout belongs to the whole process


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on, images held out (or None), and where they come from.

    `classes` names the labels, `source` tells in one line where the pixels come from, fit to be
    shown on a page, and `stand_in` whether they replace others that could not be had.
    """

    name: str
    train: Images
    test: Images | None
    classes: tuple[str, ...]
    source: str
    stand_in: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.train.image_shape

    def binarized(self, kind: str = "dynamic") -> "Dataset":
        """Return the data with pixels that are 0 or 1, as `Images.binarized` draws them.

        The test images are drawn once in any case, so that every model is judged on the same.
        """
        test = self.test and self.test.binarized("static", seed=1)
        how = "anew at each use" if kind == "dynamic" else "once"
        source = f"{self.source}; training images binarized {how}, test images once"
        return replace(self, train=self.train.binarized(kind), test=test, source=source)


def cache_folder() -> Path:
    """Return the user's cache folder for this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vaebook").expanduser()


def data_root() -> Path:
    """Return the folder of the data: ``$VAEBOOK_DATA``, or else the user's cache folder."""
    return Path(os.environ.get("VAEBOOK_DATA") or cache_folder()).expanduser()


def load(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    offline: str | None = None,
    image_size: Any = None,
) -> Dataset:
    """Load images by the name of a data set or from a path.

    Parameters
    ----------
    name_or_path
        ``mnist``, ``fashion_mnist``, ``kmnist`` or ``cifar10``; ``digits`` or ``textures``, which
        need no network; or a path, such as ``"./mnist"``, of an ``.npz`` archive with ``images``
        and perhaps ``labels``, of a folder with ``train.npz`` and ``test.npz``, or of a folder of
        pictures, flat or in class folders.
    root, download
        Where named sets are kept, as ``<name>/train.npz`` and ``test.npz`` or in torchvision's
        way (``$VAEBOOK_DATA``, or else the user's cache); whether to download one not there.
    offline
        The named set, such as ``"digits"``, that stands in for one that cannot be had.
    image_size
        A side or ``(height, width)`` that all images are scaled to cover, and then cropped to.

    Raises
    ------
    FileNotFoundError, ValueError
        For what is neither there nor can be downloaded; for what is damaged or makes no sense.

    Examples
    --------
    >>> data = load("digits", image_size=32)
    >>> data.train, data.classes[:3]
    (Images(1,500 of 1×32×32, uint8, 10 classes), ('0', '1', '2'))
    """
    size = parse_size(image_size)
    if offline is not None and offline not in NAMES:
        raise ValueError(f"offline: expected a data set's name, got {_unknown(offline)}")
    if not isinstance(name_or_path, str) or name_or_path not in NAMES:
        return _load_path(name_or_path, size)
    folder = data_root() if root is None else Path(root).expanduser()
    try:
        splits, origin = _find(name_or_path, folder, download)
    except FileNotFoundError:
        if offline is None or offline == name_or_path:
            raise
        data = load(offline, root=folder, download=False, image_size=size)
        print(f"{name_or_path} is not here and cannot be downloaded: {offline} stands in for it.")
        return replace(data, source=f"stand-in for {name_or_path}: {data.source}", stand_in=True)
    if sum(map(len, splits)) < (full := FULL.get(name_or_path, 0)):
        origin += f", a sample of the full {full:,}"
    return _dataset(name_or_path, origin, splits, CLASSES[name_or_path], size)


def _dataset(
    name: str, origin: str, splits: list[Images], classes: tuple[str, ...] | None, size: Size
) -> Dataset:
    if size is not None:
        splits = [Images(resize_crop(part.pixels, size), part.labels) for part in splits]
    train, test = splits[0], splits[1] if len(splits) > 1 else None
    if test and test.image_shape != train.image_shape:
        shapes = f"{train.image_shape}, got {test.image_shape}"
        raise ValueError(f"{name}: expected test images of shape {shapes}")
    ends = [int(e) for part in splits if part.labels is not None for e in part.labels.aminmax()]
    low, high = min(ends, default=0), max(ends, default=-1)
    limit = 10_000 if classes is None else len(classes)  # beyond it are no class indices
    if low < 0 or high >= limit:
        raise ValueError(f"{name}: expected labels from 0 to {limit - 1}, got {low} to {high}")
    if classes is None:  # an archive does not name its classes
        classes = tuple(map(str, range(high + 1)))
    held_out = f" and {len(test):,} test" if test else ""
    source = f"{name}, {origin}: {len(train):,} training{held_out} images"
    return Dataset(name, train, test, classes, source)


def _load_path(given: str | os.PathLike[str], size: Size) -> Dataset:
    path, classes = Path(given).expanduser(), None
    if path.is_file():
        splits, origin = [read_archive(path)], "an .npz archive"
    elif splits := read_splits(path):
        origin = "a folder of .npz archives"
    elif path.is_dir():
        splits, classes, skipped = read_folder(path, size)
        origin = f"a folder of pictures{f' ({skipped:,} unreadable)' if skipped else ''}"
    elif given == path.name and not path.suffix:  # looks like a name
        wish = "a data set's name or a path"
        raise ValueError(f"name_or_path: expected {wish}, got {_unknown(path.name)}")
    else:
        raise FileNotFoundError(f"{path}: expected an .npz archive or a folder, got nothing there")
    return _dataset(path.resolve().name, origin, splits, classes, size)


def _unknown(name: str) -> str:
    nearest = get_close_matches(name.lower().replace("-", "_"), NAMES, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{name!r}{hint} (known: {', '.join(NAMES)})"


def _find(name: str, root: Path, download: bool) -> tuple[list[Images], str]:
    """Return training and test images, and in a few words where they come from."""
    if splits := read_splits(root / name):  # damaged, they are an error: the reader put them there
        return splits, ".npz archives"
    if name == "digits":
        return _digits(), "scikit-learn's 8×8 handwritten digits brought to 28×28"
    if name == "textures":
        return _textures(), "patches drawn by vaebook"
    try:
        return _read_torchvision(name, root), "torchvision's files"
    except Exception as error:  # torchvision's are of many kinds
        trouble = f"{type(error).__name__}: {error}"
    for pause in PAUSES if download else ():
        time.sleep(pause)
        try:
            return _fetch(name, root), "downloaded through torchvision"
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
    trouble = trouble.strip().splitlines()[-1]  # what the last mirror said
    raise FileNotFoundError(
        f"{name}: expected train.npz and test.npz in {root / name} or torchvision's files in "
        f"{root}, got neither ({trouble}); set VAEBOOK_DATA to a folder that has the data, "
        'connect to the network, or pass offline="digits"'
    )


def _read_torchvision(name: str, root: Path, *, download: bool = False) -> list[Images]:
    """Read what torchvision keeps in `root`; it holds each download against its MD5 sum."""
    import torchvision

    dataset = getattr(torchvision.datasets, PUBLIC[name])
    # CIFAR-10's files were pickled by an old NumPy, which a new one complains about.
    with catch_warnings(action="ignore", category=np.exceptions.VisibleDeprecationWarning):
        splits = [dataset(root, train=train, download=download) for train in (True, False)]
    return [as_images(split.data, split.targets) for split in splits]


def _fetch(name: str, root: Path) -> list[Images]:
    """Download a data set beside its place, read all of it, and then rename file by file."""
    root.mkdir(parents=True, exist_ok=True)
    with _one_download, TemporaryDirectory(dir=root, prefix=".partial-") as work:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)  # torchvision would wait for ever
        try:
            splits = _read_torchvision(name, Path(work), download=True)
        finally:
            socket.setdefaulttimeout(before)
        for file in Path(work).rglob("*"):
            if file.is_file() and file.suffix != ".gz":
                goal = root / file.relative_to(work)
                goal.parent.mkdir(parents=True, exist_ok=True)
                file.replace(goal)
    return splits


def _digits() -> list[Images]:
    """Return scikit-learn's digits: 1,500 and 297, with every class in the same proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small = load_digits()
    pixels = resize_crop(torch.tensor(small.images / 16).float()[:, None], (28, 28))
    digits, order = as_images(pixels.mul(255).round().byte(), small.target), np.arange(len(pixels))
    parts = train_test_split(order, test_size=297, stratify=small.target, random_state=0)
    return [digits[part] for part in parts]


def _textures() -> list[Images]:
    """Return 36,000 and 6,000 textures: drawn once, and kept in the user's cache if it can be."""
    file = cache_folder() / f"textures-{textures.VERSION}.npz"
    if file.exists():
        patches = read_archive(file)
    else:
        images, labels = textures.make_textures(42_000)
        patches = as_images(images, labels)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=file.parent, prefix=".partial-") as work:
                np.savez(Path(work, file.name), images=images, labels=labels)
                Path(work, file.name).replace(file)
    return [patches[:36_000], patches[36_000:]]
