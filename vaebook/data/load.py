"""The one door to data: `load` takes a name or a path and returns a `Dataset`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vaebook.data.archives import has_splits, read_archive, read_splits
from vaebook.data.folders import read_folder
from vaebook.data.images import Images
from vaebook.data.named import CLASSES, NAMES, data_root, find
from vaebook.data.sizes import parse_size, resize_crop

__all__ = ["NAMES", "Dataset", "load"]

MOST_CLASSES = 10_000  # labels beyond this are taken for something other than class indices


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        size = "×".join(map(str, self.image_shape))
        return f"Dataset({self.source}; {size}, {len(self.classes) or 'no'} classes)"


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
        ``"mnist"``, ``"fashion_mnist"``, ``"kmnist"``, ``"cifar10"``, or, without any network,
        ``"digits"`` (scikit-learn's) and ``"textures"`` (drawn by this package). Any other
        string and every `pathlib.Path` is a path: an ``.npz`` archive with ``images`` as
        `as_images` takes them and perhaps ``labels``, a folder with ``train.npz`` and
        ``test.npz``, or a folder of pictures, flat or in class folders (see
        `vaebook.data.folders.read_folder`). For a folder called mnist write ``"./mnist"``.
    root
        Folder of the named data sets: ``$VAEBOOK_DATA``, or else a per-user cache. A set is
        looked for as ``<root>/<name>/train.npz`` and ``test.npz``, then as torchvision keeps it.
    download
        Whether to download a named set that is not there.
    offline
        The named data set to use when the one asked for cannot be had, such as ``"digits"``.
        That is printed, and the `source` begins with "stand-in".
    image_size
        A side or ``(height, width)``: images are scaled, antialiased, until they cover it, and
        the middle is cut out. Needed for pictures that differ in size.

    Raises
    ------
    FileNotFoundError
        For a path where nothing is, or a named set that is not there nor can be downloaded.
    ValueError
        For an unknown name, a damaged archive, or images, labels or a size that make no sense.

    Examples
    --------
    >>> data = load("digits", image_size=32)
    >>> data.train, data.classes[:3]
    (Images(1,500 of 1×32×32, uint8, 10 classes), ('0', '1', '2'))
    """
    size = parse_size(image_size)
    if offline is not None and offline not in NAMES:
        raise ValueError(_unknown("offline", offline, "a data set's name"))
    if not isinstance(name_or_path, str) or name_or_path not in NAMES:
        return _load_path(name_or_path, size)
    folder = data_root() if root is None else Path(root).expanduser()
    try:
        train, test, origin = find(name_or_path, folder, download=download)
    except FileNotFoundError:
        if offline is None or offline == name_or_path:
            raise
        data = load(offline, root=folder, download=False, image_size=size)
        print(f"{name_or_path} is not here and cannot be downloaded: {offline} stands in for it.")
        return replace(data, source=f"stand-in for {name_or_path}: {data.source}", stand_in=True)
    return _dataset(name_or_path, origin, [train, test], CLASSES[name_or_path], size)


def _load_path(given: str | os.PathLike[str], size: tuple[int, int] | None) -> Dataset:
    path, classes = Path(given).expanduser(), None
    if path.is_file():
        splits, origin = [read_archive(path)], "an .npz archive"
    elif has_splits(path):
        splits, origin = list(read_splits(path)), "a folder of .npz archives"
    elif path.is_dir():
        splits, classes, skipped = read_folder(path, size)
        origin = "a folder of pictures" + (f" ({skipped:,} unreadable)" if skipped else "")
    elif given == path.name and not path.suffix:  # looks like a name
        raise ValueError(_unknown("name_or_path", path.name, "a data set's name or a path"))
    else:
        raise FileNotFoundError(f"{path}: expected an .npz archive or a folder, got nothing there")
    return _dataset(path.resolve().name, origin, splits, classes, size)


def _dataset(
    name: str,
    origin: str,
    splits: Sequence[Images],
    classes: tuple[str, ...] | None,
    size: tuple[int, int] | None,
) -> Dataset:
    if size is not None:
        splits = [Images(resize_crop(part.pixels, size), part.labels) for part in splits]
    train, test = splits[0], splits[1] if len(splits) > 1 else None
    if test is not None and test.image_shape != train.image_shape:
        raise ValueError(
            f"{name}: expected test images of shape {train.image_shape}, got {test.image_shape}"
        )
    known = [part.labels for part in splits if part.labels is not None]
    labels = [int(end) for part in known for end in part.aminmax()]
    limit = MOST_CLASSES if classes is None else len(classes)
    if labels and (min(labels) < 0 or max(labels) >= limit):
        raise ValueError(
            f"{name}: expected labels from 0 to {limit - 1}, got {min(labels)} to {max(labels)}"
        )
    if classes is None:  # an archive does not name its classes
        classes = tuple(map(str, range(max(labels, default=-1) + 1)))
    source = f"{name}, {origin}: {len(train):,} training"
    source += " images" if test is None else f" and {len(test):,} test images"
    return Dataset(name, train, test, classes, source)


def _unknown(argument: str, got: str, wanted: str) -> str:
    nearest = get_close_matches(got.lower().replace("-", "_"), NAMES, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{argument}: expected {wanted}, got {got!r}{hint} (known: {', '.join(NAMES)})"
