"""Pictures as people have them: bombs, links, odd names, many kinds, grey or in colour."""

import os
import re
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb
from vaebook.checks import some
from vaebook.data import dataset
from vaebook.data.images import prepare


def save(path, size=(8, 8), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    Image.fromarray(array).save(path, **options)


def chunk(kind, content):
    length, check = len(content), zlib.crc32(kind + content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", check)


@contextmanager
def little_memory(limit=20 * 2**20):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@contextmanager
def one_warning(match):
    with pytest.warns(UserWarning, match=match) as caught:
        yield
    assert len(caught) == 1


def test_a_picture_too_large_is_refused_by_its_header(tmp_path):
    side = 9000  # which Pillow takes without a word
    rows = zlib.compress(bytes(side * (side // 8 + 1)))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    (tmp_path / "bomb.png").write_bytes(bomb)
    told = r"1 unreadable pictures: bomb\.png \(9000×9000 is more than 50 million pixels\)"
    with little_memory(), one_warning(told):
        data = vb.load(tmp_path, image_size=8)
    assert len(data.train) == 2


def test_a_long_thin_picture_is_not_scaled_to_cover(tmp_path):
    Image.new("L", (1, 65_000)).save(tmp_path / "thin.png")
    with pytest.raises(ValueError, match=r"thin\.png \(4160000×64 is") as caught:
        vb.load(tmp_path, image_size=64)
    assert "more than 50 million pixels" in str(caught.value)
    np.savez(tmp_path / "thin.npz", images=np.zeros((1, 65_000, 1), np.uint8))
    with pytest.raises(ValueError, match=r"^thin\.npz: 4160000×64 is more than 50 million"):
        vb.load(tmp_path / "thin.npz", image_size=64)


def write_npy(path, shape, version=1):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head = head.ljust(118) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        size = struct.pack("<H" if version == 1 else "<I", len(head))
        magic = b"\x93NUMPY" + bytes([version, 0])
        archive.writestr("images.npy", magic + size + head + bytes(100))


def test_an_archive_that_inflates_is_refused_by_its_header(tmp_path):
    file = tmp_path / "bomb.npz"
    write_npy(file, (2_000_000, 28, 28))
    told = r"bomb\.npz: .* 'images' of 1,568,000,000 bytes is more than 1 GiB and 200 times the fil"
    with little_memory(), pytest.raises(ValueError, match=told):
        vb.load(file)
    write_npy(file, (4, 4, 4), version=2)  # whose header may itself be of any length
    with pytest.raises(ValueError, match=r"bomb\.npz: .*format 1\.0"):
        vb.load(file)


def test_an_archive_as_large_as_its_arrays_is_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", images=np.zeros((50, 8, 8), np.uint8))
    monkeypatch.setattr("vaebook.data.files.INFLATED", 100)
    assert len(vb.load(tmp_path / "x.npz").train) == 50


def test_what_is_odd_in_an_archives_header_is_no_warning_of_pythons(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((50, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", content.replace(b"'|u1'", rb"'\o1'"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(
            ValueError, match=r"x\.npz: not an \.npz archive of images, nor a folder of pictures: "
        ):
            vb.load(tmp_path / "x.npz")
    assert not caught


def test_what_an_archives_error_quotes_of_it_is_short_and_of_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", bytes(60_000))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[26:28] = struct.pack("<H", 50_000)  # the length of the name before the array
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"x\.npz: not an \.npz archive of images, nor a folder of pictures: ."
    ) as caught:
        vb.load(tmp_path / "x.npz")
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_pillow_does_not_warn_without_the_name_of_a_file(tmp_path):
    save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as picture:
        whole = picture.tag_v2.offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    tags = struct.unpack_from("<H", content, whole)[0]
    # A text, the entry of a tag that a reader may leave out, longer than the file.
    struct.pack_into("<HHII", content, whole + 2 + 12 * (tags - 1), 305, 2, 10**6, 8)
    (tmp_path / "a.tif").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(ValueError):
            vb.load(tmp_path)
    assert not [str(w.message) for w in caught if str(tmp_path) not in str(w.message)]


@pytest.mark.parametrize("size", [None, 40])
def test_pictures_for_more_than_half_of_the_memory_are_not_all_read(tmp_path, monkeypatch, size):
    for number in range(20):
        save(tmp_path / f"{number:02}.png", (50, 40, 3), number)
    (tmp_path / "00.png").write_text("no picture")
    need = 20 * 3 * 40 * (size or 50)
    monkeypatch.setattr("vaebook.data.files.memory", lambda: 2 * need - 1)
    told = rf"^{re.escape(str(tmp_path))}: expected pictures of at most .* GiB, half .* "
    with pytest.raises(ValueError, match=told + r"got .* GiB, 20 times 01\.png; a small "):
        vb.load(tmp_path, image_size=size)
    monkeypatch.setattr("vaebook.data.files.memory", lambda: 2 * need)
    with one_warning("unreadable"):
        assert len(vb.load(tmp_path, image_size=size).train) == 19


def test_links_show_each_picture_once(tmp_path):
    folder = tmp_path / "set"
    for number in range(4):
        save(folder / "ab"[number % 2] / f"{number}.png", seed=number)
    save(tmp_path / "outside.png")
    for name in ("a/up", "a/again", "b/up"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    (folder / "b" / "above").symlink_to(tmp_path, target_is_directory=True)
    (folder / "b" / "same.png").symlink_to(folder / "b" / "1.png")
    (folder / "b" / "loop.png").symlink_to("loop.png")
    with one_warning(r"1 files that are no pictures by their names: loop\.png"):
        data = vb.load(folder)
    assert len(data.train) == len(data.files) == 4
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def test_the_files_are_those_of_the_training_images_in_their_order(tmp_path):
    names = ["a/10.png", "a/9.png", "a/b.png", "a-b/1.png", "b/1.png"]
    for number, name in enumerate(names):
        save(tmp_path / "train" / name, seed=number)
        save(tmp_path / "test" / name, seed=10 + number)
    (tmp_path / "train" / "a" / "11.png").write_bytes(b"no picture")
    (tmp_path / "train" / "c").symlink_to("b", target_is_directory=True)
    with one_warning("skipped 1 unreadable pictures"):
        data = vb.load(tmp_path)
    assert sorted(f.relative_to(tmp_path / "train").as_posix() for f in data.files) == sorted(names)
    for number, file in enumerate(data.files):
        alone = tmp_path / f"alone {number}"
        (alone / file.name).parent.mkdir()
        (alone / file.name).write_bytes(file.read_bytes())
        assert vb.load(alone).train.pixels.equal(data.train.pixels[number : number + 1])
    assert vb.load("digits").files == ()


def test_a_class_keeps_its_name_beside_a_link_to_it(tmp_path):
    for number in range(4):
        save(tmp_path / "bc"[number % 2] / f"{number}.png", seed=number)
    (tmp_path / "a").symlink_to("b", target_is_directory=True)
    (tmp_path / "c" / "0.png").symlink_to(tmp_path / "b" / "0.png")
    data = vb.load(tmp_path)
    assert (data.classes, data.train.labels.tolist()) == (("b", "c"), [0, 0, 1, 1])


def test_a_class_folder_may_have_folders_of_its_own(tmp_path):
    for seed, name in enumerate(("a/1.png", "a/new/1.png", "b/1.png")):
        save(tmp_path / name, seed=seed)
    data = vb.load(tmp_path)
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [0, 0, 1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_no_picture(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    writer = os.open(tmp_path / "pipe.png", os.O_RDWR)  # or a reader would wait for one
    os.write(writer, b"no picture")
    try:
        with one_warning("1 files that are no pictures by their names: pipe.png"):
            assert len(vb.load(tmp_path).train) == 1
    finally:
        os.close(writer)


def test_every_suffix_that_pillow_opens_counts_and_the_rest_is_told(tmp_path):
    for suffix in ("jfif", "jpe", "jp2", "pbm", "tga", "png"):
        kind = {"jfif": "JPEG", "jpe": "JPEG", "pbm": "PPM"}.get(suffix)
        save(tmp_path / f"x.{suffix}", format=kind)
    save(tmp_path / "no_suffix", format="PNG")
    for name in ("a.txt", "b.eps", "c.h5"):
        (tmp_path / name).write_text("no picture")
    told = "left out 4 files that are no pictures by their names: a.txt, b.eps, c.h5 and 1 more"
    with one_warning(told):
        assert len(vb.load(tmp_path).train) == 6


def test_a_folder_of_other_files_names_them(tmp_path):
    save(tmp_path / "x", format="PNG")
    with pytest.raises(ValueError, match=r"pictures to train on, .*, got none, but 1 files .*: x$"):
        vb.load(tmp_path)


def test_of_several_pages_the_first_is_taken_and_told(tmp_path):
    pages = [Image.new("L", (8, 8), grey) for grey in (10, 250)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.gif", save_all=True, append_images=pages[1:])
    save(tmp_path / "c.png")
    with one_warning(r"took the first of the images in each of 2 files: a\.tif, b\.gif"):
        data = vb.load(tmp_path)
    assert data.train.pixels[:2].unique().tolist() == [10]


def test_why_a_picture_is_unreadable_is_told(tmp_path):
    for number in range(8):
        save(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "4.png").write_text("no picture")
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "9.tif")
    told = r"2\.png \(.*truncated.*\), 4\.png \(not .* Pillow knows\), 9\.tif \(.*8 or 16 bits.*\)$"
    with one_warning(told):
        vb.load(tmp_path)


def test_no_list_in_a_message_is_long(tmp_path):
    assert some(["a", "b"]) == "a, b"
    assert some("abcd") == "a, b, c and 1 more"
    assert some([]) == ""
    assert len(some(["x" * 10_000] * 5)) < 400
    some(["\udcff"]).encode()  # what is not UTF-8 can be printed
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(3000):
            archive.writestr(f"array_of_number_{number}.npy", "")
    with pytest.raises(
        ValueError, match=r"expected an array 'images', got .* 2,997 more"
    ) as caught:
        vb.load(tmp_path / "many.npz")
    assert len(str(caught.value)) < 1000


def test_a_class_that_no_file_could_name_is_refused(tmp_path):
    try:
        save(tmp_path / "plain" / "x.png")
        save(tmp_path / os.fsdecode(b"caf\xe9") / "x.png")
    except (OSError, ValueError):
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(ValueError, match="expected class folders with names in UTF-8, got") as told:
        vb.load(tmp_path)
    str(told.value).encode()


def test_a_folder_whose_own_name_is_odd_is_taken(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        save(folder / "x.png")
    except (OSError, ValueError):
        pytest.skip("this file system takes only UTF-8")
    data = vb.load(folder)
    (data.name + data.source).encode()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the cache folder, and draw plain patches quickly."""

    def plain(count):
        return np.zeros((count, 8, 8), np.uint8), np.arange(count) % 8

    monkeypatch.setattr(dataset.textures, "make_textures", plain)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "vaebook").mkdir()
    return tmp_path / "vaebook"


@pytest.mark.parametrize("content", [b"", b"PK", "few"])
def test_a_damaged_texture_cache_is_made_anew(cache, content):
    vb.load("textures")
    (file,) = cache.glob("*.npz")
    if content == "few":
        np.savez(file, images=np.zeros((5, 8, 8), np.uint8), labels=np.arange(5))
    else:
        file.write_bytes(content)
    assert len(vb.load("textures").test) == 6_000
    assert file.stat().st_size > 2**20


def test_what_an_interrupted_cache_left_is_swept(cache):
    old, new = cache / ".partial-old", cache / ".partial-new"
    for left in (old, new):
        left.mkdir()
        (left / "textures-1.npz").write_bytes(b"half")
    long_ago = time.time() - 7200
    for path in (old / "textures-1.npz", old):
        os.utime(path, (long_ago, long_ago))
    vb.load("textures")
    assert not old.exists()
    assert new.exists()  # another process may be at it


GREY, COLOUR = torch.rand(6, 1, 16, 16), torch.rand(6, 3, 16, 16)


@pytest.mark.parametrize("model_channels", [1, 3])
def test_grey_and_colour_reach_a_model_of_the_other(model_channels):
    model = vb.dense_vae((model_channels, 16, 16), 2, hidden=(3,))
    images = GREY if model_channels == 3 else COLOUR
    calls = [
        lambda: vb.evaluate(model, images)["loss"],
        lambda: vb.embed(model, images),
        lambda: vb.fit(model, images, epochs=1, progress=False, device="cpu"),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        told = [str(warning.message) for warning in caught]
        assert len(told) == (model_channels == 1)
        assert all("images: made grey" in line for line in told)


def test_grey_becomes_three_equal_channels_and_colour_pillows_grey():
    pixels = torch.randint(256, (2100, 3, 2, 2), dtype=torch.uint8)
    labels = torch.arange(2100) % 3
    with one_warning("images: made grey, as the model takes"):
        grey = prepare(vb.Images(pixels, labels, redrawn=True), (1, 2, 2), "cpu")
    assert grey.redrawn
    assert grey.labels.equal(labels)
    expected = [Image.fromarray(x.permute(1, 2, 0).numpy()).convert("L") for x in pixels[::100]]
    expected = torch.from_numpy(np.stack([np.asarray(x) for x in expected]))
    assert (grey.pixels[::100, 0].int() - expected.int()).abs().max() <= 1
    with one_warning("images: made grey"):
        assert prepare(torch.ones(2, 3, 4, 4), (1, 4, 4), "cpu").pixels.max() <= 1
    assert prepare(GREY, (3, 16, 16), "cpu").pixels.equal(GREY.repeat(1, 3, 1, 1))
    with pytest.raises(ValueError, match="as the model takes, got"):
        prepare(GREY, (3, 8, 8), "cpu")


@pytest.mark.parametrize("model_channels", [1, 3])
@pytest.mark.parametrize("labels", [False, True])
def test_a_loaders_batches_reach_a_model_as_arrays_do(model_channels, labels):
    torch.manual_seed(0)
    model = vb.dense_vae((model_channels, 16, 16), 2, hidden=(3,))
    images = GREY if model_channels == 3 else COLOUR
    rows = [images, torch.arange(6)] if labels else [images]
    loader = DataLoader(TensorDataset(*rows), batch_size=4, generator=torch.Generator())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [vb.evaluate(model, given)["kl"] for given in (images, loader)]
        assert vb.embed(model, loader) == pytest.approx(vb.embed(model, images), abs=1e-6)
        vb.fit(model, loader, epochs=1, validation=loader, progress=False, device="cpu")
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert any("images: made grey" in str(w.message) for w in caught) == (model_channels == 1)
    with pytest.raises(ValueError, match=r"^x: expected floating-point pixels"):
        vb.embed(model, DataLoader(TensorDataset(images[..., :8]), generator=torch.Generator()))
