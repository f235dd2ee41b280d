"""The public data sets: where their files come from, one source after the other."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any
from urllib.request import Request, urlopen
from warnings import catch_warnings

import numpy as np
import torch
from tqdm import tqdm

from vaebook.checks import wrong
from vaebook.data.images import Images, as_images

FULL = dict(mnist=70_000, fashion_mnist=70_000, kmnist=70_000, cifar10=60_000)
TORCHVISION = dict(mnist="MNIST", fashion_mnist="FashionMNIST", kmnist="KMNIST", cifar10="CIFAR10")
OPENML = dict(
    mnist="mnist_784", fashion_mnist="Fashion-MNIST", kmnist="Kuzushiji-MNIST", cifar10="CIFAR_10"
)
# From this image on, all pixels' values of the original files add up to this.
SUMS = dict(
    mnist=(0, 1_832_221_745), fashion_mnist=(0, 4_004_583_251), kmnist=(60_000, 368_966_405),
    cifar10=(0, 22_274_057_637),
)  # fmt: skip
HELD_OUT = 10_000
TIMEOUT = 10.0  # seconds in which a server has to answer
SLOWEST = 1000.0  # bytes a second, of which a server sends more in each `TIMEOUT`
DEADLINE = 3600.0  # seconds in which OpenML, whose files scikit-learn fetches, has sent all
PAUSES = (0.0, 1.0, 2.0)  # seconds to wait before each try of a download
ABANDONED = 3600.0  # seconds after which nobody writes to the folder of a download any more

_one_download = Lock()  # because the socket timeout belongs to the whole process


def find(name: str, root: Path, download: bool) -> tuple[list[Images], str]:
    """Return training and test images, and in a few words where they come from.

    They lie in `root` in torchvision's way; or are downloaded: from ``$VAEBOOK_MIRROR``, a URL or
    a folder with the original files, there or in folders of the sets' names, where it is set, else
    by torchvision, else from OpenML. A FileNotFoundError tells what went wrong with each.
    """
    try:
        from torchvision import datasets
    except Exception as error:  # one that does not belong to this PyTorch raises a RuntimeError
        hint = "install it together with PyTorch, both by plain name"
        raise ImportError(f"torchvision, which reads {name}: {error}; {hint}") from error
    public, troubles, told = getattr(datasets, TORCHVISION[name]), {}, False
    for where, get, pauses in sources(name, public, root)[: None if download else 1]:
        for pause in pauses:
            time.sleep(pause)
            try:
                images = get()
            except Exception as error:  # torchvision's are of many kinds
                trouble = " ".join(f"{type(error).__name__}: {error}".split())
                troubles[where] = f"not {where} ({trouble:.400})"
                told = told or not isinstance(error, FileNotFoundError)
                continue
            if told:  # more than that nothing was here
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
        ("torchvision's files", lambda: read_kept(name, public, root), (0.0,)),
        ("downloaded through torchvision", lambda: fetch(name, public, root), PAUSES),
        ("downloaded from OpenML", lambda: fetch_from_openml(name, root), (0.0,)),
    ]
    if mirror:
        way = "taken from VAEBOOK_MIRROR", lambda: fetch(name, public, root, mirror), (0.0,)
        ways.insert(1, way)
    return ways


def read(public: Any, root: Path, *, download: bool = False) -> list[Images]:
    """Read what torchvision keeps in `root`; it holds each download against its MD5 sum."""
    # CIFAR-10's files were pickled by an old NumPy, which a new one complains about.
    with catch_warnings(action="ignore", category=np.exceptions.VisibleDeprecationWarning):
        splits = [public(root, train=train, download=download) for train in (True, False)]
    return [as_images(split.data, split.targets) for split in splits]


def read_kept(name: str, public: Any, root: Path) -> list[Images]:
    """Read what lies in `root`; an error names the files that are damaged."""
    try:
        splits = read(public, root)
        if hasattr(public, "resources"):  # others are held against their MD5 sums
            hold_against_sum(name, splits)
        return splits
    except OtherPixels as error:
        raw = root / public.__name__ / "raw"
        either = "train-images-idx3-ubyte or t10k-images-idx3-ubyte"
        raise ValueError(f"damaged: {raw}, {either}: {error}") from error
    except Exception as error:
        if files := damaged(public, root):
            raise ValueError(f"damaged: {', '.join(map(str, files))}") from error
        if isinstance(error, RuntimeError):  # torchvision's for what is not here
            raise FileNotFoundError(error) from error
        raise


def damaged(public: Any, root: Path) -> list[Path]:
    """Return the files of torchvision's that are there, but not as they should be."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
    from torchvision.datasets.utils import check_integrity

    if not hasattr(public, "resources"):
        listed = [*public.train_list, *public.test_list, public.meta.values()]
        sums = {root / public.base_folder / file: md5 for file, *_, md5 in listed}
        return [
            path for path, md5 in sums.items() if path.exists() and not check_integrity(path, md5)
        ]
    files = []
    for name, _ in public.resources:
        path = Path(root, public.__name__, "raw", name.removesuffix(".gz"))
        try:
            if path.exists():
                read_sn3_pascalvincent_tensor(path)
        except Exception:  # its errors are of many kinds, too
            files.append(path)
    return files


class OtherPixels(ValueError):
    """A set that is full, but not the original one."""


def hold_against_sum(name: str, splits: list[Images]) -> None:
    """Raise an `OtherPixels` if a full set does not have the original pixels."""
    if sum(map(len, splits)) != FULL[name]:
        return
    pixels = torch.cat([part.pixels for part in splits])
    start, total = SUMS[name]
    if int(pixels[start:].sum(dtype=torch.int64)) != total:
        raise OtherPixels(f"{len(pixels):,} images that are not the original ones")


def fetch(name: str, public: Any, root: Path, mirror: str = "") -> list[Images]:
    """Download a data set beside its place, read all of it, and then rename file by file."""
    if hasattr(public, "resources"):
        folder, files, places = f"{public.__name__}/raw", public.resources, public.mirrors
    else:
        folder, files = "", [(public.filename, public.tgz_md5)]
        places = [public.url.removesuffix(public.filename)]
    if mirror:
        place = mirror if "://" in mirror else Path(mirror).absolute().as_uri()
        # Files of several sets have the same names: these may lie in folders of their own.
        places = [place, f"{place.rstrip('/')}/{name}"]
    with downloading(root) as work:
        (work / folder).mkdir(parents=True, exist_ok=True)
        for file, md5 in files:
            fetch_file([f"{place.rstrip('/')}/{file}" for place in places], work / folder, md5)
        splits = read(public, work, download=True)  # which unpacks what it finds
        for path in work.rglob("*"):
            if path.is_file() and path.suffix != ".gz":
                goal = root / path.relative_to(work)
                goal.parent.mkdir(parents=True, exist_ok=True)
                path.replace(goal)
    return splits


def fetch_file(urls: list[str], folder: Path, md5: str) -> None:
    """Download a file from the first URL that has it whole; an OSError tells of each."""
    from torchvision.datasets.utils import check_integrity

    troubles = []
    for url in urls:
        path = folder / url.rpartition("/")[2]
        try:
            request = Request(url, headers={"User-Agent": "vaebook"})
            with within(3 * TIMEOUT, partial(urlopen, request)) as answer:
                size, label = getattr(answer, "length", None), path.name
                bar = tqdm(total=size, desc=label, unit="B", unit_scale=True, disable=None)
                with bar, path.open("wb") as file:
                    until, sent = time.monotonic() + TIMEOUT, 0
                    # What has come, not so much, for which a server may take for ever.
                    while part := answer.read1(1 << 16):
                        sent += file.write(part)
                        bar.update(len(part))
                        if time.monotonic() > until:
                            if sent < SLOWEST * TIMEOUT:
                                raise TimeoutError(f"less than {SLOWEST:,.0f} bytes a second")
                            until, sent = time.monotonic() + TIMEOUT, 0
            if check_integrity(path, md5):
                return
            raise wrong(url, "the original file", f"{path.stat().st_size:,} other bytes")
        except ValueError as error:
            troubles.append(str(error))
        except (OSError, HTTPException) as error:
            troubles.append(f"{url}: {error}")
    raise OSError("; ".join(troubles))


def fetch_from_openml(name: str, root: Path) -> list[Images]:
    """Download a set from OpenML, whose rows are first the training images, and keep it."""
    from sklearn.datasets import fetch_openml

    with downloading(root) as work:
        how: Any = dict(data_home=work, as_frame=False, return_X_y=True, n_retries=1)
        # Numbers as they come: pandas 3.1 makes categories that scikit-learn stumbles over.
        how["read_csv_kwargs"] = {"dtype": None}
        with catch_warnings(action="ignore"):  # of each try: the last one's error is told
            rows, labels = within(DEADLINE, lambda: fetch_openml(OPENML[name], version=1, **how))
        shape = (3, 32, 32) if name == "cifar10" else (1, 28, 28)
        classes = np.array([int(str(label).strip("'")) for label in labels])
        images = as_images(np.asarray(rows).astype(np.uint8).reshape(-1, *shape), classes)
        hold_against_sum(name, [images])
        if len(images) != FULL[name]:
            raise wrong(name, f"all {FULL[name]:,} images", f"{len(images):,}")
        splits = [images[:-HELD_OUT], images[-HELD_OUT:]]
        for file, part in zip(("train.npz", "test.npz"), splits, strict=True):
            np.savez_compressed(work / file, images=part.pixels, labels=np.asarray(part.labels))
        (root / name).mkdir(exist_ok=True)
        for file in ("test.npz", "train.npz"):
            (work / file).replace(root / name / file)
    return splits


def within(seconds: float, get: Callable[[], Any]) -> Any:
    """Return what a function gets from a server, or raise a TimeoutError: it may send a trickle."""
    answer: Future[Any] = Future()

    def work() -> None:
        try:
            answer.set_result(get())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.done():
            raise  # its own
        raise TimeoutError(f"not all of its answer within {seconds:,.0f} s") from None


@contextmanager
def downloading(root: Path) -> Iterator[Path]:
    """Lend a folder beside the data, gone afterwards, and let no server be silent for ever."""
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    folder = TemporaryDirectory(dir=root, prefix=".partial-", ignore_cleanup_errors=True)
    with _one_download, folder as work:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)  # torchvision would wait for ever
        try:
            yield Path(work)
        finally:
            socket.setdefaulttimeout(before)


def sweep(root: Path) -> None:
    """Remove what downloads that were killed have left: folders nobody writes to any more."""
    for folder in root.glob(".partial-*"):
        with suppress(OSError):  # another process may be sweeping, too
            newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
            if time.time() - newest > ABANDONED:
                shutil.rmtree(folder)
