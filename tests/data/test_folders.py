import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vaebook.data import load
from vaebook.data.files import parse_size, resize_crop


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def by_pillow(array, height, width):
    """Resize to cover height×width, and crop the middle, with nothing but Pillow."""
    picture = Image.fromarray(array)
    scale = max(width / picture.width, height / picture.height)
    picture = picture.resize(
        (max(width, round(picture.width * scale)), max(height, round(picture.height * scale))),
        Image.Resampling.BICUBIC,
    )
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def test_grey_class_folders_need_no_setting(tmp_path):
    for number, name in enumerate(["b", "a", "b"]):
        save(tmp_path / name / f"{number}.png", noise(64, 64, seed=number))
    data = load(tmp_path)
    assert data.image_shape == (1, 64, 64)
    assert data.classes == ("a", "b")
    assert data.test is None
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.train.pixels[:, 0].equal(
        torch.from_numpy(np.stack([noise(64, 64, seed=seed) for seed in (1, 0, 2)]))
    )
    assert data.source == f"{tmp_path.name}, a folder of pictures: 3 training images"


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    colour=st.booleans(),
)
def test_any_sizes_are_resized_and_cropped_as_pillow_does(
    tmp_path_factory, sizes, height, width, colour
):
    folder = tmp_path_factory.mktemp("pictures")
    # Greys from 80 to 175: Pillow cuts off what overshoots 255 between its two passes already.
    arrays = [80 + noise(*size, *[3] * colour, seed=i) % 96 for i, size in enumerate(sizes)]
    for number, array in enumerate(arrays):
        save(folder / f"{number}.png", array)
    images = load(folder, image_size=(height, width)).train
    assert images.labels is None
    assert images.image_shape == (3 if colour else 1, height, width)
    for mine, array in zip(images.pixels, arrays, strict=True):
        theirs = torch.from_numpy(np.array(by_pillow(array, height, width))).reshape(
            height, width, -1
        )
        assert (mine.permute(1, 2, 0).int() - theirs.int()).abs().max() <= 2


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 30)] * 2), st.tuples(*[st.integers(2, 30)] * 2), st.booleans())
def test_resize_crop_keeps_kind_range_and_flat_colour(old, new, floating):
    flat = torch.full((2, 3, *old), 200, dtype=torch.uint8)
    flat = flat / 255 if floating else flat
    result = resize_crop(flat, new)
    assert result.dtype == flat.dtype
    torch.testing.assert_close(result, flat[:1, :1, :1, :1].expand(2, 3, *new))
    edge = torch.rand(1, 1, *old).round()
    assert resize_crop(edge, new).aminmax().max <= 1
    assert resize_crop(edge, new).aminmax().min >= 0


@pytest.mark.parametrize("held_out", ["test", "val", None])
def test_train_and_test_folders(tmp_path, held_out):
    for split, names in {"train": "ab", held_out: "b"}.items():
        for name in names if split else "":
            save(tmp_path / split / name / "x.png", noise(8, 8))
    data = load(tmp_path)
    assert (len(data.train), data.classes) == (2, ("a", "b"))
    assert (data.test.labels.tolist() == [1]) if held_out else data.test is None


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("held_out", ["valid", "Validation", "VAL", "dev", "Test", "eval"])
def test_splits_are_known_by_their_usual_names(tmp_path, train, held_out):
    for split, names in {train: "ab", held_out: "b"}.items():
        for name in names:
            save(tmp_path / split / name / "x.png", noise(8, 8))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.txt").write_text("no picture")
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.classes) == (2, 1, ("a", "b"))


def test_test_images_come_before_validation_images(tmp_path):
    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        for number in range(count):
            save(tmp_path / split / f"{number}.png", noise(8, 8))
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (3, 1)


def test_other_pictures_beside_a_training_folder_are_refused(tmp_path):
    for split in ("train", "test", "cats", "dogs"):
        save(tmp_path / split / "x.png", noise(8, 8))
    with pytest.raises(ValueError, match=r"expected beside 'train' only test.* got cats, dogs$"):
        load(tmp_path)


def test_classes_called_like_splits_are_classes_where_nothing_is_called_train(tmp_path):
    for name in ("test", "dev"):
        save(tmp_path / name / "x.png", noise(8, 8))
    assert load(tmp_path).classes == ("dev", "test")


def test_one_coloured_picture_makes_the_set_colour(tmp_path):
    save(tmp_path / "train" / "grey.png", noise(8, 8))
    assert load(tmp_path).image_shape == (1, 8, 8)
    save(tmp_path / "train" / "grey_as_rgb.png", np.repeat(noise(8, 8, 1), 3, axis=2))
    assert load(tmp_path).image_shape == (1, 8, 8)
    save(tmp_path / "test" / "colour.png", noise(8, 8, 3))
    data = load(tmp_path)
    assert data.train.image_shape == data.test.image_shape == (3, 8, 8)


def test_hidden_and_other_files_do_not_count_and_links_do(tmp_path):
    folder = tmp_path / "set"
    save(folder / "deep" / "er" / "x.PNG", noise(8, 8), format="PNG")
    for name in (".hidden.png", "deep/._x.png", "deep/notes.txt", ".cache/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no picture")
    save(tmp_path / "elsewhere" / "y.png", noise(8, 8))
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    told = r"left out 1 files that are no pictures by their names: notes\.txt$"
    with pytest.warns(UserWarning, match=told):
        data = load(folder)
    assert data.classes == ("deep", "linked")
    assert len(data.train) == 2


def test_palette_alpha_and_sixteen_bit_pictures(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    red.convert("P").save(tmp_path / "palette.png")
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    deep = np.full((4, 4), 257 * 100, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    pixels = dict(
        zip(["bits", "clear", "deep", "palette"], load(tmp_path).train.pixels, strict=True)
    )
    assert pixels["bits"].unique().tolist() == [255]
    assert pixels["clear"].unique().tolist() == [255]
    assert pixels["deep"].unique().tolist() == [100]
    assert pixels["palette"][:, 0, 0].tolist() == [255, 0, 0]


def test_a_picture_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held on its side
    save(tmp_path / "x.png", noise(4, 6), exif=exif)
    assert load(tmp_path).train.pixels[0, 0].numpy().tolist() == np.rot90(noise(4, 6), -1).tolist()


def test_unreadable_pictures_are_skipped_with_one_warning(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}.png", noise(8, 8, seed=number))
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "4.png").write_text("no picture")
    with pytest.warns(
        UserWarning, match=r"skipped 2 unreadable pictures: 2\.png \(.*\), 4\.png \("
    ) as caught:
        data = load(tmp_path)
    assert len(caught) == 1
    assert len(data.train) == 4
    assert "2 unreadable" in data.source


@pytest.mark.parametrize("bad", [2, 3])
def test_mostly_unreadable_folders_are_refused(tmp_path, bad):
    for number in range(3):
        save(tmp_path / f"{number}.png", noise(8, 8))
    for number in range(bad):
        (tmp_path / f"{number}.png").write_text("no picture")
    with pytest.raises(ValueError, match=f"got {bad} unreadable pictures: 0.png"):
        load(tmp_path)


def test_other_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="expected pictures to train on"):
        load(tmp_path)
    save(tmp_path / "a" / "x.png", noise(8, 8))
    save(tmp_path / "b" / "y.png", noise(8, 9))
    with pytest.raises(
        ValueError, match=r"\(8, 8\) of x\.png, \(8, 9\) of y\.png; pass image_size"
    ):
        load(tmp_path)
    save(tmp_path / "x.png", noise(8, 8))
    with pytest.raises(ValueError, match="got 1 outside them and 2 inside"):
        load(tmp_path, image_size=8)


def test_float_pictures_count_as_unreadable(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="1 unreadable"):
        load(tmp_path)


@pytest.mark.parametrize("size", [0, -1, 2.5, "28", (1,), (1, 2, 3), (4, 0), (None, 3)])
def test_a_size_that_makes_no_sense(size):
    with pytest.raises(ValueError, match="image_size: expected 2 pixels or more"):
        load("digits", image_size=size)


def test_sizes():
    assert parse_size(np.int64(3)) == (3, 3)
    assert parse_size([3, 4]) == (3, 4)
