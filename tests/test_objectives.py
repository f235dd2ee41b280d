import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import vaebook as vb

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32)


def draw(size, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, *size, generator=generator, dtype=dtype)


@given(sizes, seeds)
def test_kl_is_that_of_torch_distributions(size, seed):
    mean, log_var = draw(size, seed)
    q, prior = Normal(mean, (log_var / 2).exp()), Normal(torch.tensor(0.0), torch.tensor(1.0))
    expected = kl_divergence(q, prior).sum(1)
    torch.testing.assert_close(vb.kl_to_prior(mean, log_var), expected, rtol=1e-5, atol=1e-5)


@given(sizes, seeds)
def test_gradient_of_the_kl_by_finite_differences(size, seed):
    points = draw(size, seed, torch.float64).requires_grad_()
    vb.kl_to_prior(*points).sum().backward()
    step = 1e-5
    for index in np.ndindex(2, *size):
        above, below = points.detach().clone(), points.detach().clone()
        above[index] += step
        below[index] -= step
        slope = (vb.kl_to_prior(*above) - vb.kl_to_prior(*below)).sum() / (2 * step)
        assert points.grad[index].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-6)


def test_the_kl_vanishes_at_the_prior_and_nowhere_else():
    zeros = torch.zeros(1, 4)
    assert vb.kl_to_prior(zeros, zeros).item() == 0
    assert vb.kl_to_prior(zeros, zeros + 0.1).item() > 0
    assert vb.kl_to_prior(zeros, zeros - 0.1).item() > 0
    # 0.5 · 2² per dimension
    assert vb.kl_to_prior(zeros + 2, zeros).item() == pytest.approx(8)


@torch.no_grad()
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "model",
    [vb.conv_vae((2, 16, 19), 3, width=2), vb.dense_vae((2, 16, 19), 3, hidden=(8,))],
    ids=["conv", "dense"],
)
def test_terms_are_those_of_torch_distributions(model, binary, beta):
    model.eval()
    x = torch.rand(7, 2, 16, 19)
    x = x.round() if binary else x
    torch.manual_seed(5)
    terms = vb.NegativeELBO(beta)(model, x)

    torch.manual_seed(5)
    mean, log_var = model.encode(x)
    q = Normal(mean, torch.exp(log_var / 2))
    logits = model.decode(q.loc + q.scale * torch.randn(7, 3))
    if binary:
        log_prob = Bernoulli(logits=logits).log_prob(x)
    else:
        p = logits.double().sigmoid()
        log_prob = (x * p.log() + (1 - x) * (1 - p).log()).float()
    reconstruction = -log_prob.sum((1, 2, 3))
    kl = kl_divergence(q, Normal(torch.zeros(3), torch.ones(3))).sum(1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(terms.reconstruction, reconstruction, **close)
    torch.testing.assert_close(terms.kl, kl, **close)
    torch.testing.assert_close(terms.loss, reconstruction + beta * kl, **close)


class Toy(nn.Module):
    """Encoder and decoder so small that every integral over z can be done on a grid."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        if x.ndim == 4:
            return x.sum((1, 2, 3))[:, None] - 0.5, torch.full((len(x), 1), -1.0)
        return (x * self.weights)[:, None, None, :]


@torch.no_grad()
def test_the_mean_loss_is_the_evidence_plus_the_gap_to_the_true_posterior():
    weights = [2.0, -1.0]
    model = vb.VAE(Toy(weights), Toy(weights), image_shape=(1, 1, 2), latent_dim=1)
    pixels = np.array([1.0, 0.0])
    draws = 200_000
    torch.manual_seed(0)
    terms = vb.NegativeELBO()(model, torch.tensor([[[[1.0, 0.0]]]]).expand(draws, 1, 1, 2))

    z = np.linspace(-12, 12, 20_001)
    width = z[1] - z[0]
    logits = z[:, None] * weights
    log_joint = norm.logpdf(z) + (pixels * logits - np.logaddexp(0, logits)).sum(1)
    evidence = np.log((np.exp(log_joint) * width).sum())
    q = norm(0.5, np.exp(-0.5))
    gap = (q.pdf(z) * (q.logpdf(z) - (log_joint - evidence)) * width).sum()
    assert gap > 0.01
    error = terms.loss.std().item() / np.sqrt(draws)
    assert terms.loss.mean().item() == pytest.approx(-evidence + gap, abs=5 * error)


def test_beta_is_refused_below_zero():
    for beta in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=r"^beta: "):
            vb.NegativeELBO(beta)
    assert vb.NegativeELBO(0).beta == 0


@given(sizes, seeds)
def test_kl_per_dimension_is_that_of_torch_distributions(size, seed):
    mean, log_var = draw(size, seed)
    q, prior = Normal(mean, (log_var / 2).exp()), Normal(torch.tensor(0.0), torch.tensor(1.0))
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(vb.kl_per_dimension(mean, log_var), kl_divergence(q, prior), **close)


@given(st.floats(0, 0.9), st.floats(0.01, 1), st.floats(0, 1))
def test_warmup_against_interpolation(start, width, done):
    end = min(start + width, 1.0)
    expected = np.interp(done, [start, end], [0, 1])
    assert vb.Warmup(end=end, start=start)(done) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 9), st.floats(0.05, 1), st.floats(0, 0.999))
def test_each_cycle_is_a_warmup(cycles, rise, done):
    within = (done * cycles) % 1
    assert vb.Cyclical(cycles, rise)(done) == pytest.approx(vb.Warmup(end=rise)(within))
    assert vb.Cyclical(cycles, rise)(1) == 1


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: vb.Warmup(end=0), "end"), (lambda: vb.Warmup(end=1.1), "end"),
        (lambda: vb.Warmup(start=0.5, end=0.5), "end"), (lambda: vb.Warmup(start=-0.1), "end"),
        (lambda: vb.Cyclical(cycles=0), "cycles"), (lambda: vb.Cyclical(rise=0), "rise"),
        (lambda: vb.NegativeELBO(free_bits=-1), "free_bits"),
    ],
)  # fmt: skip
def test_schedules_that_make_no_sense_are_refused(build, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected "):
        build()


def test_a_schedule_multiplies_beta():
    objective = vb.NegativeELBO(beta=4, schedule=vb.Warmup(end=1))
    assert [objective.at(done).beta for done in (0, 0.25, 1)] == [0, 1, 4]
    assert objective.beta == 4
    assert vb.NegativeELBO(beta=2).at(0.1) == vb.NegativeELBO(beta=2)


@given(st.floats(0, 2), seeds)
def test_free_bits_count_each_dimension_as_at_least_so_much(free_bits, seed):
    torch.manual_seed(seed)
    model = vb.dense_vae((1, 3, 3), 4, hidden=(5,)).eval()
    x = torch.rand(6, 1, 3, 3)
    torch.manual_seed(seed)
    terms = vb.NegativeELBO(free_bits=free_bits)(model, x)
    kls = vb.kl_per_dimension(*model.encode(x))
    expected = terms.reconstruction.mean() + kls.mean(0).clamp(min=free_bits).sum()
    torch.testing.assert_close(terms.loss.mean(), expected)
    torch.testing.assert_close(terms.kl, kls.sum(1))


def test_free_bits_stop_the_pull_on_dimensions_below_them():
    model = vb.dense_vae((1, 3, 3), 4, hidden=(5,))
    for free_bits, pulled in ((0.0, True), (50.0, False)):
        terms = vb.NegativeELBO(free_bits=free_bits)(model, torch.rand(6, 1, 3, 3))
        push = (terms.loss - terms.reconstruction).mean()
        slope = torch.autograd.grad(push, model.encoder.mean.weight)[0]
        assert bool(slope.abs().max() > 1e-6) == pulled


log_weights = st.tuples(st.integers(1, 40), st.integers(1, 5), seeds)


@given(log_weights)
def test_the_importance_bound_is_the_log_of_the_mean_weight(case):
    draws, batch, seed = case
    weights = 3 * np.random.default_rng(seed).standard_normal((draws, batch))
    got = vb.importance_bound(torch.from_numpy(weights))
    np.testing.assert_allclose(got, np.log(np.exp(weights).mean(axis=0)), atol=1e-10)
    far = vb.importance_bound(torch.from_numpy(weights - 2000)) + 2000  # where exp underflows
    np.testing.assert_allclose(far, got, atol=1e-9)


@given(log_weights)
def test_the_bound_lies_between_the_mean_and_the_largest_log_weight(case):
    draws, batch, seed = case
    weights = torch.from_numpy(np.random.default_rng(seed).standard_normal((draws, batch)))
    bound = vb.importance_bound(weights)
    assert (weights.mean(0) - 1e-9 <= bound).all()
    assert (bound <= weights.max(0).values + 1e-9).all()


def small_model(seed=0):
    torch.manual_seed(seed)
    model = vb.dense_vae((1, 3, 3), latent_dim=2, hidden=(6,), activation="tanh")
    return model.double(), torch.rand(2, 1, 3, 3, dtype=torch.float64).round()


def test_with_one_draw_the_importance_weighted_bound_is_the_elbo_at_that_draw():
    model, x = small_model()
    torch.manual_seed(1)
    terms = vb.ImportanceWeighted(draws=1)(model, x)
    torch.testing.assert_close(terms.loss, terms.reconstruction + terms.kl)
    torch.manual_seed(1)
    mean, log_var = model.encode(x)
    q = Normal(mean, (log_var / 2).exp())
    z = q.mean + q.stddev * torch.randn(1, *mean.shape, dtype=torch.float64)[0]
    fit = Bernoulli(logits=model.decode(z)).log_prob(x).flatten(1).sum(1)
    prior = Normal(torch.zeros(()).double(), 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(-terms.loss, fit + prior - q.log_prob(z).sum(1))


def gradients(objective, model, x, repeats):
    """Return the encoder's and the decoder's gradient for each of many draws."""
    rows = []
    for seed in range(repeats):
        torch.manual_seed(seed)
        model.zero_grad()
        objective(model, x).loss.mean().backward()
        parts = (model.encoder.parameters(), model.decoder.parameters())
        rows.append([torch.cat([p.grad.flatten() for p in part]) for part in parts])
    return [torch.stack(part) for part in zip(*rows, strict=True)]


def test_the_doubly_reparameterized_gradient_is_the_same_on_average_and_less_noisy():
    model, x = small_model()
    usual = gradients(vb.ImportanceWeighted(draws=16), model, x, 400)
    doubly = gradients(vb.ImportanceWeighted(16, doubly_reparameterized=True), model, x, 400)
    torch.testing.assert_close(doubly[1], usual[1])  # the decoder's gradient is the same
    error = ((usual[0].var(0) + doubly[0].var(0)) / 400).sqrt()
    assert ((usual[0].mean(0) - doubly[0].mean(0)).abs() < 5 * error + 1e-12).all()
    assert doubly[0].var(0).sum() < 0.7 * usual[0].var(0).sum()


def test_the_importance_weighted_gradient_by_finite_differences():
    model, x = small_model()
    objective = vb.ImportanceWeighted(draws=4)
    (weight,) = (p for name, p in model.encoder.named_parameters() if name == "mean.weight")

    def loss():
        torch.manual_seed(3)
        return objective(model, x).loss.sum()

    loss().backward()
    for index in np.ndindex(2, 3):
        step = torch.zeros_like(weight)
        step[index] = 1e-6
        with torch.no_grad():
            weight += step
            above = loss()
            weight -= 2 * step
            below = loss()
            weight += step
        assert weight.grad[index].item() == pytest.approx((above - below).item() / 2e-6, rel=1e-5)


@pytest.mark.parametrize("draws", [0, -1])
def test_a_count_of_draws_that_makes_no_sense_is_refused(draws):
    with pytest.raises(ValueError, match=r"^draws: expected a positive whole number, got"):
        vb.ImportanceWeighted(draws=draws)
