import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
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
    if channels == 1 and 3 not in (count, width):  # otherwise it may well be one colour picture
        assert as_images(pixels[:, 0]).pixels.equal(expected)


def test_uint8_becomes_exactly_its_255th_part():
    grey = torch.arange(256, dtype=torch.uint8)
    assert to_pixels(grey, "cpu").equal(torch.arange(256, dtype=torch.float32) / 255)
    assert as_images(np.full((2, 4, 4), 0.3)).pixels.dtype == torch.float32  # from float64


@given(count=st.integers(1, 400), batch_size=st.integers(1, 150), seed=st.integers(0, 9))
def test_minibatches_cover_each_image_once_and_none_is_left_alone(count, batch_size, seed):
    images, generator = counting(count), torch.Generator().manual_seed(seed)
    batches = [x for x, *_ in minibatches(images, batch_size, generator=generator)]
    seen = torch.cat(batches)
    assert seen.sort(dim=0).values.equal(images.pixels)
    assert all(
        2 <= len(batch) <= batch_size + 1 or count == 1 or batch_size == 1 for batch in batches
    )
    again = minibatches(images, batch_size, generator=torch.Generator().manual_seed(seed))
    assert torch.cat([x for x, *_ in again]).equal(seen)
    in_order = [x for x, *_ in minibatches(images, batch_size)]
    assert torch.cat(in_order).equal(images.pixels)


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 30),
    processes=st.integers(1, 6),
    seed=st.none() | st.integers(0, 9),
)
def test_processes_share_each_batch(count, batch_size, processes, seed):
    assume(processes <= min(count, batch_size))
    order = torch.arange(count)
    images = Images(order.byte().reshape(-1, 1, 1, 1), order)
    if seed is not None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def share(rank):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        options = dict(generator=generator, rank=rank, processes=processes)
        return list(minibatches(images, batch_size, **options))

    seen = []
    for parts in zip(*map(share, range(processes)), strict=True):
        sizes = [len(part.x) for part in parts]
        assert {part.count for part in parts} == {sum(sizes)}
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        for x, labels, _ in parts:
            assert labels.equal((255 * x).round().long().flatten())
            seen += labels.tolist()
    assert seen == order.tolist()


def test_labels_stay_on_the_cpu_wherever_the_images_go():
    images = counting(6)
    images = Images(images.pixels, torch.arange(6))
    (batch,) = minibatches(images, 9, device="meta")
    assert batch.x.device.type == "meta"
    assert batch.labels.tolist() == [0, 1, 2, 3, 4, 5]
    there = Images(images.pixels.mul(255).byte(), images.labels).to("meta")
    (batch,) = minibatches(there, 9, device="meta", generator=torch.Generator().manual_seed(0))
    assert batch.x.device.type == "meta"
    assert sorted(batch.labels.tolist()) == [0, 1, 2, 3, 4, 5]


def test_tensors_that_require_gradients_are_images():
    pixels = torch.rand(6, 1, 4, 4, requires_grad=True)
    images = as_images(pixels)
    assert images.pixels.equal(pixels)
    assert not images.pixels.requires_grad
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(5,))
    vb.fit(model, pixels, epochs=1, batch_size=3, progress=False, validation=pixels)
    assert vb.embed(model, pixels).shape == (6, 2)
    assert pixels.grad is None


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 6, 9), (8, 8, 3), (3, 1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_colour_picture_is_no_batch(shape, dtype):
    picture = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    with pytest.raises(ValueError, match=r"^images: expected a batch.*as images\[None\]") as caught:
        as_images(picture)
    assert "\n" not in str(caught.value)
    assert as_images(picture[None]).image_shape[0] == 3
    assert len(as_images(picture[:, None])) == len(picture)


def test_sizes_may_be_numpys(unchecked):
    images = counting(20)
    sizes = [len(x) for x, *_ in minibatches(images, np.int64(8))]
    assert sizes == [8, 8, 4]
    model = vb.dense_vae(images.image_shape, latent_dim=2, hidden=(5,))
    options = dict(epochs=np.int64(2), batch_size=np.int64(8), progress=False)
    assert len(vb.fit(model, images, **options).rows) == 2
    losses = [vb.evaluate(model, images, batch_size=size)["loss"] for size in (8, np.int64(8))]
    assert losses[0] == losses[1]


def test_batch_bounds_join_a_lone_last_image():
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(1, 4) == [(0, 1)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]


def test_a_dataloader_gives_its_own_batches():
    images = as_images(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5))
    loader = DataLoader(TensorDataset(images.pixels, images.labels), batch_size=2)
    batches = list(minibatches(loader, 128))
    assert [batch.count for batch in batches] == [len(batch.x) for batch in batches] == [2, 2, 1]
    assert all(batch.x.dtype == torch.float32 for batch in batches)
    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
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
    first, second = (torch.cat([x for x, *_ in minibatches(images, 50)]) for _ in range(2))
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


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((5, 8, 8, 4), r"images\[\.\.\., :3\] leaves out alpha"),
        ((5, 4, 8, 8), r"images\[\.\.\., :3\] leaves out alpha"),
        ((8, 8, 3, 50), "transpose reorders the axes"),
        ((5, 8, 8, 2), "transpose reorders the axes"),
    ],
)
def test_layouts_that_are_no_images_are_refused(shape, hint):
    pixels = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=rf"^images: expected 1 or 3 channels.* got .*{hint}"):
        as_images(pixels)


def test_no_path_is_not_the_current_folder():
    for nothing in ("", " "):
        with pytest.raises(ValueError, match=r"^name_or_path: expected a path or one of mnist"):
            vb.load(nothing)


@pytest.mark.usefixtures("unchecked")
def test_images_of_an_array_say_what_takes_arrays():
    with pytest.raises(ValueError, match=r"^images: expected a tensor; as_images takes arrays"):
        Images(np.zeros((3, 1, 8, 8), np.uint8))
