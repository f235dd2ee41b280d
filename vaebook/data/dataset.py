"""The one door to data: `load` takes a name or a path and returns a `Dataset`."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
import torch

from vaebook.checks import ImageShape, as_seed, is_whole, one_of, printable, user_path, wrong
from vaebook.data import public, textures
from vaebook.data.files import Size, parse_size, read_archive, read_folder, read_splits, resize_crop
from vaebook.data.images import Images, as_images

CLASSES = dict(
    mnist="0/1/2/3/4/5/6/7/8/9",
    fashion_mnist="T-shirt/trouser/pullover/dress/coat/sandal/shirt/sneaker/bag/ankle boot",
    kmnist="お/き/す/つ/な/は/ま/や/れ/を",
    cifar10="airplane/automobile/bird/cat/deer/dog/frog/horse/ship/truck",
    digits="0/1/2/3/4/5/6/7/8/9",
    textures="/".join(textures.FAMILIES),
)
#: The data sets that `load` knows by name.
NAMES = tuple(CLASSES)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on, images held out (or None), and where they come from."""

    name: str  #: of the set, or of the file or folder
    train: Images  #: to train on
    test: Images | None  #: held out; of the same shape
    classes: tuple[str, ...]  #: names of the labels
    source: str  #: where the pixels come from, in one line that is fit to be shown on a page
    stand_in: bool = False  #: whether they replace others that could not be had
    files: tuple[Path, ...] = ()  #: of a folder of pictures, those that `train` was read from
    validation: Images | None = None  #: those to find settings by, see `split`

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height and width of every image."""
        return self.train.image_shape

    def split(self, validation: int = 5_000, *, seed: int = 0) -> "Dataset":
        """Return the data with so many training images set apart as `validation`, drawn by `seed`.

        Settings are found by these, so that the test images are used once. Raises a ValueError for
        data split or binarized before, or where not two training images are left.

        >>> load("digits").split(300).validation
        Images(300 of 1×28×28, uint8, 10 classes)
        """
        if self.validation or self.train.redrawn:
            raise wrong("split", "data neither split nor binarized yet", self.source)
        total = len(self.train)
        if not is_whole(validation) or validation > total - 2:
            raise wrong("validation", f"a number that leaves 2 of {total:,} images", validation)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(as_seed(seed)))
        apart, kept = order[:validation].sort().values, order[validation:].sort().values
        source = f"{self.source}; {validation:,} of the training images set apart by seed {seed}"
        files = tuple(self.files[i] for i in kept) if self.files else ()
        train, held = self.train[kept], self.train[apart]
        return replace(self, train=train, validation=held, source=source, files=files)

    def binarized(self, kind: str = "dynamic") -> "Dataset":
        """Return the data binarized as by `Images.binarized`, held-out images in any case once."""
        test = self.test and self.test.binarized("static", seed=1)  # the same for every model
        validation = self.validation and self.validation.binarized("static", seed=2)
        how = "anew at each use" if kind == "dynamic" else "once"
        source = f"{self.source}; training images binarized {how}, test images once"
        train = self.train.binarized(kind)
        return replace(self, train=train, validation=validation, test=test, source=source)


def cache_folder() -> Path:
    """Return the user's cache folder for this package, or, without a home, a temporary one."""
    try:
        given = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return user_path("XDG_CACHE_HOME", given) / "vaebook"
    except ValueError:
        return Path(gettempdir(), "vaebook")


def data_root() -> Path:
    """Return the folder of the data: ``$VAEBOOK_DATA``, or else the user's cache folder."""
    return user_path("VAEBOOK_DATA", os.environ.get("VAEBOOK_DATA") or cache_folder())


def load(
    name_or_path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None,
    download: bool = True, offline: str | None = None, image_size: Any = None,
) -> Dataset:  # fmt: skip
    """Load images by the name of a data set or from a path.

    Raises a FileNotFoundError for what is neither there nor can be downloaded, a ValueError for
    what is damaged or makes no sense.

    Parameters
    ----------
    name_or_path
        ``mnist``, ``fashion_mnist``, ``kmnist``, ``cifar10``; ``digits`` or ``textures``, that need
        no network; or a path, such as ``"./mnist"``: an ``.npz`` archive of ``images`` and perhaps
        ``labels``, a folder of ``train.npz`` and ``test.npz``, or one of pictures or class folders.
        A picture may have 50 million pixels, before and after scaling, all together take half of
        the memory, and an array in an archive 1 GiB or 200 times the archive's size; in a folder
        each file counts once, whatever links to it, and of several pages the first.
    root, download
        Where named sets are kept, as ``<name>/train.npz`` and ``test.npz`` or in torchvision's
        way (``$VAEBOOK_DATA``, or else the user's cache); whether to download one not there,
        from ``$VAEBOOK_MIRROR``, if set, a URL or folder of the original files, where each set may
        have a folder of its name; through torchvision; or from OpenML.
    offline, image_size
        The named set, such as ``"digits"``, that stands in for one that cannot be had; a side or
        ``(height, width)`` that all images are scaled to cover, and then cropped to.

    Examples
    --------
    >>> data = load("digits", image_size=32)
    >>> data.train, data.classes[:3]
    (Images(1,500 of 1×32×32, uint8, 10 classes), ('0', '1', '2'))
    """
    size = None if image_size is None else parse_size(image_size)
    if offline is not None:
        one_of("offline", offline, *NAMES)
    if not isinstance(name_or_path, str) or name_or_path not in NAMES:
        return _load_path(name_or_path, size)
    folder = data_root() if root is None else user_path("root", root)
    try:
        splits, origin = _find(name_or_path, folder, download)
    except FileNotFoundError:
        if offline is None or offline == name_or_path:
            raise
        data = load(offline, root=folder, download=False, image_size=size)
        print(f"{name_or_path} is not here and cannot be downloaded: {offline} stands in for it.")
        return replace(data, source=f"stand-in for {name_or_path}: {data.source}", stand_in=True)
    if sum(map(len, splits)) < (full := public.FULL.get(name_or_path, 0)):
        origin += f", a sample of the full {full:,}"
    return _dataset(name_or_path, origin, splits, CLASSES[name_or_path].split("/"), size)


def _dataset(name: str, origin: str, splits: list[Images], classes: Any, size: Size) -> Dataset:
    try:
        splits = [replace(part, pixels=resize_crop(part.pixels, size)) for part in splits]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    train, test = splits[0], splits[1] if len(splits) > 1 else None
    if test and test.image_shape != train.image_shape:
        raise wrong(name, f"test images of shape {train.image_shape}", test.image_shape)
    ends = [int(e) for part in splits if part.labels is not None for e in part.labels.aminmax()]
    low, high = min(ends, default=0), max(ends, default=-1)
    limit = len(classes) or 10_000  # beyond it are no class indices
    if low < 0 or high >= limit:
        raise wrong(name, f"labels from 0 to {limit - 1}", f"{low} to {high}")
    classes = tuple(classes or map(str, range(high + 1)))  # an archive does not name them
    held_out = f" and {len(test):,} test" if test else ""
    source = f"{name}, {origin}: {len(train):,} training{held_out} images"
    return Dataset(name, train, test, classes, source)


def _load_path(given: str | os.PathLike[str], size: Size) -> Dataset:
    path, classes, files = user_path("name_or_path", given), tuple[str, ...](), tuple[Path, ...]()
    if not os.fspath(given).strip():  # which pathlib takes for the current folder
        raise wrong("name_or_path", f"a path or one of {', '.join(NAMES)}", repr(given))
    if path.is_file():
        splits, origin = [read_archive(path)], "an .npz archive"
    elif splits := read_splits(path):
        origin = "a folder of .npz archives"
    elif path.is_dir():
        splits, classes, files, skipped = read_folder(path, size)
        origin = f"a folder of pictures{f' ({skipped:,} unreadable)' if skipped else ''}"
    elif given == path.name and not path.suffix:  # looks like a name
        raise wrong("name_or_path", f"a path or one of {', '.join(NAMES)}", repr(given))
    else:
        raise FileNotFoundError(f"{path}: expected an .npz archive or a folder, got nothing there")
    data = _dataset(printable(path.resolve().name), origin, splits, classes, size)
    return replace(data, files=files)


def _find(name: str, root: Path, download: bool) -> tuple[list[Images], str]:
    """Return training and test images, and in a few words where they come from."""
    if splits := read_splits(root / name):  # damaged, they are an error: the reader put them there
        return splits, ".npz archives"
    if name == "digits":
        return _digits(), "scikit-learn's 8×8 handwritten digits brought to 28×28"
    if name == "textures":
        return _textures(), "patches drawn by vaebook"
    return public.find(name, root, download)


def _digits() -> list[Images]:
    """Return scikit-learn's digits: 1,500 and 297, with every class in the same proportion."""
    from sklearn import datasets, model_selection

    small = datasets.load_digits()
    pixels = resize_crop(torch.tensor(small.images / 16).float()[:, None], (28, 28))
    digits = as_images(pixels.mul(255).round().byte(), small.target)
    how = dict(test_size=297, stratify=small.target, random_state=0)
    return [digits[part] for part in model_selection.train_test_split(np.arange(1797), **how)]


def _textures() -> list[Images]:
    """Return 36,000 and 6,000 textures: drawn once, and kept in the user's cache if it can be."""
    file = cache_folder() / f"textures-{textures.VERSION}.npz"
    patches = None
    with suppress(ValueError):  # damaged, it is made anew
        patches = read_archive(file) if file.is_file() else None
    if patches is None or len(patches) != 42_000:
        images, labels = textures.make_textures(42_000)
        patches = as_images(images, labels)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            public.sweep(file.parent)
            with TemporaryDirectory(dir=file.parent, prefix=".partial-") as work:
                np.savez(Path(work, file.name), images=images, labels=labels)
                Path(work, file.name).replace(file)
    return [patches[:36_000], patches[36_000:]]
