import copy
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, xlogy
from scipy.stats import logistic
from torch import distributions, nn
from torch.distributions import Bernoulli as TorchBernoulli

import vaebook as vb
from vaebook.models.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    as_likelihood,
)

bernoulli, continuous = Bernoulli(), ContinuousBernoulli()
LIKELIHOODS = [
    bernoulli, continuous, Gaussian(0.3), Gaussian("learned"), DiscretizedLogistic(0.2),
    DiscretizedLogistic("learned", levels=8),
]  # fmt: skip
shapes = st.tuples(*(st.integers(1, most) for most in (4, 4, 9, 9)))
seeds = st.integers(0, 2**32)


def draw(shape, seed, scale=3.0):
    """Logits and grey pixels."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


@given(shapes, seeds)
def test_binary_pixels_have_the_log_probability_of_torch_distributions(shape, seed):
    logits, grey = draw(shape, seed)
    x = grey.round()
    expected = TorchBernoulli(logits=logits, validate_args=False).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli.log_prob(logits, x), expected)


@given(shapes, seeds, st.floats(0.1, 1000))
def test_grey_pixels_follow_the_same_formula_however_large_the_logits(shape, seed, scale):
    logits, x = draw(shape, seed, scale)
    a, b = logits.double().numpy(), x.double().numpy()
    expected = (b * a - np.logaddexp(0, a)).sum((1, 2, 3))
    np.testing.assert_allclose(bernoulli.log_prob(logits, x), expected, rtol=1e-5, atol=1e-4)


@given(shapes, seeds)
def test_a_grey_pixel_costs_at_least_its_own_entropy(shape, seed):
    logits, x = draw(shape, seed)
    p = x.double().numpy()
    entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p)).sum((1, 2, 3))
    assert (-bernoulli.log_prob(logits, x).numpy() >= entropy - 1e-3).all()
    best = torch.logit(x.double())  # what the best of models would say
    np.testing.assert_allclose(-bernoulli.log_prob(best, x.double()), entropy, atol=1e-6)


@given(shapes, seeds, st.floats(0.1, 1000))
def test_mean_is_the_sigmoid(shape, seed, scale):
    logits, _ = draw(shape, seed, scale)
    mean = bernoulli.mean(logits).numpy()
    np.testing.assert_allclose(mean, expit(logits.numpy()), rtol=1e-5, atol=1e-7)
    assert (mean >= 0).all()
    assert (mean <= 1).all()


@given(shapes, seeds)
def test_the_continuous_bernoulli_is_that_of_torch_distributions(shape, seed):
    logits, x = draw(shape, seed)
    theirs = distributions.ContinuousBernoulli(logits=logits.double())
    expected = theirs.log_prob(x.double()).sum((1, 2, 3))
    got = continuous.log_prob(logits.double(), x.double())
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(continuous.mean(logits.double()), theirs.mean, rtol=1e-4, atol=1e-4)


@given(shapes, seeds, st.floats(0.01, 3))
def test_the_gaussian_is_that_of_torch_distributions(shape, seed, sigma):
    params, x = draw(shape, seed)
    expected = distributions.Normal(params, sigma).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(sigma).log_prob(params, x), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("logit", [-400.0, -5.0, -0.1, -1e-4, 0.0, 1e-9, 0.0999, 0.1001, 3.0, 90.0])
def test_densities_integrate_to_one_and_the_mean_is_theirs(logit):
    def density(x):
        pixel, params = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (x, logit))
        return continuous.log_prob(params, pixel).exp().item()

    near = [1 / (1 + abs(logit)), 1 - 1 / (1 + abs(logit))]
    assert quad(density, 0, 1, points=near)[0] == pytest.approx(1, abs=1e-7)
    mean = quad(lambda x: x * density(x), 0, 1, points=near)[0]
    got = continuous.mean(torch.tensor(logit, dtype=torch.float64)).item()
    assert got == pytest.approx(mean, abs=1e-7)


def test_the_gaussian_integrates_to_one():
    gaussian, params = Gaussian(0.07), torch.full((1, 1, 1, 1), 0.3)

    def density(x):
        return gaussian.log_prob(params, torch.full((1, 1, 1, 1), x)).exp().item()

    assert quad(density, -1, 2, points=[0.2, 0.3, 0.4])[0] == pytest.approx(1, abs=1e-5)


@given(st.integers(2, 300), st.floats(-1, 2), st.floats(0.01, 3))
def test_the_probabilities_of_all_levels_sum_to_one_and_are_differences_of_cdfs(levels, loc, scale):
    x = torch.linspace(0, 1, levels, dtype=torch.float64)[:, None, None, None]
    log_mass = DiscretizedLogistic(scale, levels).double().log_prob(torch.full_like(x, loc), x)
    mass = log_mass.exp().numpy()
    assert mass.sum() == pytest.approx(1, abs=1e-9)
    edges = (np.arange(1, levels) - 0.5) / (levels - 1)
    cdf = np.concatenate([[0], logistic(loc, scale).cdf(edges), [1]])
    np.testing.assert_allclose(mass, np.diff(cdf), rtol=4e-6, atol=1e-12)


def test_a_level_far_out_in_the_tail_keeps_its_digits():
    x, params = torch.full((1, 1, 1, 1), 128 / 255), torch.full((1, 1, 1, 1), -9.0)
    got = DiscretizedLogistic(0.05).log_prob(params, x).item()
    # Far out the logistic density is exp(-distance / scale) / scale.
    width, distance = 1 / 255, 128 / 255 + 9
    expected = -distance / 0.05 + math.log(2 * math.sinh(width / 2 / 0.05))
    assert got == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 254), st.floats(-0.49, 0.49), seeds)
def test_a_pixel_between_two_levels_counts_as_the_nearer_one(level, off, seed):
    params = draw((1, 1, 1, 1), seed)[0]
    kind = DiscretizedLogistic(0.1)
    near, exact = (kind.log_prob(params, (params * 0 + n) / 255) for n in (level + off, level))
    assert near == exact
    on_the_edge = kind.log_prob(params, (params * 0 + level + 0.5) / 255)
    assert on_the_edge in (exact, kind.log_prob(params, (params * 0 + level + 1) / 255))


def test_a_learned_scale_does_not_collapse():
    kind, x = DiscretizedLogistic(), torch.rand(3, 1, 2, 2)
    kind.log_scale.data.fill_(-1000.0)
    log_prob = kind.log_prob((x * 255).round() / 255 + 0.1, x)
    assert log_prob.isfinite().all()
    assert kind.scale.item() == pytest.approx(1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "optimal", None])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=r"^scale: expected a number above 0 or 'learned', got "):
        DiscretizedLogistic(scale)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("levels", [1, 0, 2.5, "256"])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(ValueError, match=r"^levels: expected a whole number above 1, got "):
        DiscretizedLogistic(levels=levels)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_of_likelihoods(likelihood):
    logits, x = draw((2, 1, 3, 3), seed=0)
    logits = logits.double().requires_grad_()
    likelihood = copy.deepcopy(likelihood).double()
    inputs = (logits, *likelihood.parameters())  # gradcheck changes the latter in place
    assert torch.autograd.gradcheck(lambda p, *_: likelihood.log_prob(p, x.double()), inputs)


def test_extreme_logits_leave_gradients_finite():
    for logit in (0.0, 1e-30, 200.0, -1e4):
        params = torch.full((1, 1, 1, 1), logit, requires_grad=True)
        continuous.log_prob(params, torch.rand(1, 1, 1, 1)).sum().backward()
        assert params.grad.isfinite().all()


@given(shapes, seeds)
def test_the_optimal_sigma_is_better_than_its_neighbours(shape, seed):
    params, x = draw(shape, seed)
    optimal = Gaussian("optimal")
    best = optimal.log_prob(params, x).sum()
    sigma = optimal.sigma.item()
    assert sigma == pytest.approx(np.sqrt(np.mean((params - x).numpy() ** 2)), rel=1e-4)
    for factor in (0.9, 1.0, 1.1):
        other = Gaussian(factor * sigma).log_prob(params, x).sum()
        assert best >= other - 1e-4 * (1 + other.abs())
    other = draw(shape, seed + 1)[0]
    judged = optimal.eval().log_prob(other, x)  # by the sigma of the batch trained on
    torch.testing.assert_close(judged, Gaussian(sigma).log_prob(other, x), rtol=1e-4, atol=1e-2)


def test_a_learned_sigma_finds_the_root_mean_square():
    params, x = draw((50, 1, 4, 4), seed=0, scale=0.1)
    learned = Gaussian("learned")
    optimizer = torch.optim.LBFGS(learned.parameters(), max_iter=100)

    def loss():
        optimizer.zero_grad()
        value = -learned.log_prob(params, x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert learned.sigma.item() == pytest.approx(
        (params - x).square().mean().sqrt().item(), rel=1e-3
    )


@pytest.mark.parametrize("sigma", ["learned", "optimal"])
def test_sigma_does_not_collapse_on_a_perfect_reconstruction(sigma):
    x = torch.rand(3, 1, 2, 2)
    gaussian = Gaussian(sigma)
    gaussian.log_sigma.data.fill_(-1000.0)
    log_prob = gaussian.log_prob(x.clone().requires_grad_(), x)
    floor = 4 * (-0.5 * math.log(2 * math.pi) - math.log(1e-3))
    assert log_prob.tolist() == pytest.approx([floor] * 3, rel=1e-5)
    log_prob.sum().backward()


@pytest.mark.parametrize("sigma", [0, 0.0, -1, float("nan"), float("inf"), "best"])
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match=r"^sigma: expected a number above 0"):
        Gaussian(sigma)


@pytest.mark.parametrize(
    "likelihood",
    [bernoulli, continuous, Gaussian(0.2), Gaussian("optimal"), DiscretizedLogistic(levels=16)],
)
def test_a_likelihood_comes_back_from_its_spec_and_from_a_file(likelihood, tmp_path):
    again = as_likelihood(likelihood.spec)
    assert type(again) is type(likelihood)
    assert again.spec == likelihood.spec
    model = vb.dense_vae((1, 4, 4), 2, hidden=(3,), likelihood=likelihood)
    vb.save(model, tmp_path / "model")
    loaded = vb.load_model(tmp_path / "model")
    assert loaded.likelihood.spec == likelihood.spec
    assert str(loaded) == str(model.eval())


@pytest.mark.parametrize("likelihood", ["poisson", nn.ReLU(), None, 3])
def test_an_unknown_likelihood_is_refused(likelihood):
    with pytest.raises(ValueError, match=r"^likelihood: expected one of bernoulli, "):
        vb.conv_vae((1, 28, 28), 2, likelihood=likelihood)


def squared_error(likelihood, data):
    """Return that of test images, in units of pixels, after a short training."""
    torch.manual_seed(0)
    model = vb.dense_vae(data.image_shape, 8, hidden=(64,), likelihood=likelihood)
    vb.fit(model, data.train, epochs=12, lr=3e-3, progress=False, device="cpu")
    x = data.test.pixels.float() / 255
    return (vb.reconstruct(model, data.test) - x).square().mean().item(), model.likelihood


def test_by_its_name_the_gaussian_has_the_optimal_sigma_and_redraws_better_than_at_one():
    data = vb.load("digits")
    found, gaussian = squared_error("gaussian", data)
    assert gaussian.spec == ["gaussian", {"sigma": "optimal"}]
    assert gaussian.sigma.item() == pytest.approx(found**0.5, rel=0.1)
    at_one, fixed = squared_error(["gaussian", {"sigma": 1.0}], data)
    assert fixed.spec == ["gaussian", {"sigma": 1.0}]
    assert not [*fixed.parameters()]
    assert fixed.sigma.item() == 1
    assert found < 0.8 * at_one


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("likelihood", "said"),
    [
        (["gaussian", {"sigma": 0}], "sigma: expected a number above 0 or 'learned' or 'optimal'"),
        (["gaussian", {"scale": 1}], "likelihood: expected arguments of gaussian, got "),
        (["gaussian", 3], "likelihood: expected arguments of gaussian, got "),
        (["gaussian"], "likelihood: expected one of bernoulli, "),
        (["gaussian", {}, {}], "likelihood: expected one of bernoulli, "),
        ([["gaussian"], {}], "likelihood: expected one of bernoulli, "),
        (Gaussian, "likelihood: expected an nn.Module, such as one made by Own()"),
    ],
    ids=str,
)
def test_a_spec_that_is_none_is_refused_in_a_sentence(likelihood, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}") as error:
        as_likelihood(likelihood)
    assert "\n" not in str(error.value)
