"""Drawings for the dark theme: light and dark change places, hues and pictures stay."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image

import vaebook as vb
from tests.browser import BOOK, load

load("figures", BOOK / "_ext")
dark = load("dark_figures", BOOK / "_ext")
sys.modules.pop("figures")
bytes_of_a_colour = st.tuples(*[st.integers(0, 255)] * 3)


# CSS Color Module Level 4 lists these.
@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 255, 255), (1, 0, 0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_oklab_is_that_of_the_standard(colour, lab):
    np.testing.assert_allclose(dark.to_lab(np.array([colour]) / 255)[0], lab, atol=2e-4)


@given(bytes_of_a_colour)
def test_there_and_back_is_the_same_colour(colour):
    rgb = np.array([colour]) / 255
    np.testing.assert_allclose(dark.to_rgb(dark.to_lab(rgb)), rgb, atol=2e-3)


@given(bytes_of_a_colour, bytes_of_a_colour)
def test_the_darker_of_two_greys_becomes_the_lighter(one, other):
    grey = np.repeat([[one[0]], [other[0]]], 3, axis=1)
    first, second = dark.in_the_dark(grey)[:, 0].astype(int)
    assert (first - second) * (one[0] - other[0]) <= 0


def test_white_becomes_the_page_and_colours_keep_their_hue():
    names = vb.plot.PALETTE[:9]
    colours = np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names])
    before = dark.to_lab(colours / 255)
    after = dark.to_lab(dark.in_the_dark(colours) / 255)
    turned = np.arctan2(after[:, 2], after[:, 1]) - np.arctan2(before[:, 2], before[:, 1])
    assert np.abs(np.angle(np.exp(1j * turned))).max() < np.radians(8)
    np.testing.assert_array_equal(dark.in_the_dark([[255] * 3]), [[dark.GROUND] * 3])


def saved(figure, path):
    figure.savefig(path)
    plt.close(figure)
    return path


def test_drawings_are_darkened_and_pictures_are_not(tmp_path):
    fig, ax = plt.subplots()
    ax.plot([1, 3, 2])
    made = dark.darkened(saved(fig, tmp_path / "plot.png"))
    with Image.open(made) as picture:
        corner = picture.convert("RGB").getpixel((0, 0))
    assert corner == (dark.GROUND,) * 3
    digits = vb.load("digits").test[:40]
    sheet = vb.plot.images(vb.data.to_pixels(digits.pixels, "cpu"), columns=10)
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert dark.darkened(saved(sheet, tmp_path / "sheet.png")) is None
    assert dark.darkened(tmp_path / "noise.png") is None
