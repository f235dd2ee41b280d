"""The data sets that have a name: where each is looked for, how it is fetched or made."""

import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from vaebook.data import textures
from vaebook.data.archives import has_splits, read_archive, read_splits
from vaebook.data.images import Images, as_images
from vaebook.data.sizes import resize_crop

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
PUBLIC = {  # torchvision's class, and the official counts for training and testing
    "mnist": ("MNIST", 60_000, 10_000),
    "fashion_mnist": ("FashionMNIST", 60_000, 10_000),
    "kmnist": ("KMNIST", 60_000, 10_000),
    "cifar10": ("CIFAR10", 50_000, 10_000),
}
TIMEOUT = 10.0  # seconds in which a server has to answer
PAUSES = (1.0, 2.0)  # seconds to wait before the second and the third try
# What torchvision lets through of a failed download or a damaged copy.
TROUBLE = (OSError, RuntimeError, ValueError, EOFError, HTTPException)
Splits = tuple[Images, Images]

_one_download = threading.Lock()  # because the socket timeout belongs to the whole process


def data_root() -> Path:
    """Return the folder of the data: ``$VAEBOOK_DATA``, or else a cache folder of the user's."""
    if folder := os.environ.get("VAEBOOK_DATA"):
        return Path(folder).expanduser()
    cache = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(cache or Path.home() / ".cache") / "vaebook"


def find(name: str, root: Path, *, download: bool) -> tuple[Images, Images, str]:
    """Return training images, test images, and in a few words where they come from.

    A damaged archive is an error, not a reason to look further: the reader put it there.
    """
    _, *full = PUBLIC.get(name, ("", 0, 0))
    if has_splits(root / name):
        train, test = read_splits(root / name)
        whole = len(train) >= full[0] and len(test) >= full[1]
        sample = "" if whole else f"a sample (the full set has {full[0]:,} and {full[1]:,}) in "
        return train, test, f"{sample}.npz archives"
    if name == "digits":
        return *make_digits(), "scikit-learn's 8×8 handwritten digits brought to 28×28"
    if name == "textures":
        return *cached_textures(root), "patches drawn by vaebook"
    try:
        return *read_torchvision(name, root), "torchvision's files"
    except TROUBLE as error:
        damage = "" if "not found" in str(error) else f" whole ({_reason(error)})"
    failure = "download=False"
    if download:
        try:
            return *fetch(name, root), "downloaded through torchvision"
        except TROUBLE as error:
            failure = f"the download failed ({_reason(error)})"
    raise FileNotFoundError(
        f"{name}: expected train.npz and test.npz in {root / name} or torchvision's files in "
        f"{root}, found neither{damage}, and {failure}; set VAEBOOK_DATA to a folder that has "
        'the data, connect to the network, or pass offline="digits"'
    )


def read_torchvision(name: str, root: Path, *, download: bool = False) -> Splits:
    """Read what torchvision keeps in `root`; it holds each download against its MD5 sum."""
    import torchvision

    dataset = getattr(torchvision.datasets, PUBLIC[name][0])
    with warnings.catch_warnings():
        # CIFAR-10's files were pickled by an old NumPy, which a new one complains about.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (dataset(root, train=part, download=download) for part in (True, False))
    return as_images(train.data, train.targets), as_images(test.data, test.targets)


def fetch(name: str, root: Path) -> Splits:
    """Download a data set into `root`, where nothing appears before all of it has been read.

    Then each file moves to its place in one step. torchvision takes a set for complete when
    its last file is there, so that two processes at once cost bandwidth and nothing else.
    """
    with _one_download, workplace(root) as work:
        before, start = socket.getdefaulttimeout(), time.monotonic()
        socket.setdefaulttimeout(TIMEOUT)  # torchvision would wait for ever
        try:
            for pause in (*PAUSES, None):
                try:
                    splits = read_torchvision(name, work, download=True)
                    break
                except TROUBLE:
                    silent = not any(path.is_file() for path in work.rglob("*"))
                    # A network that swallows all it is sent has cost enough time already.
                    if pause is None or (silent and time.monotonic() - start >= TIMEOUT):
                        raise
                    time.sleep(pause)
        finally:
            socket.setdefaulttimeout(before)
        for file in work.rglob("*"):
            if file.is_file() and file.suffix != ".gz":
                put(file, root / file.relative_to(work))
    return splits


@contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """Lend a temporary folder in `root` (so that a move is a rename), gone whatever happens."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=root, prefix=".partial-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OSError(f"{root} is not writable: {error.strerror}") from error
    with folder as path:
        yield Path(path)


def put(file: Path, goal: Path) -> None:
    """Move a whole file to its place in one step."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(file, goal)
    except PermissionError:
        if not goal.exists():  # on Windows, one that another process is reading must stay
            raise


def _reason(error: BaseException) -> str:
    # torchvision reports every mirror on lines of its own; wanted is what went wrong.
    lines = [line for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(("Error downloading", "Tried"))]
    return "; ".join(dict.fromkeys(causes)) or type(error).__name__


def make_digits() -> Splits:
    """Return scikit-learn's digits: 1,500 and 297, with every class in the same proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small = load_digits()
    pixels = torch.tensor(small.images, dtype=torch.float32)[:, None] / 16
    pixels = resize_crop(pixels, (28, 28)).mul(255).round().to(torch.uint8)
    digits, order = as_images(pixels, small.target), np.arange(len(pixels))
    train, test = train_test_split(order, test_size=297, stratify=small.target, random_state=0)
    return digits[train], digits[test]


def cached_textures(root: Path) -> Splits:
    """Return 36,000 and 6,000 textures: drawn once, and kept in `root` where that is possible.

    The file is named after the code that drew it, so that no older patches are taken for new.
    """
    code = sha256(Path(textures.__file__).read_bytes()).hexdigest()[:12]
    cache = root / "textures" / f"{code}.npz"
    if cache.exists():
        patches = read_archive(cache)
    else:
        images, labels = textures.make_textures(42_000)
        with suppress(OSError), workplace(root) as work:
            np.savez(work / cache.name, images=images, labels=labels)
            put(work / cache.name, cache)
        patches = as_images(images, labels)
    return patches[:36_000], patches[36_000:]
