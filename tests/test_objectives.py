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
