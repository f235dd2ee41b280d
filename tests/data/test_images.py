import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb
from vaebook.data import Images, as_images, batch_bounds, minibatches, to_pixels

sides = st.integers(1, 9)


def counting(count):
    """Images of which each has a pixel value of its own."""
    return as_images(torch.arange(count).div(count).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 3))


@given(count=st.integers(1, 6), channels=st.sampled_from([1, 3]), height=sides, width=sides)
def test_every_layout_becomes_the_same_images(count, channels, height, width):
    pixels = np.random.default_rng(0).integers(
        0, 256, (count, channels, height, width), dtype=np.uint8
    )
    expected = torch.from_numpy(pixels)
    assert as_images(pixels).pixels.equal(expected)
    assert as_images(expected).image_shape == (channels, height, width)
    if height not in (1, 3):  # otherwise the second axis may well be the channels
        assert as_images(pixels.transpose(0, 2, 3, 1)).pixels.equal(expected)
    if channels == 1:
        assert as_images(pixels[:, 0]).pixels.equal(expected)


def test_uint8_becomes_exactly_its_255th_part():
    grey = torch.arange(256, dtype=torch.uint8)
    assert to_pixels(grey, "cpu").equal(torch.arange(256, dtype=torch.float32) / 255)
    assert as_images(np.full((2, 4, 4), 0.3)).pixels.dtype == torch.float32  # from float64


@given(count=st.integers(1, 400), batch_size=st.integers(1, 150), seed=st.integers(0, 9))
def test_minibatches_cover_each_image_once_and_none_is_left_alone(count, batch_size, seed):
    images, generator = counting(count), torch.Generator().manual_seed(seed)
    batches = list(minibatches(images, batch_size, generator=generator))
    seen = torch.cat(batches)
    assert seen.sort(dim=0).values.equal(images.pixels)
    assert all(
        2 <= len(batch) <= batch_size + 1 or count == 1 or batch_size == 1 for batch in batches
    )
    again = minibatches(images, batch_size, generator=torch.Generator().manual_seed(seed))
    assert torch.cat(list(again)).equal(seen)
    assert torch.cat(list(minibatches(images, batch_size))).equal(images.pixels)


def test_batch_bounds_join_a_lone_last_image():
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(1, 4) == [(0, 1)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]


def test_a_dataloader_gives_its_own_batches():
    images = as_images(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5))
    loader = DataLoader(TensorDataset(images.pixels, images.labels), batch_size=2)
    assert [len(batch) for batch in minibatches(loader, 128)] == [2, 2, 1]
    assert all(batch.dtype == torch.float32 for batch in minibatches(loader, 128))
    with pytest.raises(ValueError, match="DataLoader: expected"):
        next(minibatches([torch.full((2, 1, 2, 2), 255.0)], 2))


def test_slices_lists_and_masks_keep_images_and_labels_together():
    images = Images(torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2), torch.arange(6))
    for index in (
        slice(1, 5, 2),
        [1, 3],
        np.array([1, 3]),
        torch.arange(6).eq(1) | torch.arange(6).eq(3),
    ):
        assert images[index].labels.tolist() == [1, 3]
        assert images[index].pixels.equal(images.pixels[[1, 3]])
    assert len(images[2]) == 1
    assert repr(images[:3]) == "Images(3 of 1×2×2, uint8, 3 classes)"


good = np.zeros((4, 1, 5, 5), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (np.zeros((4, 5)), None, "images: .*got float32 of shape"),
        (np.zeros((1, 4, 1, 5, 5)), None, "images: .*shape"),
        (good[:0], None, "images: expected at least one"),
        (good.astype(np.float32) + 255, None, r"images: expected pixels in \[0, 1\] or uint8"),
        (good - 0.1, None, r"images: expected pixels in \[0, 1\]"),
        (good * np.nan, None, r"images: expected pixels in \[0, 1\]"),
        (good.astype(np.int64), None, "or uint8, got int64"),
        (good.astype(object), None, "images: expected an array of numbers"),
        ("a picture", None, "images: expected an array of numbers"),
        (good, np.arange(3), "labels"),
        (good, np.zeros((4, 1), int), "labels: expected whole numbers in a row"),
        (good, np.zeros(4), "labels: expected whole numbers"),
        (good, list("abcd"), "labels: expected an array of numbers"),
    ],
)
def test_what_is_no_set_of_images_is_refused_by_name(images, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        as_images(images, labels)


@settings(max_examples=30)
@given(value=st.floats(allow_nan=True))
def test_any_float_outside_the_range_is_refused(value):
    pixels = np.zeros((2, 1, 2, 2), np.float32)
    with np.errstate(over="ignore"):
        pixels[1, 0, 1, 0] = value
    if 0 <= pixels.max() <= 1 and pixels.min() >= 0:
        assert as_images(pixels).pixels[1, 0, 1, 0] == pixels[1, 0, 1, 0]
    else:
        with pytest.raises(ValueError, match="images: expected pixels in"):
            as_images(pixels)


def grey(n=400):
    ramp = np.linspace(0, 255, n).astype(np.uint8)
    return vb.as_images(np.repeat(ramp, 16).reshape(n, 1, 4, 4), np.arange(n))


def test_statically_binarized_pixels_are_drawn_once_with_their_grey_values():
    images = grey().binarized("static", seed=3)
    assert images.pixels.dtype == torch.uint8
    assert set(images.pixels.unique().tolist()) == {0, 255}
    error = 0.5 / np.sqrt(images.pixels[:200].numel())
    assert (images.pixels[:200] == 255).float().mean().item() == pytest.approx(0.25, abs=5 * error)
    again = grey().binarized("static", seed=3)
    assert torch.equal(images.pixels, again.pixels)
    assert not torch.equal(images.pixels, grey().binarized("static", seed=4).pixels)
    assert torch.equal(images.labels, grey().labels)


def test_dynamically_binarized_images_are_drawn_whenever_they_are_used():
    images = grey().binarized("dynamic")
    assert torch.equal(images.pixels, grey().pixels)
    assert "anew" in repr(images)
    torch.manual_seed(0)
    first, second = (torch.cat([*vb.data.minibatches(images, 50)]) for _ in range(2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    expected = images.pixels.float() / 255
    error = np.sqrt(0.25 / first.numel() * 2)
    assert (first + second - 2 * expected).mean().abs() < 5 * error


@pytest.mark.parametrize("change", [lambda i: i[3:9], lambda i: i[[1, 2]], lambda i: i.to("cpu")])
def test_parts_and_copies_of_binarized_images_are_binarized(change):
    assert change(grey().binarized()).redrawn
    assert not change(grey().binarized("static")).redrawn


def test_an_unknown_binarization_is_refused():
    with pytest.raises(ValueError, match=r"^kind: expected one of dynamic, static, got 'once'"):
        grey().binarized("once")


def test_a_binarized_data_set_judges_every_model_on_the_same_images():
    data = vb.load("digits")
    dynamic, static = data.binarized(), data.binarized("static")
    assert dynamic.train.redrawn
    assert not dynamic.test.redrawn
    assert torch.equal(dynamic.test.pixels, static.test.pixels)
    assert "binarized anew at each use" in dynamic.source
    assert "binarized once" in static.source


def test_the_floor_of_binary_pixels_is_nothing():
    assert vb.bernoulli_floor(grey().binarized("static")) == 0
    assert vb.bernoulli_floor(grey().binarized("dynamic")) == 0
