"""The public data sets: where their files come from, one source after the other."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from warnings import catch_warnings

import numpy as np

from vaebook.checks import wrong
from vaebook.data.images import Images, as_images

FULL = dict(mnist=70_000, fashion_mnist=70_000, kmnist=70_000, cifar10=60_000)
TORCHVISION = dict(mnist="MNIST", fashion_mnist="FashionMNIST", kmnist="KMNIST", cifar10="CIFAR10")
OPENML = dict(
    mnist="mnist_784", fashion_mnist="Fashion-MNIST", kmnist="Kuzushiji-MNIST", cifar10="CIFAR_10"
)
# From this image on, all pixels' values of the original files add up to this.
SUMS = dict(
    mnist=(0, 1_832_221_745), fashion_mnist=(0, 4_004_583_251), kmnist=(60_000, 368_966_405)
)
HELD_OUT = 10_000
TIMEOUT = 10.0  # seconds in which a server has to answer
PAUSES = (0.0, 1.0, 2.0)  # seconds to wait before each try of a download

_one_download = Lock()  # because the socket timeout belongs to the whole process


def find(name: str, root: Path, download: bool) -> tuple[list[Images], str]:
    """Return training and test images, and in a few words where they come from.

    They lie in `root` in torchvision's way; or are downloaded: from ``$VAEBOOK_MIRROR``, a URL or
    a folder with the original files, where it is set, else by torchvision, else from OpenML.
    Raises a FileNotFoundError that tells what went wrong with each.
    """
    try:
        from torchvision import datasets
    except Exception as error:  # one that does not belong to this PyTorch raises a RuntimeError
        hint = "install it together with PyTorch, both by plain name"
        raise ImportError(f"torchvision, which reads {name}: {error}; {hint}") from error
    public, troubles = getattr(datasets, TORCHVISION[name]), {}
    for where, get, pauses in sources(name, public, root)[: None if download else 1]:
        for pause in pauses:
            time.sleep(pause)
            try:
                images = get()
            except Exception as error:  # torchvision's are of many kinds
                trouble = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
                troubles[where] = f"not {where} ({trouble:.200})"
                continue
            if len(troubles) > 1:  # more than that nothing was here
                print(f"{name}: {'; '.join(troubles.values())}; {where}")
            return images, where
    wanted = f"train.npz and test.npz in {root / name} or torchvision's files in {root}"
    hint = 'set VAEBOOK_DATA to their folder, connect to the network or pass offline="digits"'
    raise FileNotFoundError(
        str(wrong(name, wanted, f"neither: {'; '.join(troubles.values())}; {hint}"))
    )


def sources(name: str, public: Any, root: Path) -> list[tuple[str, Any, tuple[float, ...]]]:
    """Return each way to a set: in words, as a function, and the pauses before its tries."""
    mirror = os.path.expanduser(os.environ.get("VAEBOOK_MIRROR", "").removeprefix("file://"))
    ways: list[tuple[str, Any, tuple[float, ...]]] = [
        ("torchvision's files", lambda: read(public, root), (0.0,)),
        ("downloaded through torchvision", lambda: fetch(public, root), PAUSES),
        ("downloaded from OpenML", lambda: fetch_from_openml(name, root), (0.0,)),
    ]
    if mirror:
        way = "taken from VAEBOOK_MIRROR", lambda: fetch(public, root, mirror), (0.0,)
        ways.insert(1, way)
    return ways


def read(public: Any, root: Path, *, download: bool = False) -> list[Images]:
    """Read what torchvision keeps in `root`; it holds each download against its MD5 sum."""
    # CIFAR-10's files were pickled by an old NumPy, which a new one complains about.
    with catch_warnings(action="ignore", category=np.exceptions.VisibleDeprecationWarning):
        splits = [public(root, train=train, download=download) for train in (True, False)]
    return [as_images(split.data, split.targets) for split in splits]


def mirrored(public: Any, mirror: str) -> Any:
    """Return torchvision's class, reading the same files from another URL."""
    base = mirror.rstrip("/")
    changed = {"mirrors": [f"{base}/"], "url": f"{base}/{getattr(public, 'filename', '')}"}
    return type(public.__name__, (public,), changed)


def fetch(public: Any, root: Path, mirror: str = "") -> list[Images]:
    """Download a data set beside its place, read all of it, and then rename file by file."""
    with downloading(root) as work:
        if mirror and "://" not in mirror:  # a folder: what lies where it belongs is not downloaded
            names = [name for name, _ in getattr(public, "resources", [])]
            raw = Path(work, public.__name__, "raw") if names else work
            raw.mkdir(parents=True, exist_ok=True)
            for name in names or [public.filename]:
                shutil.copyfile(Path(mirror, name), raw / name)
        elif mirror:
            public = mirrored(public, mirror)
        splits = read(public, work, download=True)
        for file in work.rglob("*"):
            if file.is_file() and file.suffix != ".gz":
                goal = root / file.relative_to(work)
                goal.parent.mkdir(parents=True, exist_ok=True)
                file.replace(goal)
    return splits


def fetch_from_openml(name: str, root: Path) -> list[Images]:
    """Download a set from OpenML, whose rows are first the training images, and keep it."""
    from sklearn.datasets import fetch_openml

    with downloading(root) as work:
        rows, labels = fetch_openml(
            OPENML[name], version=1, data_home=work, as_frame=False, return_X_y=True, n_retries=1
        )
        shape = (3, 32, 32) if name == "cifar10" else (1, 28, 28)
        images = as_images(
            np.asarray(rows).astype(np.uint8).reshape(-1, *shape), labels.astype(int)
        )
        start, total = SUMS.get(name, (FULL[name], 0))
        if len(images) != FULL[name] or int(images.pixels[start:].long().sum()) != total:
            raise ValueError(f"{len(images):,} images that are not the original ones")
        splits = [images[:-HELD_OUT], images[-HELD_OUT:]]
        for file, part in zip(("train.npz", "test.npz"), splits, strict=True):
            np.savez_compressed(work / file, images=part.pixels, labels=np.asarray(part.labels))
        (root / name).mkdir(exist_ok=True)
        for file in ("test.npz", "train.npz"):
            (work / file).replace(root / name / file)
    return splits


@contextmanager
def downloading(root: Path) -> Iterator[Path]:
    """Lend a folder beside the data, gone afterwards, and let no server be silent for ever."""
    root.mkdir(parents=True, exist_ok=True)
    with _one_download, TemporaryDirectory(dir=root, prefix=".partial-") as work:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)  # torchvision would wait for ever
        try:
            yield Path(work)
        finally:
            socket.setdefaulttimeout(before)
