import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

import vaebook as vb


def blobs(spread, seed=0, classes=4, each=25, latent_dim=2):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centres = 10 * rng.standard_normal((classes, latent_dim))
    z = centres[labels] + spread * rng.standard_normal((len(labels), latent_dim))
    return z.astype(np.float32), labels


def test_separated_classes_are_told_apart_always():
    z, labels = blobs(spread=0.01)
    assert vb.neighbour_accuracy(z, labels) == 1.0
    assert vb.neighbour_accuracy(z, torch.from_numpy(labels)) == 1.0


def test_codes_that_know_nothing_of_the_class_do_no_better_than_chance():
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((2000, 2)).astype(np.float32), rng.integers(0, 4, 2000)
    error = np.sqrt(0.25 * 0.75 / 2000)
    assert vb.neighbour_accuracy(z, labels) == pytest.approx(0.25, abs=5 * error)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([1, 4, 10]), st.integers(2, 6), st.floats(3, 12))
def test_against_distances_to_all(seed, neighbours, folds, spread):
    z, labels = blobs(spread, seed)
    accuracies = []
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    for others, judged in split.split(z, labels):
        distances = np.linalg.norm(z[judged, None] - z[others], axis=2)
        nearest = labels[others][distances.argsort(axis=1)[:, :neighbours]]
        votes = [np.bincount(row).argmax() for row in nearest]
        accuracies.append(np.mean(votes == labels[judged]))
    got = vb.neighbour_accuracy(z, labels, neighbours=neighbours, folds=folds)
    assert got == pytest.approx(np.mean(accuracies))


def test_labels_of_another_length_are_refused():
    z, labels = blobs(spread=1)
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 100 codes, got 99"):
        vb.neighbour_accuracy(z, labels[:-1])
