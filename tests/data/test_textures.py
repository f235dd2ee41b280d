import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from vaebook.data import textures
from vaebook.data.textures import FAMILIES, make_textures

FEW = len(FAMILIES) * 60


@pytest.fixture(scope="module")
def made():
    return make_textures(FEW, seed=7)


def spectra(patches):
    """Power of each patch less its mean, under a Hann window, rate 0 in the middle."""
    window = np.hanning(patches.shape[1] + 2)[1:-1]
    patches = patches - patches.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(patches * np.outer(window, window))) ** 2
    return np.fft.fftshift(power, axes=(1, 2))


def summaries(patches):
    """Features blind to place and nearly to angle: the radial spectrum, its peaks, the greys."""
    power = spectra(patches)
    power /= power.sum((1, 2), keepdims=True)
    half = patches.shape[1] // 2
    radius = np.hypot(*np.mgrid[-half:half, -half:half]).round()
    rings = [power[:, radius == r].sum(1) for r in range(1, half)]
    peaks = -np.sort(-power.reshape(len(power), -1))[:, :12:2]
    greys = np.quantile(patches.reshape(len(patches), -1), np.linspace(0, 1, 9), axis=1)
    return np.column_stack([np.log(np.array(rings).T + 1e-9), np.log(peaks), greys.T / 255])


def test_shapes_types_and_labels(made):
    patches, labels = made
    assert patches.shape == (FEW, 28, 28)
    assert patches.dtype == np.uint8
    assert labels.dtype == np.int64
    assert len(FAMILIES) == len(set(FAMILIES)) >= 8
    assert (np.bincount(labels, minlength=len(FAMILIES)) == FEW // len(FAMILIES)).all()


@settings(max_examples=10, deadline=None)
@given(
    few=st.integers(1, 30),
    more=st.integers(0, 600),
    seed=st.integers(0, 2**40),
    size=st.sampled_from([8, 13, 28]),
)
def test_a_larger_count_only_appends(few, more, seed, size):
    patches, labels = make_textures(few, seed=seed, size=size)
    longer, longer_labels = make_textures(few + more, seed=seed, size=size)
    assert patches.shape == (few, size, size)
    assert longer.shape == (few + more, size, size)
    np.testing.assert_array_equal(patches, longer[:few])
    np.testing.assert_array_equal(labels, longer_labels[:few])


def test_seeds_and_blocks_differ(made):
    patches, _ = made
    other, _ = make_textures(FEW, seed=8)
    assert (patches != other).any((1, 2)).all()
    assert len(np.unique(patches, axis=0)) == FEW


@pytest.mark.parametrize("family", FAMILIES)
def test_greys_are_spread(made, family):
    patches, labels = made
    ours = patches[labels == FAMILIES.index(family)]
    low, high = np.percentile(ours, [1, 99])
    assert low < 50
    assert high > 205
    assert 80 < ours.mean() < 175
    assert np.mean([len(np.unique(patch)) for patch in ours]) > 60
    assert ((ours == 0) | (ours == 255)).mean() < 0.05
    assert ours.std((1, 2)).min() > 5


def test_families_can_be_told_apart(made):
    train, train_labels = made
    test, test_labels = make_textures(FEW, seed=70)
    model = RandomForestClassifier(100, random_state=0).fit(summaries(train), train_labels)
    right = model.predict(summaries(test)) == test_labels
    by_family = np.bincount(test_labels, right) / np.bincount(test_labels)
    assert right.mean() > 0.8
    assert by_family.min() > 0.5  # Chance is 0.1.


def test_a_grating_is_one_pair_of_peaks(made):
    patches, labels = made
    power = spectra(patches)
    rate = np.stack(np.unravel_index(power.reshape(FEW, -1).argmax(1), (28, 28))) - 14
    # The spectrum of a real patch is symmetric, so a peak comes with its mirror image.
    rates, rate = np.mgrid[-14:14, -14:14][:, None], rate[:, :, None, None]
    near = np.minimum(np.hypot(*(rates - rate)), np.hypot(*(rates + rate))) < 2.5
    in_peaks = (power * near).sum((1, 2)) / power.sum((1, 2))
    assert in_peaks[labels == FAMILIES.index("gratings")].min() > 0.97
    assert in_peaks[labels == FAMILIES.index("checkers")].max() < 0.6  # Two pairs and more.


def test_patches_look_alike_at_every_size(made):
    patches, labels = made
    double, _ = make_textures(FEW, seed=7, size=56)
    halved = double.reshape(FEW, 28, 2, 28, 2).mean((2, 4))
    error = np.abs(halved - patches).mean((1, 2))
    # The noise behind the clouds is drawn pixel by pixel.
    assert error[labels != FAMILIES.index("clouds")].max() < 10


class Nudged(np.random.Generator):
    """Draws every uniform parameter a little too high."""

    def uniform(self, low, high, size):
        return super().uniform(low, high, size) + 3e-5 * (high - low)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbouring_parameters_give_neighbouring_patches(family):
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, 28)]))
    plain, nudged = (
        getattr(textures._Painter(generator(np.random.PCG64(1)), grid), family)()
        for generator in (np.random.Generator, Nudged)
    )
    # An edge without a ramp would turn some pixel from dark to light, however small the nudge.
    change = np.abs(nudged - plain).max((1, 2))
    assert change.min() > 0
    assert change.max() < 0.15


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 0), ("count", -3), ("count", True), ("count", 2.0), ("seed", -1), ("size", 7)],
)
def test_bad_arguments_are_named(name, value, unchecked):
    with pytest.raises(ValueError, match=rf"^{name}: expected a whole number .*got {value}$"):
        make_textures(**{"count": 1, name: value})
