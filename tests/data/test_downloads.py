"""Downloads from a server on this machine, through torchvision's own classes and checks."""

import gc
import gzip
import hashlib
import os
import pickle
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, KMNIST

from tests.forked import run_together
from vaebook.data import load, public

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

KEPT = os.environ.get("VAEBOOK_DATA")  # before a test sets it
ORIGIN = "downloaded through torchvision, a sample of the full 70,000"


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


RNG = np.random.default_rng(0)
PIXELS = {
    "train": RNG.integers(0, 256, (30, 28, 28), np.uint8),
    "t10k": np.eye(28, dtype=np.uint8)[None],
}
FILES = {
    f"{split}-{kind}-ubyte.gz": gzip.compress(idx(array))
    for split, pixels in PIXELS.items()
    for kind, array in {
        "images-idx3": pixels,
        "labels-idx1": np.arange(len(pixels), dtype=np.uint8) % 10,
    }.items()
}
SUMS = [(name, hashlib.md5(content).hexdigest()) for name, content in FILES.items()]
RAW = {f"{name.removesuffix('.gz')}" for name in FILES}


class Host(ThreadingHTTPServer):
    """Serves `FILES`; its fields say what goes wrong."""

    failures = 0  # answer this many downloads with an error first
    spoil = False  # send other bytes
    gate = None  # a barrier at which downloads of the first file wait for each other


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        if self.server.gate and name == SUMS[0][0]:
            self.server.gate.wait(60)
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
        else:
            body = FILES[name][::-1] if self.server.spoil else FILES[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args):
        """Keep quiet."""


def unreachable(*args, **kwargs):
    raise OSError("no route to host")


@pytest.fixture
def host(monkeypatch):
    server = Host(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(KMNIST, "mirrors", [server.url])
    monkeypatch.setattr(KMNIST, "resources", SUMS)
    monkeypatch.setattr(public, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("VAEBOOK_MIRROR", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()  # of the sockets that torchvision leaves open, while they are not complained of


def files_in(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_download_is_whole_and_needed_once(host, data_root):
    data = load("kmnist")
    assert data.train.pixels[:, 0].equal(torch.from_numpy(PIXELS["train"]))
    assert data.test.labels.tolist() == [0]
    assert data.source == f"kmnist, {ORIGIN}: 30 training and 1 test images"
    assert files_in(data_root) == {f"KMNIST/raw/{name}" for name in RAW}
    assert [path.name for path in data_root.iterdir()] == ["KMNIST"]
    again = load("kmnist", download=False)
    assert again.train.pixels.equal(data.train.pixels)
    assert again.source.startswith("kmnist, torchvision's files")
    assert socket.getdefaulttimeout() is None


def test_it_is_tried_three_times(host, data_root):
    host.failures = 2
    assert len(load("kmnist").train) == 30
    assert host.failures == 0


def test_a_server_that_stays_broken(host, data_root):
    host.failures = 99
    with pytest.raises(FileNotFoundError, match=r"HTTP Error 503.*connect to"):
        load("kmnist")
    assert host.failures == 96
    assert list(data_root.iterdir()) == []


def test_other_bytes_than_the_official_ones_are_refused(host, data_root):
    host.spoil = True
    with pytest.raises(FileNotFoundError, match=r"images-idx3-ubyte.gz: expected the original"):
        load("kmnist")
    assert list(data_root.iterdir()) == []
    assert load("kmnist", offline="digits").stand_in


def test_a_server_that_is_silent_costs_three_timeouts(host, data_root, monkeypatch):
    monkeypatch.setattr(public, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(KMNIST, "mirrors", [f"http://127.0.0.1:{deaf.getsockname()[1]}/"])
        start = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            load("kmnist")
    assert 0.6 <= time.monotonic() - start < 5
    assert list(data_root.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(host, data_root, monkeypatch):
    def interrupted(self):
        Path(self.raw_folder).mkdir(parents=True, exist_ok=True)
        (Path(self.raw_folder) / "half").write_text("half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr(KMNIST, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("kmnist")
    assert list(data_root.iterdir()) == []
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("left", [0, 3])
def test_a_damaged_copy_is_told_of_or_replaced(host, data_root, left):
    load("kmnist")
    for name in sorted(RAW)[left:]:
        (data_root / "KMNIST" / "raw" / name).write_bytes(b"\0\0\x08\x03" * 5)
    with pytest.raises(FileNotFoundError, match=r"got neither: not torchvision.*set VAEBOOK"):
        load("kmnist", download=False)
    assert len(load("kmnist").train) == 30
    assert len(load("kmnist", download=False).train) == 30


def test_threads_at_once(host, data_root):
    results = []
    threads = [threading.Thread(target=lambda: results.append(load("kmnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(data.train) for data in results] == [30] * 4
    assert [path.name for path in data_root.iterdir()] == ["KMNIST"]
    assert socket.getdefaulttimeout() is None


def test_processes_at_once(host, data_root, tmp_path):
    host.gate = threading.Barrier(2)  # neither gets ahead before both are at it
    program = tmp_path / "program.py"
    program.write_text(
        "from torchvision.datasets import KMNIST; from vaebook.data import load\n"
        f"KMNIST.mirrors, KMNIST.resources = [{host.url!r}], {SUMS!r}\n"
        "data = load('kmnist'); print(data.source, int(data.train.pixels.sum()))\n"
    )
    there = [{"VAEBOOK_DATA": str(data_root)}] * 2
    said = run_together([[program]] * 2, tmp_path, there)
    expected = f"{ORIGIN}: 30 training and 1 test images {PIXELS['train'].sum()}"
    assert all(printed.strip().endswith(expected) for _, printed, _ in said), said
    assert files_in(data_root) == {f"KMNIST/raw/{name}" for name in RAW}
    assert [path.name for path in data_root.iterdir()] == ["KMNIST"]


def test_cifar10_as_an_old_numpy_pickled_it(data_root, monkeypatch):
    folder = data_root / CIFAR10.base_folder
    folder.mkdir()

    def put(name, **entries):
        # A flag that is an integer, not a bool, is what a new NumPy warns about.
        content = pickle.dumps(entries, protocol=0).replace(b"I00\n", b"I0\n")
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    pixels = np.zeros((2, 3 * 32 * 32), np.uint8)
    pixels[:, 0] = 7
    meta = put("batches.meta", label_names=["airplane"])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    )
    monkeypatch.setattr(CIFAR10, "train_list", [put("data_batch_1", data=pixels, labels=[3, 9])])
    monkeypatch.setattr(CIFAR10, "test_list", [put("test_batch", data=pixels, labels=[1, 2])])
    with pytest.warns(np.exceptions.VisibleDeprecationWarning, match="align"):
        CIFAR10(data_root)
    data = load("cifar10", download=False)
    assert data.image_shape == (3, 32, 32)
    assert data.train.pixels[0, :, 0, 0].tolist() == [7, 0, 0]
    assert data.train.labels.tolist() == [3, 9]
    assert data.classes[9] == "truck"


def openml(rows, labels, spoil=0):
    """What scikit-learn returns of OpenML: a row of numbers for each image, labels as texts."""

    def fetch(name, *, version, data_home, **how):
        assert (name, version) == ("Kuzushiji-MNIST", 1)
        (Path(data_home) / "cached").write_bytes(b"0" * 99)
        return rows.astype(float) + spoil, labels.astype(str)

    return fetch


def as_rows():
    rows = np.concatenate([*PIXELS.values()]).reshape(-1, 784)
    return rows, np.arange(len(rows)) % 10


def test_openml_is_the_second_source(host, data_root, monkeypatch, capsys):
    rows, labels = as_rows()
    host.failures = 99
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml(rows, labels))
    monkeypatch.setitem(public.FULL, "kmnist", len(rows))
    monkeypatch.setitem(public.SUMS, "kmnist", (30, 28))
    monkeypatch.setattr(public, "HELD_OUT", 1)
    data = load("kmnist")
    assert data.source == "kmnist, downloaded from OpenML: 30 training and 1 test images"
    assert "; not downloaded through torchvision (" in capsys.readouterr().out
    assert data.train.pixels[:, 0].equal(torch.from_numpy(PIXELS["train"]))
    assert data.train.labels.tolist() == labels[:30].tolist()
    assert files_in(data_root) == {"kmnist/train.npz", "kmnist/test.npz"}
    again = load("kmnist", download=False)
    assert again.test.pixels.equal(data.test.pixels)


@pytest.mark.parametrize(("count", "spoil"), [(31, 1), (30, 0)])
def test_other_images_of_openml_are_refused(host, data_root, monkeypatch, count, spoil):
    rows, labels = as_rows()
    host.failures = 99
    fetch = openml(rows[-count:], labels[-count:], spoil)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    monkeypatch.setitem(public.FULL, "kmnist", len(rows))
    monkeypatch.setitem(public.SUMS, "kmnist", (30, 28))
    with pytest.raises(
        FileNotFoundError, match=r"not the original ones|expected all 31 images, got 30"
    ):
        load("kmnist")
    assert list(data_root.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "url", "url/"])
def test_a_mirror_of_the_users_comes_first(host, data_root, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    place = str(folder) if kind == "folder" else host.url.rstrip("/") + kind.removeprefix("url")
    monkeypatch.setenv("VAEBOOK_MIRROR", place)
    data = load("kmnist")
    assert data.train.pixels[:, 0].equal(torch.from_numpy(PIXELS["train"]))
    assert data.source.startswith("kmnist, taken from VAEBOOK_MIRROR")
    assert files_in(data_root) == {f"KMNIST/raw/{name}" for name in RAW}


def test_a_damaged_local_file_is_named_when_the_download_fails_too(host, data_root):
    load("kmnist")
    (data_root / "KMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"no images")
    host.failures = 99
    with pytest.raises(FileNotFoundError, match=r"not torchvision's files \(.*\); not downloaded"):
        load("kmnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_sums_are_those_of_the_original_images(name):
    try:
        data = load(name, root=KEPT, download=False)
    except FileNotFoundError:
        pytest.skip(f"{name} is not here")
    start, total = public.SUMS[name]
    pixels = torch.cat([data.train.pixels, data.test.pixels])
    if len(pixels) == public.FULL[name]:
        assert pixels[start:].long().sum() == total
