from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vaebook.data import load


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
    assume(layout != "NHW" or count != 3)  # which may well be one colour picture
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
    "one colour picture": ({"images": np.zeros((3, 4, 4))}, r"colour picture as images\[None\]"),
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
def test_an_archive_cut_short_anywhere_is_refused(tmp_path_factory, keep, archive):
    path = tmp_path_factory.mktemp("cut") / "cut.npz"
    archive(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.npz: not an \.npz archive of images"):
        load(path)


@settings(max_examples=30, deadline=None)
@given(at=st.floats(0, 0.999), bits=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(tmp_path_factory, at, bits, archive):
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


def test_a_folder_of_two_archives(tmp_path, archive):
    archive(tmp_path / "train.npz", 8)
    with pytest.raises(ValueError, match=r"expected train\.npz and test\.npz, got no test\.npz"):
        load(tmp_path)
    archive(tmp_path / "test.npz", 4)
    data = load(tmp_path, image_size=(14, 20))
    assert (len(data.train), len(data.test), data.image_shape) == (8, 4, (1, 14, 20))
    assert len(data.classes) == 8
    archive(tmp_path / "test.npz", 4, (28, 27))
    with pytest.raises(ValueError, match=r"test images of shape \(1, 28, 28\), got \(1, 28, 27\)"):
        load(tmp_path)
