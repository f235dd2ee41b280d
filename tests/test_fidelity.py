import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchvision.transforms.v2.functional import gaussian_blur

import vaebook as vb
from vaebook.data.images import Images, to_pixels
from vaebook.evaluation import fidelity
from vaebook.evaluation.fidelity import (
    Judge,
    accuracy,
    features,
    frechet_distance,
    nearest,
    precision_recall,
    train_judge,
)


def normal(seed, rows=40, columns=3, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns))
    return scale * rng.standard_normal((rows, columns)) @ mixing + shift


def diagonal(mean, std):
    """Return rows whose sample mean and standard deviations are exactly these."""
    size = len(mean)
    corners = np.concatenate([np.eye(size), -np.eye(size)])
    return mean + corners * std * math.sqrt((2 * size - 1) / 2)


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_frechet_of_diagonal_gaussians_has_a_closed_form(size, seed):
    rng = np.random.default_rng(seed)
    means, stds = rng.normal(0, 5, (2, size)), rng.uniform(0, 3, (2, size))
    expected = np.square(means[0] - means[1]).sum() + np.square(stds[0] - stds[1]).sum()
    a, b = (diagonal(mean, std) for mean, std in zip(means, stds, strict=True))
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)


def fitted(a, b):
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return np.square(a.mean(0) - b.mean(0)).sum(), *covariances


@given(st.integers(30, 80), st.integers(30, 80), st.integers(2, 8), st.integers(0, 2**31))
def test_frechet_against_the_square_root_of_a_matrix(m, n, columns, seed):
    a, b = normal(seed, m, columns), normal(seed + 1, n, columns, 3.0, 1.0)
    shift, first, second = fitted(a, b)
    expected = shift + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 12), st.integers(0, 2**31))
def test_frechet_of_fewer_images_than_features(m, n, columns, seed):
    """Singular covariances have no `sqrtm` to speak of, but two symmetric roots."""
    a, b = normal(seed, m, columns), normal(seed + 1, n, columns, 3.0, 1.0)
    shift, first, second = fitted(a, b)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    expected = shift + np.trace(first + second) - 2 * common
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 8), st.floats(0.01, 100))
def test_frechet_is_symmetric_zero_on_itself_and_blind_to_rotation(seed, rows, columns, scale):
    a, b = normal(seed, rows, columns, scale), normal(seed + 1, 20, columns, 1.0, 2.0)
    distance = frechet_distance(a, b)
    size = np.square(a).sum() + np.square(b).sum()
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, abs=1e-12 * size)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12 * size)
    rotation, _ = np.linalg.qr(normal(seed + 2, columns, columns))
    rotated = frechet_distance(a @ rotation + 7, b @ rotation + 7)
    assert rotated == pytest.approx(distance, rel=1e-9, abs=1e-9 * size)


def test_frechet_takes_float32_and_counts_in_float64():
    a, b = normal(0).astype(np.float32), normal(1).astype(np.float32)
    assert frechet_distance(a, b) == frechet_distance(a.astype(np.float64), b.astype(np.float64))


def brute_force(real, generated, k):
    """Follow the definition row by row."""

    def share(points, centres):
        inside = 0
        for point in points:
            hit = False
            for i, centre in enumerate(centres):
                others = np.delete(centres, i, axis=0)
                radius = np.sort(np.sqrt(np.square(others - centre).sum(1)))[k - 1]
                hit |= bool(np.sqrt(np.square(point - centre).sum()) <= radius)
            inside += hit
        return inside / len(points)

    return share(generated, real), share(real, generated)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(6, 25), st.integers(1, 5), st.floats(0, 3))
def test_precision_and_recall_against_the_definition(seed, rows, neighbours, shift):
    real, generated = normal(seed, rows), normal(seed + 1, 20, 3, 0.7, shift)
    got = precision_recall(real, generated, neighbours=neighbours)
    assert got == pytest.approx(brute_force(real, generated, neighbours))


def test_precision_and_recall_at_their_ends():
    rows = normal(0, 1100)  # more than are compared at once
    assert precision_recall(rows, rows) == (1, 1)
    assert precision_recall(rows, rows + 1e4) == (0, 0)
    # One good image again and again: all precise, while nearly nothing is recalled.
    precision, recall = precision_recall(rows, np.repeat(rows[:1], 50, axis=0))
    assert (precision, recall) == (1, 1 / len(rows))


def test_nothing_lies_outside_itself_although_rows_are_repeated():
    """Balls of radius 0 hold what is exactly at their centre, however far from the origin."""
    rows = np.repeat(normal(0, 30, 64, shift=100.0), 5, axis=0)
    assert precision_recall(rows, rows.astype(np.float64)[::-1]) == (1, 1)


@pytest.mark.parametrize("judged", [frechet_distance, precision_recall])
def test_features_that_do_not_fit_are_refused(judged, unchecked):
    rows = normal(0)
    with pytest.raises(ValueError, match=r"^real: expected at least \d rows .* shape \(1, 3\)"):
        judged(rows[:1], rows)
    with pytest.raises(ValueError, match=r"^generated: expected at least .* got shape \(40, 2\)"):
        judged(rows, rows[:, :2])
    with pytest.raises(ValueError, match=r"^generated: expected at least .* got shape \(40,\)"):
        judged(rows, rows[:, 0])
    with pytest.raises(ValueError, match=r"^real: expected at least .* got shape \(\)"):
        judged(np.array(1.0), rows)
    for bad in (np.nan, np.inf):
        broken = rows.copy()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match=r"^generated: expected finite features"):
            judged(rows, broken)


def test_neighbours_that_do_not_fit_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"^real: expected at least 41 rows"):
        precision_recall(normal(0), normal(1), neighbours=40)
    with pytest.raises(ValueError, match=r"^neighbours: expected a positive whole number, got 0"):
        precision_recall(normal(0), normal(1), neighbours=0)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 30), st.data())
def test_nearest_against_all_distances(seed, n, m, data):
    count = data.draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, 3, 2, 4), generator=generator, dtype=torch.uint8)
    generated = torch.rand(m, 3, 2, 4, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "ROWS", 7)
        indices, distances = nearest(images, generated, count)
    all_of_them = torch.cdist(generated.flatten(1), images.flatten(1) / 255)
    expected = all_of_them.sort(dim=1).values[:, :count].numpy()
    np.testing.assert_allclose(distances, expected, rtol=1e-3, atol=1e-3)
    at = np.take_along_axis(all_of_them.numpy(), indices, axis=1)
    np.testing.assert_allclose(at, distances, rtol=1e-3, atol=1e-3)
    assert all(len(set(row)) == count for row in indices.tolist())


def test_a_copy_is_found_at_distance_zero(digits):
    images = digits.data.train
    indices, distances = nearest(images, images[[700, 3, 1499]], 2)
    assert indices[:, 0].tolist() == [700, 3, 1499]
    assert distances[:, 0] == pytest.approx(0, abs=1e-5)
    assert (distances[:, 1] > 0.5).all()
    # Among equals the first comes first.
    same = torch.cat([images.pixels[:1]] * 1200)
    assert nearest(same, same[:1], 3)[0].tolist() == [[0, 1, 2]]


def test_nearest_refuses_what_does_not_fit(unchecked):
    images = torch.zeros(5, 1, 4, 4)
    with pytest.raises(ValueError, match=r"^generated: expected images of shape \(1, 4, 4\)"):
        nearest(images, torch.zeros(2, 1, 4, 5))
    with pytest.raises(ValueError, match=r"^generated: expected pixels in \[0, 1\]"):
        nearest(images, 255 + images)
    with pytest.raises(ValueError, match=r"^count: expected at most 5, .* got 6"):
        nearest(images, images, 6)
    with pytest.raises(ValueError, match=r"^count: expected a positive whole number, got 0"):
        nearest(images, images, 0)


@pytest.fixture(scope="module")
def digits():
    data = vb.load("digits")
    judge = train_judge(data.train, epochs=4, device="cpu", progress=False)
    return SimpleNamespace(data=data, judge=judge, real=features(judge, data.train[:297]))


def test_the_judge_tells_digits_it_has_not_seen(digits):
    assert not digits.judge.training
    assert accuracy(digits.judge, digits.data.test) > 0.9
    logits = digits.judge(to_pixels(digits.data.test.pixels, "cpu"))
    expected = (logits.argmax(1) == digits.data.test.labels).float().mean().item()
    assert accuracy(digits.judge, digits.data.test) == pytest.approx(expected)


def test_features_are_what_the_last_layer_sees(digits):
    images = digits.data.test
    found = features(digits.judge, images)
    assert found.dtype == np.float64
    assert found.shape == (297, 64)
    logits = digits.judge(to_pixels(images.pixels, "cpu"))
    again = digits.judge.head(torch.from_numpy(found).float())
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features(digits.judge, to_pixels(images.pixels, "cpu")), found)


def rises(distances):
    return all(low < high for low, high in pairwise(distances))


def test_images_held_out_are_nearer_than_noise(digits):
    held_out = features(digits.judge, digits.data.test)
    noise = torch.rand(297, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    noise = features(digits.judge, noise)
    distances = [frechet_distance(digits.real, other) for other in (digits.real, held_out, noise)]
    assert rises(distances)
    assert distances[2] > 5 * distances[1]
    precision, recall = precision_recall(digits.real, held_out)
    assert min(precision, recall) > 0.7
    assert precision_recall(digits.real, noise).recall == 0


def test_the_distance_rises_with_blur(digits):
    x = to_pixels(digits.data.test.pixels, "cpu")
    blurred = [x, *(gaussian_blur(x, [19, 19], [sigma, sigma]) for sigma in (1.0, 2.0, 3.0, 4.0))]
    assert rises([frechet_distance(digits.real, features(digits.judge, y)) for y in blurred])


def test_the_distance_rises_with_noise(digits):
    x = to_pixels(digits.data.test.pixels, "cpu")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = [(x + level * noise).clamp(0, 1) for level in (0.0, 0.1, 0.2, 0.4, 0.8)]
    assert rises([frechet_distance(digits.real, features(digits.judge, y)) for y in noisy])


def test_a_seed_repeats_a_judge_and_leaves_the_callers_random_numbers(digits):
    images = digits.data.train[:300]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (
        train_judge(images, epochs=1, seed=seed, device="cpu", progress=False).state_dict()
        for seed in (3, 3, 4)
    )
    # Binarized anew at each use, but the same each time when judged.
    anew = images.binarized("dynamic")
    np.testing.assert_array_equal(features(digits.judge, anew), features(digits.judge, anew))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 40), (1, 128, 16), (3, 128, 128)])
def test_a_judge_takes_images_of_any_size(shape):
    judge = Judge(shape, classes=3).eval()
    assert judge(torch.rand(2, *shape)).shape == (2, 3)
    assert features(judge, torch.rand(2, *shape)).shape == (2, 64)
    assert sum(weight.numel() for weight in judge.parameters()) < 700_000


def test_a_lone_last_image_joins_the_batch_before_it(digits, capsys):
    train_judge(digits.data.train[:129], epochs=2, device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "epoch   2 judge" in lines[1]


def test_a_judge_refuses_what_does_not_fit(digits, unchecked):
    pixels = digits.data.test.pixels
    for call in (train_judge, lambda images: accuracy(digits.judge, images)):
        with pytest.raises(ValueError, match=r"^images: expected images with labels, got Images"):
            call(pixels)
    for labels in (torch.zeros(297), torch.arange(297) - 1):
        with pytest.raises(ValueError, match=r"^images: expected labels from 0 of two classes"):
            train_judge(Images(pixels, labels.long()), progress=False)
    with pytest.raises(ValueError, match=r"^epochs: expected a positive whole number, got 0"):
        train_judge(digits.data.test, epochs=0)
    with pytest.raises(ValueError, match=r"^images: expected images of shape \(1, 28, 28\)"):
        features(digits.judge, torch.zeros(2, 3, 28, 27))
