import doctest
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebook.data import NAMES, data_root, dataset, load
from vaebook.data.dataset import CLASSES


def archive(path, count=6, shape=(28, 28), seed=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    np.savez(path, **({"images": pixels, "labels": np.arange(count) % 10} | more))
    return pixels


@pytest.fixture
def no_network(monkeypatch):
    """Fail every download at once, as it does without a network."""
    import torchvision

    def download(self):
        raise OSError("no route to host")

    monkeypatch.setattr(dataset, "PAUSES", (0.0, 0.0, 0.0))
    for kind in (torchvision.datasets.MNIST, torchvision.datasets.CIFAR10):
        monkeypatch.setattr(kind, "download", download)


# Archives


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    sides=st.tuples(*[st.integers(4, 9)] * 2),
    layout=st.sampled_from(["NCHW", "NHWC", "NHW"]),
    floating=st.sampled_from([None, np.float16, np.float32, np.float64, ">f4"]),
    labels=st.booleans(),
)
def test_archives_in_every_layout(
    tmp_path_factory, count, channels, sides, layout, floating, labels
):
    channels = 1 if layout == "NHW" else channels
    pixels = np.random.default_rng(1).integers(0, 256, (count, channels, *sides), dtype=np.uint8)
    stored = pixels if floating is None else (pixels / 255).astype(floating)
    stored = {"NCHW": stored, "NHWC": np.moveaxis(stored, 1, 3), "NHW": stored[:, 0]}[layout]
    path = tmp_path_factory.mktemp("archives") / "pictures.npz"
    np.savez(path, images=stored, **({"labels": np.arange(count) + 2} if labels else {}))
    data = load(str(path))
    assert data.train.image_shape == data.image_shape == (channels, *sides)
    if floating is None:
        assert data.train.pixels.equal(torch.from_numpy(pixels))
    else:
        expected = torch.from_numpy(pixels).float() / 255
        torch.testing.assert_close(data.train.pixels, expected, rtol=0, atol=1e-3)
    assert (data.train.labels is None) is not labels
    assert data.classes == tuple("0123456789"[: count + 2] if labels else ())
    assert (data.test, data.name, data.stand_in) == (None, "pictures.npz", False)
    assert data.source == f"pictures.npz, an .npz archive: {count} training images"


bad_archives = {
    "no images": ({"pictures": np.zeros(3)}, r"expected an array 'images', got \['pictures'\]"),
    "nothing": ({}, r"expected an array 'images', got \[\]"),
    "objects": ({"images": np.array([{}, []], object)}, "Object arrays cannot be loaded"),
    "rank": ({"images": np.zeros((3, 4))}, "of shape"),
    "empty": ({"images": np.zeros((0, 4, 4), np.uint8)}, "expected at least one image"),
    "range": ({"images": np.full((2, 4, 4), 255.0)}, r"expected pixels in \[0, 1\] or uint8"),
    "nan": ({"images": np.full((2, 4, 4), np.nan)}, r"expected pixels in \[0, 1\] or uint8"),
    "sixteen bits": ({"images": np.zeros((2, 4, 4), np.uint16)}, "uint8, got uint16"),
    "text": ({"images": np.array(["a", "b"])}, "expected an array of numbers"),
    "labels": ({"images": np.zeros((2, 4, 4)), "labels": np.arange(3)}, "labels"),
    "real labels": ({"images": np.zeros((2, 4, 4)), "labels": np.ones(2)}, "labels: expected"),
    "negative": ({"images": np.zeros((2, 4, 4)), "labels": [0, -1]}, "expected labels from 0"),
    "huge": ({"images": np.zeros((2, 4, 4)), "labels": [0, 10**12]}, "expected labels from 0"),
}


@pytest.mark.parametrize(("arrays", "complaint"), bad_archives.values(), ids=bad_archives)
def test_bad_archives_are_named_with_their_fault(tmp_path, arrays, complaint):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=complaint) as caught:
        load(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    np.savez(tmp_path / "trap.npz", images=np.array([Trap()], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(tmp_path / "trap.npz")


@settings(max_examples=30, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_an_archive_cut_short_anywhere_is_refused(tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("cut") / "cut.npz"
    archive(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.npz: not an \.npz archive of images"):
        load(path)


@settings(max_examples=30, deadline=None)
@given(at=st.floats(0, 0.999), bits=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(tmp_path_factory, at, bits):
    path = tmp_path_factory.mktemp("changed") / "changed.npz"
    pixels = archive(path)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= bits
    path.write_bytes(content)
    train = None
    with suppress(ValueError):
        train = load(path).train
    assert train is None or train.pixels.equal(torch.from_numpy(pixels[:, None]))


def test_other_files_are_no_archives(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros((2, 4, 4)))
    for name in ("array.npy", "text.npz", "empty.npz"):
        if name != "array.npy":
            (tmp_path / name).write_text("text" * (name == "text.npz"))
        with pytest.raises(ValueError, match=f"{name}: not an .npz archive"):
            load(tmp_path / name)


def test_a_folder_of_two_archives(tmp_path):
    archive(tmp_path / "train.npz", 8)
    with pytest.raises(ValueError, match=r"expected train\.npz and test\.npz, got no test\.npz"):
        load(tmp_path)
    archive(tmp_path / "test.npz", 3)
    data = load(tmp_path, image_size=(14, 20))
    assert (len(data.train), len(data.test), data.image_shape) == (8, 3, (1, 14, 20))
    assert len(data.classes) == 8
    archive(tmp_path / "test.npz", 3, (28, 27))
    with pytest.raises(ValueError, match=r"test images of shape \(1, 28, 28\), got \(1, 28, 27\)"):
        load(tmp_path)


# Names


def test_the_order_of_look_up(data_root, monkeypatch):
    """An archive comes before torchvision's files, and both before a download."""
    asked = []

    def torchvision(name, root, *, download=False):
        asked.append(download)
        raise RuntimeError("Dataset not found.")

    monkeypatch.setattr(dataset, "_read_torchvision", torchvision)
    monkeypatch.setattr(dataset, "PAUSES", (0.0,))
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


def test_a_damaged_archive_is_no_reason_to_look_further(data_root, no_network):
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
    with pytest.raises(FileNotFoundError, match=r"got neither .*set VAEBOOK_DATA"):
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
    assert data.classes == CLASSES["digits"]
    assert list(data_root.iterdir()) == []
    assert not load("digits", offline="textures").stand_in
    with pytest.raises(FileNotFoundError):
        load("kmnist", offline="mnist")  # which is not here either


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
    with pytest.raises(ValueError, match="'kmnits'; did you mean 'kmnist'"):
        load("kmnits")
    with pytest.raises(ValueError, match="'Fashion-MNIST'; did you mean 'fashion_mnist'"):
        load("Fashion-MNIST")
    with pytest.raises(ValueError, match=r"offline: .*'digit'; did you mean 'digits'"):
        load("mnist", offline="digit")
    for path in ("./mnist", "no/such", "faces.npz", tmp_path / "faces"):
        with pytest.raises(FileNotFoundError, match=r"expected an \.npz archive or a folder"):
            load(path)


def test_a_folder_called_like_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "digits" / "train.npz", 4)
    archive(tmp_path / "digits" / "test.npz", 4)
    assert len(load("digits").train) == 1500
    assert len(load("./digits").train) == 4


def test_where_data_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEBOOK_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("VAEBOOK_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root().parts[-2:] == ("cache", "vaebook")


def test_examples_run():
    assert doctest.testmod(dataset) == (0, 2)
    assert set(NAMES) == set(CLASSES)
