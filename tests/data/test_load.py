import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebook.data import NAMES, data_root, dataset, load, public
from vaebook.data.dataset import CLASSES


@pytest.fixture
def no_network(monkeypatch):
    """Fail every download at once, as it does without a network."""
    import torchvision

    def download(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(public, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", download)
    for kind in (torchvision.datasets.MNIST, torchvision.datasets.CIFAR10):
        monkeypatch.setattr(kind, "download", download)
    monkeypatch.setattr(public, "fetch_file", download)


class Broken:
    """Finds torchvision, but in a state in which it cannot be imported."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise self.error


def test_the_order_of_look_up(data_root, monkeypatch, archive):
    """An archive comes before torchvision's files, and both before a download."""
    asked = []

    def torchvision(public, root, *, download=False):
        asked.append(download)
        raise RuntimeError("Dataset not found.")

    monkeypatch.setattr(public, "read", torchvision)
    monkeypatch.setattr(public, "PAUSES", (0.0,))
    monkeypatch.setattr(public, "fetch_file", lambda *how: None)
    with pytest.raises(FileNotFoundError, match="got neither"):
        load("kmnist")
    assert asked == [False, True]
    pixels = archive(data_root / "kmnist" / "train.npz", 9)
    archive(data_root / "kmnist" / "test.npz", 5)
    data = load("kmnist")
    assert asked == [False, True]
    assert data.train.pixels[:, 0].equal(torch.from_numpy(pixels))
    assert data.classes == tuple("おきすつなはまやれを")
    sample = "a sample of the full 70,000"
    assert data.source == f"kmnist, .npz archives, {sample}: 9 training and 5 test images"
    assert str(data_root) not in repr(data)


def test_a_damaged_archive_is_no_reason_to_look_further(data_root, no_network, archive):
    archive(data_root / "mnist" / "train.npz")
    (data_root / "mnist" / "test.npz").write_text("half a downl")
    with pytest.raises(ValueError, match=r"test\.npz: not an \.npz archive"):
        load("mnist", offline="digits")
    archive(data_root / "mnist" / "test.npz", labels=np.full(6, 10))
    with pytest.raises(ValueError, match="mnist: expected labels from 0 to 9, got 0 to 10"):
        load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "cifar10"])
def test_no_data_and_no_network(name, data_root, no_network):
    with pytest.raises(FileNotFoundError, match=r"no route to host.*set VAEBOOK_DATA") as caught:
        load(name)
    assert str(data_root / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"got neither: .*set VAEBOOK_DATA"):
        load(name, download=False)
    assert list(data_root.iterdir()) == []


def test_a_stand_in_says_so(data_root, no_network, capsys):
    data = load("kmnist", offline="digits", image_size=32)
    told = capsys.readouterr()
    assert told.out == "kmnist is not here and cannot be downloaded: digits stands in for it.\n"
    assert data.stand_in
    assert data.name == "digits"
    assert data.source.startswith("stand-in for kmnist: digits")
    assert data.image_shape == (1, 32, 32)
    assert data.classes == tuple("0123456789")
    assert list(data_root.iterdir()) == []
    assert not load("digits", offline="textures").stand_in
    with pytest.raises(FileNotFoundError):
        load("kmnist", offline="mnist")  # which is not here either


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        ImportError("libcudart.so.12: cannot open shared object file"),
        ModuleNotFoundError("No module named 'torchvision'"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"offline": "digits"}, {"download": False}])
def test_a_broken_torchvision_is_told_of(error, options, data_root, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    with pytest.raises(ImportError, match=r"^torchvision, which reads kmnist: .*install") as caught:
        load("kmnist", **options)
    assert str(error) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archives_digits_and_pictures_do_not_need_torchvision(data_root, archive):
    archive(data_root / "kmnist" / "train.npz", 8)
    archive(data_root / "kmnist" / "test.npz", 4)
    Image.new("L", (4, 4)).save(data_root / "picture.png")
    program = (
        "import sys; sys.modules['torchvision'] = None; import vaebook as vb;"
        f"print([len(vb.load(name).train) for name in ('kmnist', 'digits', {str(data_root)!r})])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        cwd=Path(dataset.__file__).parents[2],
        text=True,
    )
    assert ran.stdout == "[8, 1500, 1]\n", ran.stderr


def test_a_root_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileNotFoundError, match=r"NotADirectoryError.*file"):
        load("mnist", root=tmp_path / "file" / "data")


def test_digits_need_nothing(tmp_path):
    data, again = load("digits", root=tmp_path / "none"), load("digits")
    assert (len(data.train), len(data.test)) == (1500, 297)
    assert data.image_shape == (1, 28, 28)
    assert data.train.pixels.equal(again.train.pixels)
    assert data.test.labels.bincount().min() >= 28
    assert data.train.labels.bincount().min() >= 144
    assert data.train.pixels.max() == 255
    assert not (tmp_path / "none").exists()


def test_textures_are_drawn_once(data_root, monkeypatch, tmp_path):
    drawn = []

    def few(count):
        drawn.append(count)
        return np.zeros((count, 8, 8), np.uint8), np.arange(count) % 8

    monkeypatch.setattr(dataset.textures, "make_textures", few)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = load("textures"), load("textures")
    assert drawn == [42_000]
    assert (len(second.train), len(second.test)) == (36_000, 6_000)
    assert first.test.labels.equal(second.test.labels)
    assert first.train.pixels.equal(second.train.pixels)
    assert [path.suffix for path in (tmp_path / "cache").rglob("*.*")] == [".npz"]
    assert list(data_root.iterdir()) == []

    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load("textures").train) == 36_000
    assert drawn == [42_000, 42_000]


def test_a_sample_of_a_known_set_says_so(data_root):
    (data_root / "kmnist").mkdir()
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    for split in ("train", "test"):
        np.savez(data_root / "kmnist" / f"{split}.npz", images=images, labels=labels)
    told = "kmnist, .npz archives, a sample of the full 70,000: 20 training and 20 test images"
    assert load("kmnist").source == told
    assert "sample" not in load(data_root / "kmnist").source  # any folder of that name


def test_what_is_neither_a_name_nor_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = "mnist, fashion_mnist, kmnist, cifar10, digits, textures"
    for name in ("kmnits", "Fashion-MNIST"):
        with pytest.raises(ValueError, match=f"^name_or_path: .* {names}, got '{name}'$"):
            load(name)
    with pytest.raises(ValueError, match=f"^offline: expected one of {names}, got 'digit'$"):
        load("mnist", offline="digit")
    for path in ("./mnist", "no/such", "faces.npz", tmp_path / "faces"):
        with pytest.raises(FileNotFoundError, match=r"expected an \.npz archive or a folder"):
            load(path)


def test_a_folder_called_like_a_data_set(tmp_path, monkeypatch, archive):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "digits" / "train.npz", 4)
    archive(tmp_path / "digits" / "test.npz", 4)
    assert len(load("digits").train) == 1500
    assert len(load("./digits").train) == 4


def test_paths_of_every_kind(tmp_path, monkeypatch, archive):
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    for part in ("train", "test"):
        archive(tmp_path / "sets" / "kmnist" / f"{part}.npz", 4)
    for folder in ("~/sets", str(tmp_path / "sets"), tmp_path / "sets", Path("~/sets")):
        for path in (Path(folder, "kmnist"), str(Path(folder, "kmnist", "test.npz"))):
            assert len(load(path).train) == 4
        assert len(load("kmnist", root=folder).train) == 4
        monkeypatch.setenv("VAEBOOK_DATA", str(folder))
        assert len(load("kmnist").train) == 4


def test_a_size_may_be_numpys():
    assert load("digits", image_size=np.int64(32)).image_shape == (1, 32, 32)
    assert load("digits", image_size=(np.int32(20), 24)).image_shape == (1, 20, 24)


def test_where_data_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEBOOK_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("VAEBOOK_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root().parts[-2:] == ("cache", "vaebook")


def test_examples_run():
    assert doctest.testmod(dataset) == (0, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_for_each_label(name):
    classes = CLASSES[name].split("/")
    assert len(classes) == len(set(classes)) == {"textures": 8}.get(name, 10)
