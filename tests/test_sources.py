"""Every public set against a server on this machine that is slow, wrong, broken or gone."""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets

from vaebook.__main__ import main
from vaebook.data import load, public

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NAMES = ("mnist", "fashion_mnist", "kmnist", "cifar10")
FAULTS = ("silent", "stalled", "trickle", "slow head", "cut", "other", "page", "hung up", "circle")
FAULTS += (403, 404, 503)
CASES = [(name, fault) for name in NAMES for fault in FAULTS]
MIRROR, TORCHVISION, OPENML = ("VAEBOOK_MIRROR", "torchvision", "OpenML")


def packed(content):
    return gzip.compress(content, mtime=0)


def md5(content):
    return hashlib.md5(content).hexdigest()


def original_files(name, pixels, labels):
    """The archives of 6 training images and 2 test images, in the original's format."""
    parts = {"train": slice(None, 6), "t10k": slice(6, None)}
    if name != "cifar10":
        return {
            f"{part}-{kind}-ubyte.gz": packed(
                bytes([0, 0, 8, array.ndim])
                + struct.pack(f">{array.ndim}I", *array.shape)
                + array.tobytes()
            )
            for part, rows in parts.items()
            for kind, array in {
                "images-idx3": pixels[rows, 0],
                "labels-idx1": labels[rows],
            }.items()
        }
    batches = {
        file: pickle.dumps({"data": pixels[rows].reshape(-1, 3072), "labels": [*labels[rows]]})
        for file, rows in zip(("data_batch_1", "test_batch"), parts.values(), strict=True)
    }
    batches["batches.meta"] = pickle.dumps({"label_names": ["airplane"]})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file, content in batches.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return {"cifar-10-python.tar.gz": packed(archive.getvalue())} | batches


def openml_files(name, pixels, labels, url):
    """What OpenML answers of a set: three descriptions and a table."""
    columns = [f"p{index}" for index in range(pixels[0].size)]
    rows = [
        ",".join(map(str, (*row, label)))
        for row, label in zip(pixels.reshape(len(pixels), -1), labels, strict=True)
    ]
    head = [f"@ATTRIBUTE {column} NUMERIC" for column in columns]
    table = "\n".join(
        ["@RELATION r", *head, "@ATTRIBUTE class {0,1,2,3,4,5,6,7}", "@DATA", *rows, ""]
    ).encode()
    about = dict(id="1", name=name, version="1", format="ARFF", status="active", file_id="1")
    about |= dict(url=f"{url}/table", md5_checksum=md5(table), default_target_attribute="class")
    feature = dict(is_target="false", is_ignore="false", is_row_identifier="false")
    feature |= dict(data_type="numeric", number_of_missing_values="0")
    features = [feature | dict(index=str(i), name=column) for i, column in enumerate(columns)]
    target = dict(index=str(len(columns)), name="class", data_type="nominal", is_target="true")
    answers = {
        "search": {"data": {"dataset": [{"did": 1, "status": "active"}]}},
        "info": {"data_set_description": about},
        "features": {"data_features": {"feature": [*features, feature | target]}},
        "qualities": {
            "data_qualities": {"quality": [dict(name="NumberOfInstances", value=len(rows))]}
        },
    }
    return {key: json.dumps(answer).encode() for key, answer in answers.items()} | {"table": table}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        place, _, name = self.path.strip("/").partition("/")
        if place == OPENML:  # name and version follow
            name = name.partition("/")[0]
        fault, body = self.server.faults.get(place), self.server.files.get(f"{place}/{name}")
        if fault == "silent":
            self.server.over.wait(5)
        elif isinstance(fault, int) or body is None:
            self.send_error(fault or 404)
        elif fault in ("circle", "moved"):
            self.send_response(302)
            to = self.path if fault == "circle" else f"/elsewhere/{name}"
            self.send_header("Location", to)
            self.end_headers()
        elif fault == "slow head":
            self.trickle(b"HTTP/1.0 200 OK\r\nX: " + bytes(1000))
        elif fault != "hung up":
            self.answer(fault, body)

    def answer(self, fault, body):
        sent = {"page": b"<html>Please log in.</html>", "other": body[::-1]}.get(fault, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if fault == "trickle":
            return self.trickle(sent)
        self.wfile.write(sent[: len(sent) // 2] if fault in ("cut", "stalled") else sent)
        self.wfile.flush()
        if fault == "stalled":
            self.server.over.wait(5)

    def trickle(self, content):
        """Send byte after byte, each of them in time."""
        with suppress(OSError):  # the client has gone
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.server.over.wait(0.02):
                    break

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def host(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.faults, server.files, server.over = {}, {}, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(MIRROR, f"{server.url}/{MIRROR}")
    monkeypatch.setattr(public, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(public, "TIMEOUT", 0.3)
    monkeypatch.setattr(public, "HELD_OUT", 2)
    monkeypatch.setattr("sklearn.datasets._openml.time", SimpleNamespace(sleep=lambda s: None))
    for key in ("search_name", "data_info", "data_features", "data_qualities"):
        url = f"{server.url}/{OPENML}/{key.partition('_')[2].replace('name', 'search')}/{{}}"
        monkeypatch.setattr(f"sklearn.datasets._openml._{key.upper()}", url)
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def offered(host, monkeypatch):
    """Return a function that puts a small set in place of a named one, at all three sources."""

    def offer(name):
        shape = (8, 3, 32, 32) if name == "cifar10" else (8, 1, 28, 28)
        pixels = np.random.default_rng(NAMES.index(name)).integers(0, 256, shape, np.uint8)
        labels = np.arange(8, dtype=np.uint8)
        files, kind = original_files(name, pixels, labels), getattr(datasets, name_of(name))
        sums = [(file, md5(content)) for file, content in files.items()]
        if name == "cifar10":
            monkeypatch.setattr(kind, "url", f"{host.url}/{TORCHVISION}/{kind.filename}")
            monkeypatch.setattr(kind, "tgz_md5", sums[0][1])
            monkeypatch.setattr(kind, "train_list", [sums[1]])
            monkeypatch.setattr(kind, "test_list", [sums[2]])
            monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums[3][1]})
            sums = sums[:1]
        else:
            monkeypatch.setattr(kind, "mirrors", [f"{host.url}/{TORCHVISION}/"])
            monkeypatch.setattr(kind, "resources", sums)
        for file, _ in sums:
            for place in (MIRROR, TORCHVISION, "elsewhere"):
                host.files[f"{place}/{file}"] = files[file]
        answers = openml_files(name, pixels, labels, f"{host.url}/{OPENML}")
        for key, content in answers.items():
            host.files[f"{OPENML}/{key}"] = content
        monkeypatch.setitem(public.FULL, name, 8)
        monkeypatch.setitem(public.SUMS, name, (0, int(pixels.sum())))
        host.archives = {file: files[file] for file, _ in sums}
        return torch.from_numpy(pixels)

    return offer


def name_of(name):
    return public.TORCHVISION[name]


def left_in(root):
    return [path.relative_to(root).as_posix() for path in root.rglob("*")]


def is_whole(data, pixels):
    return torch.cat([data.train.pixels, data.test.pixels]).equal(pixels)


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_the_next_source_is_taken_and_the_fault_told(host, offered, data_root, capsys, name, fault):
    pixels = offered(name)
    host.faults = {MIRROR: fault}
    data = load(name)
    assert is_whole(data, pixels)
    assert data.source.startswith(f"{name}, downloaded through torchvision")
    line = capsys.readouterr().out.strip()
    archive = next(iter(host.archives))
    assert f"not taken from {MIRROR} (OSError: {host.url}/{MIRROR}/{archive}: " in line
    assert line.endswith("; downloaded through torchvision")
    assert "\n" not in line
    assert not [path for path in left_in(data_root) if "partial" in path or ".gz" in path]
    assert is_whole(load(name, download=False), pixels)


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_with_no_source_left_there_is_one_sentence_and_no_file(
    host, offered, data_root, monkeypatch, name, fault
):
    offered(name)
    monkeypatch.setattr(public, "TIMEOUT", 0.1)
    if fault in ("trickle", "slow head"):
        monkeypatch.setattr(public, "DEADLINE", 0.5)
    host.faults = {MIRROR: fault, TORCHVISION: fault, OPENML: fault}
    with pytest.raises(FileNotFoundError, match=f"^{name}: .*got neither: .*offline=") as caught:
        load(name)
    said = str(caught.value)
    assert "\n" not in said
    for words in (f"not taken from {MIRROR} (", "through torchvision (", "from OpenML ("):
        assert words in said
    assert left_in(data_root) == []


@pytest.mark.parametrize("name", NAMES)
def test_openml_is_the_last_source(host, offered, data_root, capsys, name):
    pixels = offered(name)
    host.faults = {MIRROR: 404, TORCHVISION: "cut"}
    data = load(name)
    assert is_whole(data, pixels)
    assert data.source.startswith(f"{name}, downloaded from OpenML: 6 training and 2 test")
    assert capsys.readouterr().out.count("; not ") == 2
    assert sorted(left_in(data_root)) == [name, f"{name}/test.npz", f"{name}/train.npz"]


@pytest.mark.parametrize("place", [MIRROR, OPENML])
def test_the_command_line_fetches_characters_from_the_source_that_answers(
    host, offered, data_root, monkeypatch, capsys, place
):
    pixels = offered("kmnist")
    host.faults = {there: "hung up" for there in (MIRROR, TORCHVISION, OPENML) if there != place}
    if place == MIRROR:  # by the second of its two places, and after a first source that is dead
        monkeypatch.setattr(datasets.KMNIST, "mirrors", [host.url])
        host.files = {
            file.replace(MIRROR, f"{MIRROR}/kmnist"): body for file, body in host.files.items()
        }
    assert main(["data", "kmnist"]) == 0
    way = {MIRROR: f"taken from {MIRROR}", OPENML: "downloaded from OpenML"}[place]
    assert f"kmnist, {way}: 6 training and 2 test images, 1×28×28" in capsys.readouterr().out
    host.faults = dict.fromkeys((MIRROR, TORCHVISION, OPENML), 404)
    assert is_whole(load("kmnist"), pixels)  # which is kept now


@pytest.mark.parametrize("name", ["kmnist", "cifar10"])
def test_other_pixels_of_openml_are_refused(host, offered, data_root, monkeypatch, name):
    pixels = offered(name)
    host.faults = {MIRROR: 404, TORCHVISION: 404}
    monkeypatch.setitem(public.SUMS, name, (0, int(pixels.sum()) + 1))
    with pytest.raises(FileNotFoundError, match="8 images that are not the original ones"):
        load(name)
    assert left_in(data_root) == []


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_server_may_send_the_reader_elsewhere(host, offered, data_root, name):
    pixels = offered(name)
    host.faults = {MIRROR: "moved"}
    data = load(name)
    assert is_whole(data, pixels)
    assert data.source.startswith(f"{name}, taken from {MIRROR}")


@pytest.mark.parametrize("fault", ["stalled", "cut", 404, "hung up"])
def test_torchvisions_second_server_stands_in_for_its_first(
    host, offered, data_root, monkeypatch, fault
):
    pixels = offered("mnist")
    monkeypatch.delenv(MIRROR)
    servers = [f"{host.url}/{TORCHVISION}/", f"{host.url}/{MIRROR}/"]
    monkeypatch.setattr(datasets.MNIST, "mirrors", servers)
    host.faults = {TORCHVISION: fault}
    data = load("mnist")
    assert is_whole(data, pixels)
    assert data.source.startswith("mnist, downloaded through torchvision")


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_damage_in_a_mirror_folder_is_told(
    host, offered, data_root, monkeypatch, tmp_path, capsys, name, damage
):
    pixels = offered(name)
    folder = tmp_path / "my mirror"
    folder.mkdir()
    for file, content in host.archives.items():
        (folder / file).write_bytes(content)
    bad = folder / list(host.archives)[-1]
    changed = {"cut": bad.read_bytes()[:-9], "other": bad.read_bytes()[::-1]}
    bad.unlink() if damage == "missing" else bad.write_bytes(changed[damage])
    monkeypatch.setenv(MIRROR, str(folder))
    data = load(name)
    assert is_whole(data, pixels)
    assert "through torchvision" in data.source
    line = capsys.readouterr().out
    assert f"not taken from {MIRROR} (" in line
    assert bad.name in line


def test_one_mirror_holds_sets_whose_files_have_the_same_names(
    host, offered, data_root, monkeypatch, tmp_path
):
    mirror = tmp_path / "mirror"
    for name in NAMES:
        offered(name)
        (mirror / name).mkdir(parents=True)
        for file, content in host.archives.items():
            (mirror / name / file).write_bytes(content)
            (mirror / file).write_bytes(content)  # the last one's, where all look first
    monkeypatch.setenv(MIRROR, str(mirror))
    for name in NAMES:
        pixels = offered(name)
        data = load(name)
        assert is_whole(data, pixels)
        assert data.source.startswith(f"{name}, taken from {MIRROR}")


@pytest.mark.parametrize("name", ["kmnist", "cifar10"])
def test_a_damaged_file_of_the_readers_is_named(host, offered, data_root, capsys, name):
    pixels = offered(name)
    load(name)
    folder = data_root / ("cifar-10-batches-py" if name == "cifar10" else f"{name_of(name)}/raw")
    file = folder / ("test_batch" if name == "cifar10" else "t10k-images-idx3-ubyte")
    file.write_bytes(file.read_bytes()[:-1])
    host.faults = {MIRROR: 404, TORCHVISION: 503, OPENML: "hung up"}
    with pytest.raises(FileNotFoundError) as caught:
        load(name)
    assert f"not torchvision's files (ValueError: damaged: {file})" in str(caught.value)
    capsys.readouterr()
    host.faults = {}
    assert is_whole(load(name), pixels)
    assert str(file) in capsys.readouterr().out


def test_other_pixels_of_the_right_size_are_found_out(host, offered, data_root, capsys):
    pixels = offered(name := "mnist")
    load(name)
    file = data_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    wanted = (
        rf"damaged: {re.escape(str(file.parent))}, {file.name} or .*: 8 images that are not the "
    )
    with pytest.raises(FileNotFoundError, match=wanted):
        load(name, download=False)
    assert is_whole(load(name), pixels)
    assert f"damaged: {file.parent}" in capsys.readouterr().out


def test_a_tilde_is_the_home_of_data(host, offered, tmp_path, monkeypatch):
    pixels, home = offered("kmnist"), tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    (home / "mirror").mkdir(parents=True)
    for file, content in host.archives.items():
        (home / "mirror" / file).write_bytes(content)
    monkeypatch.setenv(MIRROR, "~/mirror")
    monkeypatch.setenv("VAEBOOK_DATA", "~/data")
    data = load("kmnist")
    assert is_whole(data, pixels)
    assert data.source.startswith(f"kmnist, taken from {MIRROR}")
    assert (home / "data" / "KMNIST" / "raw").is_dir()
    assert is_whole(load("kmnist", root="~/data", download=False), pixels)
    np.savez(home / "some.npz", images=pixels.numpy())
    assert len(load("~/some.npz").train) == 8


@pytest.mark.parametrize("name", ["kmnist", "cifar10"])
def test_a_place_that_takes_no_files_is_told(host, offered, tmp_path, name):
    offered(name)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        FileNotFoundError, match=r"not taken from VAEBOOK_MIRROR \(.*Error: "
    ) as said:
        load(name, root=tmp_path / "file" / "data")
    assert "\n" not in str(said.value)


def test_what_a_killed_download_left_is_swept(host, offered, data_root):
    pixels = offered("kmnist")
    for folder, age in (("old", 2 * public.ABANDONED), ("new", 1.0)):
        half = data_root / f".partial-{folder}" / "raw" / "half.gz"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half a fi")
        for path in (half, half.parent, half.parent.parent):
            os.utime(path, (time.time() - age,) * 2)
    assert is_whole(load("kmnist"), pixels)
    assert [path.name for path in data_root.glob(".partial-*")] == [".partial-new"]
    shutil.rmtree(data_root / "KMNIST")
    os.utime(Path(data_root, ".partial-new"), (0, 0))  # its file is still young
    assert is_whole(load("kmnist"), pixels)
    assert [path.name for path in data_root.glob(".partial-*")] == [".partial-new"]
