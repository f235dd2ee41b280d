"""Images set apart for validation: none lost, none twice, the same by the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vaebook as vb

DATA = vb.load("digits")


@given(st.integers(1, len(DATA.train) - 2), st.integers(0, 2**64 - 1))
def test_every_image_is_on_one_side_with_its_label(validation, seed):
    data = DATA.split(validation, seed=seed)
    assert (len(data.validation), len(data.train)) == (validation, len(DATA.train) - validation)
    both = [
        np.concatenate([part.pixels.flatten(1).numpy(), part.labels[:, None].numpy()], axis=1)
        for part in (data.validation, data.train)
    ]
    whole = np.concatenate([DATA.train.pixels.flatten(1), DATA.train.labels[:, None]], axis=1)
    for found, wanted in ((np.concatenate(both), whole), (both[1], whole)):
        rows, counts = np.unique(found, axis=0, return_counts=True)
        known, most = np.unique(wanted, axis=0, return_counts=True)
        place = {row.tobytes(): n for row, n in zip(known, most, strict=True)}
        assert all(n <= place[row.tobytes()] for row, n in zip(rows, counts, strict=True))
    assert data.test is DATA.test


def test_the_seed_decides_and_the_source_says_so():
    one, same, other = (DATA.split(300, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.validation.pixels, same.validation.pixels)
    assert not torch.equal(one.validation.pixels, other.validation.pixels)
    assert "300 of the training images set apart by seed 1" in other.source


def test_the_order_of_the_training_images_is_kept():
    data = DATA.split(300)
    place = {image.numpy().tobytes(): i for i, image in enumerate(DATA.train.pixels)}
    positions = [place[image.numpy().tobytes()] for image in data.train.pixels]
    assert (np.diff(positions) >= 0).all()


def test_images_set_apart_are_binarized_once():
    data = DATA.split(300).binarized()
    assert data.train.redrawn
    assert not data.validation.redrawn
    assert set(data.validation.pixels.unique().tolist()) == {0, 255}
    assert torch.equal(data.validation.pixels, DATA.split(300).binarized().validation.pixels)


def test_files_follow_the_training_images(tmp_path):
    for name in range(6):
        picture = np.full((4, 4), 40 * name, dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    data = vb.load(tmp_path).split(2)
    assert len(data.files) == len(data.train) == 4
    for file, image in zip(data.files, data.train.pixels, strict=True):
        assert int(image.flatten()[0]) == 40 * int(file.stem)


@pytest.mark.parametrize("validation", [0, -1, 1499, 1500, 2000, True])
def test_too_few_or_too_many_are_refused(validation):
    with pytest.raises(ValueError, match="validation: expected a number that leaves 2 of 1,500"):
        DATA.split(validation)


def test_two_images_are_left_and_can_be_trained_on():
    data = DATA.split(len(DATA.train) - 2)
    model = vb.dense_vae(data.image_shape, latent_dim=2, hidden=(4,))
    history = vb.fit(
        model, data.train, validation=data.validation[:50], epochs=1, progress=False, device="cpu"
    )
    assert history.last("validation")["loss"] > 0


def test_what_would_lose_images_or_draw_them_anew_is_refused():
    for data in (DATA.split(300), DATA.binarized()):
        with pytest.raises(ValueError, match="split: expected data neither split nor binarized"):
            data.split(100)
    with pytest.raises(ValueError, match="seed"):
        DATA.split(300, seed=-(2**70))
