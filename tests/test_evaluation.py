import math
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
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb
from vaebook.evaluation import likelihood
from vaebook.training.devices import measuring

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


DIGITS = vb.load("digits")


@pytest.fixture(scope="module")
def ladder():
    torch.manual_seed(0)
    model = vb.ladder_vae(DIGITS.image_shape, (3, 2), hidden=(32, 16))
    run = {"device": "cpu", "precision": "float32", "progress": False}
    vb.fit(model, DIGITS.train, epochs=3, lr=3e-3, **run)
    return model


def test_a_ladder_is_diagnosed_in_all_its_levels(ladder):
    diagnosis = vb.diagnose(ladder, DIGITS.test, seed=3)
    assert diagnosis.kl.shape == diagnosis.activity.shape == (5,)
    levels = diagnosis.kl[:3].sum(), diagnosis.kl[3:].sum()
    np.testing.assert_allclose(levels, vb.kl_per_level(ladder, DIGITS.test, seed=3), rtol=1e-12)
    assert min(levels) > 0.1
    total = diagnosis.mutual_information + diagnosis.marginal_kl
    assert total == pytest.approx(diagnosis.kl.sum(), rel=1e-12)
    # The draws of another seed are others: the KL is the same within its Monte Carlo error.
    kls = [vb.evaluate(ladder, DIGITS.test, seed=seed)["kl"] for seed in range(100, 120)]
    assert 0 < np.std(kls) < 0.05 * np.mean(kls)
    assert diagnosis.kl.sum() == pytest.approx(np.mean(kls), abs=5 * np.std(kls))
    assert repr(diagnosis).startswith(f"Diagnosis: {diagnosis.active_units} of 5 units active")


def given_above(said, upper, network):
    """Return q(z_1|z_2, x): the product of what an image says and of the prior that z_2 gives."""
    prior_mean, prior_log_var = network(upper).double().chunk(2, -1)
    mean, log_var = said
    precisions = (-log_var).exp(), (-prior_log_var).exp()
    middle = (mean * precisions[0] + prior_mean * precisions[1]) / sum(precisions)
    return Normal(middle, sum(precisions).rsqrt())


@torch.no_grad()
@pytest.mark.parametrize("narrow", [0.0, 6.0])
@pytest.mark.parametrize("count", [2, 20])
def test_the_information_of_a_ladder_by_all_pairs_of_codes_and_images(ladder, count, narrow):
    """Each code's density under each image's posterior, one by one from the model's networks."""
    ladder.encoder.heads[0].bias[3:] -= narrow  # with posteriors that hardly overlap, too
    x = DIGITS.test[:count].pixels.float() / 255
    diagnosis = vb.diagnose(ladder, x, seed=3)
    with measuring(ladder, seed=3):  # the draws of `diagnose`
        lower, upper = ladder(x).z.split((3, 2), 1)
    h, said = x.flatten(1), []
    for block, head in zip(ladder.encoder.blocks, ladder.encoder.heads, strict=True):
        h = block(h)
        said.append(head(h).double().chunk(2, 1))
    ladder.encoder.heads[0].bias[3:] += narrow
    network = ladder.decoder.networks[1]
    log_q = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            of_top = Normal(said[1][0][j], (said[1][1][j] / 2).exp())
            of_first = given_above([part[j] for part in said[0]], upper[i : i + 1], network)
            density = of_top.log_prob(upper[i].double()).sum()
            log_q[i, j] = density + of_first.log_prob(lower[i].double()).sum()
    log_mixture = np.log(np.exp(log_q - log_q.max(1, keepdims=True)).mean(1)) + log_q.max(1)
    information = (log_q.diagonal() - log_mixture).mean()
    assert diagnosis.mutual_information == pytest.approx(information, abs=1e-4)
    assert 0.1 < diagnosis.mutual_information <= math.log(count) + 1e-9
    means = given_above(said[0], said[1][0].float(), network).mean, said[1][0]
    expected = torch.cat(means, 1).var(0, unbiased=False)
    np.testing.assert_allclose(diagnosis.activity, expected, rtol=1e-4, atol=1e-7)


def untrained(latent_dim=3):
    torch.manual_seed(0)
    return vb.dense_vae(DIGITS.image_shape, latent_dim, hidden=(16,))


def test_one_image_has_no_standard_error():
    images = DIGITS.test.binarized("static")
    one = vb.log_likelihood(untrained(), images[0], draws=50, progress=False)
    assert one.per_image.shape == (1,)
    assert one.mean == one.per_image[0]
    assert math.isnan(one.standard_error)
    assert repr(one) == f"log p(x) ≥ {one.mean:.2f} nats (1 image, 50 draws each)"
    some = vb.log_likelihood(untrained(), images[:9], draws=50, progress=False)
    error = np.std(some.per_image, ddof=1) / 3
    assert some.standard_error == pytest.approx(error)
    assert some.draws == 50
    expected = f"log p(x) ≥ {some.mean:.2f} ± {error:.2f} nats (9 images, 50 draws each)"
    assert repr(some) == expected


def loader(dataset, batch_size):
    """Return a DataLoader whose seeds for worker processes come from no one else's generator."""
    return DataLoader(dataset, batch_size, generator=torch.Generator())


@pytest.mark.parametrize("labels", [False, True])
def test_a_data_loader_is_measured_as_its_images_are(labels):
    images, model = DIGITS.test.binarized("static"), untrained()
    if labels:
        model = vb.conditional_vae(DIGITS.image_shape, 2, classes=10, hidden=(16,))
    options = {"draws": 20, "seed": 4, "progress": False}
    expected, row = vb.log_likelihood(model, images, **options), vb.evaluate(model, images, seed=5)
    tensors = TensorDataset(*[images.pixels.float() / 255, images.labels][: 1 + labels])
    for dataset in (tensors, images):
        found = vb.log_likelihood(model, loader(dataset, 100), **options)
        np.testing.assert_array_equal(found.per_image, expected.per_image)
        again = vb.evaluate(model, loader(dataset, 500), seed=5)
        assert [again[key] for key in ("loss", "kl")] == [row[key] for key in ("loss", "kl")]
    # In batches of another size the draws are others, but it is the same estimate.
    other = vb.log_likelihood(model, loader(images, 64), **options)
    assert other.mean == pytest.approx(expected.mean, abs=1)


def test_a_ladder_is_diagnosed_from_a_data_loader(ladder):
    found = vb.diagnose(ladder, loader(DIGITS.test, 500), seed=1)
    expected = vb.diagnose(ladder, DIGITS.test, seed=1)
    assert found.mutual_information == expected.mutual_information
    np.testing.assert_array_equal(found.kl, expected.kl)


def shifted(model):
    """Change all weights where they lie, as an optimizer does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.01)


@pytest.mark.parametrize(
    "measure",
    [
        lambda model: vb.evaluate(model, DIGITS.test)["loss"],
        lambda model: vb.log_likelihood(model, DIGITS.test, draws=5, progress=False).mean,
    ],
)
def test_autocast_outside_neither_rounds_a_measure_nor_makes_it_stale(measure):
    """Autocast keeps copies of weights, which know nothing of how the weights change."""
    model = untrained()
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.rand(2, *DIGITS.image_shape))
        before = measure(model)
        shifted(model)
        after = measure(model)
    assert after == measure(model)
    assert before != after
    assert before == measure(untrained())


def test_a_ladder_is_measured_in_float32_under_autocast(ladder):
    expected = vb.kl_per_level(ladder, DIGITS.test), vb.diagnose(ladder, DIGITS.test).kl
    with torch.autocast("cpu", torch.bfloat16):
        found = vb.kl_per_level(ladder, DIGITS.test), vb.diagnose(ladder, DIGITS.test).kl
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


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


def test_codes_are_decoded_in_parts_of_a_bounded_size(monkeypatch):
    monkeypatch.setattr(likelihood, "ELEMENTS", 30 * 64)
    model, sizes = vb.dense_vae((1, 8, 8), latent_dim=2, hidden=(4,)), []
    model.decoder.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    for images, parts in ((3, [30, 30, 15]), (1, [25]), (150, 25 * [100] + 25 * [50])):
        sizes.clear()
        x = torch.rand(images, 1, 8, 8).round()
        vb.log_likelihood(model, x, draws=25, progress=False)
        assert sizes == parts
