import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.distributions import Normal, kl_divergence

import vaebook as vb

REAL = os.environ.get("VAEBOOK_DATA", "nowhere")  # what the tests were started with


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
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 100 codes, got 99"):
        vb.linear_accuracy(z, labels[:-1])


def test_a_linear_probe_sees_what_a_line_can_divide():
    """By a quadrant's colour neighbours tell exclusive-or, and no line does."""
    rng = np.random.default_rng(0)
    z = rng.uniform(0.1, 1, (1000, 2)) * rng.choice([-1, 1], (1000, 2))
    left, either = z[:, 0] < 0, (z[:, 0] < 0) ^ (z[:, 1] < 0)
    assert vb.linear_accuracy(z, left) == 1.0
    assert vb.linear_accuracy(z * [1e-3, 1e3], left) == 1.0  # in whatever units
    assert vb.linear_accuracy(z, either) == pytest.approx(0.5, abs=0.1)
    assert vb.neighbour_accuracy(z, either) > 0.98


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 8))
def test_a_linear_probe_comes_near_the_best_line(seed, apart):
    """Two Gaussians of one shape: Bayes' rule is linear, and right with probability Phi(d/2)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 2000)
    z = rng.standard_normal((4000, 3)) + apart * labels[:, None] * [1, 0, 0]
    best = Normal(0.0, 1.0).cdf(torch.tensor(apart / 2)).item()
    assert vb.linear_accuracy(z, labels) == pytest.approx(best, abs=0.03)


class Table(nn.Module):
    """An encoder that looks an image's posterior up by its first pixel."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = nn.Parameter(mean), std

    def forward(self, x):
        index = (x[:, 0, 0, 0] * 255).round().long()
        return self.mean[index], 2 * self.std[index].log()


def diagnosed(mean, std, seed=0):
    model = vb.VAE(Table(mean, std), nn.Identity(), image_shape=(1, 1, 1), latent_dim=mean.shape[1])
    pixels = torch.arange(len(mean), dtype=torch.uint8)[:, None, None, None]
    return vb.diagnose(model, pixels, seed=seed)


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 5), st.floats(0.1, 5))
def test_diagnosis_against_torch_distributions(seed, n, latent_dim, spread):
    generator = torch.Generator().manual_seed(seed)
    mean = spread * torch.randn(n, latent_dim, generator=generator)
    std = torch.rand(n, latent_dim, generator=generator) + 0.05
    diagnosis = diagnosed(mean, std)
    q = Normal(mean.double(), std.double())
    kl = kl_divergence(q, Normal(torch.zeros(1).double(), 1.0)).mean(0)
    np.testing.assert_allclose(diagnosis.kl, kl, rtol=1e-4)
    np.testing.assert_allclose(diagnosis.activity, np.var(mean.numpy(), axis=0), rtol=1e-3)
    noise = torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(0))
    z = (mean + std * noise).double()
    each = torch.stack(
        [Normal(m, s).log_prob(z).sum(1) for m, s in zip(q.loc, q.scale, strict=True)]
    )
    log_q = each.logsumexp(0) - np.log(n)
    information = (q.log_prob(z).sum(1) - log_q).mean().item()
    assert diagnosis.mutual_information == pytest.approx(information, abs=1e-3)
    assert diagnosis.mutual_information <= np.log(n) + 1e-9
    total = diagnosis.mutual_information + diagnosis.marginal_kl
    assert total == pytest.approx(kl.sum().item(), rel=1e-4)


def test_codes_apart_tell_all_and_codes_alike_nothing():
    apart = diagnosed(100.0 * torch.arange(200.0)[:, None], torch.ones(200, 1))
    assert apart.mutual_information == pytest.approx(np.log(200))
    assert apart.active_units == 1
    narrow = diagnosed(torch.randn(200, 2), torch.full((200, 2), 1e-8))
    assert narrow.mutual_information == pytest.approx(np.log(200))
    collapsed = diagnosed(torch.zeros(200, 3), torch.ones(200, 3))
    assert collapsed.active_units == 0
    assert collapsed.mutual_information == pytest.approx(0, abs=1e-6)
    assert collapsed.marginal_kl == pytest.approx(0, abs=1e-6)
    assert "0 of 3 units active" in str(collapsed)


def test_the_aggregate_posterior_can_be_the_prior_although_no_posterior_is():
    """Codes spread as the prior is: all of the KL is information."""
    rng = torch.Generator().manual_seed(1)
    quantiles = torch.special.ndtri((torch.arange(256) + 0.5) / 256)
    mean = (0.96**0.5 * quantiles)[torch.randperm(256, generator=rng)][:, None]
    diagnosis = diagnosed(mean, torch.full((256, 1), 0.2))
    assert diagnosis.marginal_kl == pytest.approx(0, abs=0.1)
    assert diagnosis.mutual_information == pytest.approx(np.log(1 / 0.2), abs=0.1)


@given(st.integers(1, 5), st.integers(0, 2**32), st.booleans())
def test_the_floor_is_the_entropy_of_the_pixels(count, seed, eight_bits):
    pixels = torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(seed))
    pixels = (255 * pixels).to(torch.uint8) if eight_bits else pixels
    x = pixels.double().numpy() / (255 if eight_bits else 1)
    expected = (entr(x) + entr(1 - x)).sum() / count
    assert vb.bernoulli_floor(pixels) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "published"), [("mnist", 45.8), ("kmnist", 82.4), ("cifar10", 1676.1)]
)
def test_the_floors_of_the_data_sets(name, published):
    try:
        data = vb.load(name, root=REAL, download=False)
    except (FileNotFoundError, ValueError):
        pytest.skip(f"{name} is not in the data folder")
    assert vb.bernoulli_floor(data.train[:5000]) == pytest.approx(published, rel=0.01)


def test_binary_pixels_have_no_floor():
    assert vb.bernoulli_floor(torch.zeros(2, 1, 3, 3)) == 0
    assert vb.bernoulli_floor(torch.ones(2, 1, 3, 3)) == 0


@given(st.integers(1, 4), st.integers(1, 9), st.floats(0, 20))
def test_bits_per_dimension(channels, side, bits):
    nats = bits * np.log(2) * channels * side * side
    shape = (channels, side, side)
    assert vb.bits_per_dimension(nats, shape) == pytest.approx(bits)
    # A density of 1 over [0, 1] is a probability of 1/256 for each level: 8 bits.
    assert vb.bits_per_dimension(0.0, shape, density=True) == 8
