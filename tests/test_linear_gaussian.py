"""The objective against a VAE whose evidence and posterior are known: a linear Gaussian one.

Tipping & Bishop 1999: with x = W z + b + σ·noise, log p(x) and p(z|x) are normal.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

import vaebook as vb
from vaebook.models.likelihoods import Gaussian

IMAGE_SHAPE = (1, 2, 3)
D = math.prod(IMAGE_SHAPE)
seeds = st.integers(0, 2**32)
latent_dims = st.integers(1, 4)
sigmas = st.floats(0.05, 3.0)


class Affine(nn.Module):
    """An encoder whose mean is linear in the image and whose variances are the same for all."""

    def __init__(self, weight, bias, log_var):
        super().__init__()
        self.weight, self.bias, self.log_var = map(nn.Parameter, (weight, bias, log_var))

    def forward(self, x):
        mean = x.flatten(1) @ self.weight.T + self.bias
        return mean, self.log_var.expand_as(mean)


class Linear(NamedTuple):
    """A linear Gaussian VAE in double precision, and the same by textbook formulas."""

    model: vb.VAE
    W: Tensor
    b: Tensor
    sigma: float

    @property
    def gram(self):
        return self.W.T @ self.W + self.sigma**2 * torch.eye(self.W.shape[1]).double()

    def evidence(self):
        return MultivariateNormal(self.b, self.W @ self.W.T + self.sigma**2 * torch.eye(D).double())

    def posterior(self, x):
        mean = (x.flatten(1) - self.b) @ self.W @ torch.linalg.inv(self.gram)
        return MultivariateNormal(mean, self.sigma**2 * torch.linalg.inv(self.gram))

    def q(self, x):
        mean, log_var = self.model.encode(x)
        return MultivariateNormal(mean, torch.diag_embed(log_var.exp()))

    def elbo(self, x):
        """E_q[log p(x|z)] − KL(q ‖ p(z)) by the moments of q, with nothing of the package's."""
        q = self.q(x)
        squares = (x.flatten(1) - self.b - q.mean @ self.W.T).square().sum(1)
        expected = squares + (q.variance @ self.W.square().T).sum(1)
        constant = D * math.log(2 * math.pi * self.sigma**2)
        prior = MultivariateNormal(torch.zeros_like(q.mean), torch.eye(q.mean.shape[1]).double())
        return -0.5 * (constant + expected / self.sigma**2) - kl_divergence(q, prior)


def build(seed, latent_dim, sigma, encoder=None):
    """Draw a decoder, and an encoder unless one is given as weight, bias and log-variance."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    W, b = draw(D, latent_dim), draw(D)
    if encoder is None:
        encoder = draw(latent_dim, D), draw(latent_dim), draw(latent_dim)
    decoder = nn.Sequential(nn.Linear(latent_dim, D), nn.Unflatten(1, IMAGE_SHAPE)).double()
    decoder[0].weight.data, decoder[0].bias.data = W, b
    model = vb.VAE(
        Affine(*encoder), decoder, image_shape=IMAGE_SHAPE, latent_dim=latent_dim,
        likelihood=Gaussian(sigma=sigma),
    ).double()  # fmt: skip
    model.likelihood.log_sigma.data.fill_(math.log(sigma))  # which was rounded to float32
    return Linear(model.eval(), W, b, sigma), draw(5, *IMAGE_SHAPE)


def with_exact_encoder(seed, sigma, latent_dim, orthogonal=True):
    """A model whose encoder gives the posterior's mean and the best of independent variances."""
    linear, x = build(seed, latent_dim, sigma)
    W = linear.W
    if orthogonal:
        W = torch.linalg.svd(W, full_matrices=False)[0] * torch.arange(1, latent_dim + 1)
        linear.model.decoder[0].weight.data = W
    linear = linear._replace(W=W)
    weight = torch.linalg.solve(linear.gram, W.T)
    encoder = linear.model.encoder
    encoder.weight.data, encoder.bias.data = weight, -weight @ linear.b
    encoder.log_var.data = (sigma**2 / linear.gram.diag()).log()
    return linear, x


@torch.no_grad()
@given(seeds, latent_dims, sigmas)
def test_evidence_is_elbo_plus_kl_to_the_posterior(seed, latent_dim, sigma):
    linear, x = build(seed, latent_dim, sigma)
    gap = kl_divergence(linear.q(x), linear.posterior(x))
    evidence = linear.evidence().log_prob(x.flatten(1))
    torch.testing.assert_close(linear.elbo(x) + gap, evidence, rtol=1e-8, atol=1e-8)
    assert (gap >= -1e-9).all()


@torch.no_grad()
@given(seeds, latent_dims, sigmas)
def test_the_loss_at_symmetric_noise_averages_to_the_exact_negative_elbo(seed, latent_dim, sigma):
    """A quadratic log p(x|z) has its exact mean at the 2d points μ ± √d·s of each axis."""
    linear, x = build(seed, latent_dim, sigma)
    model = linear.model
    mean, log_var = model.encode(x)
    axes = math.sqrt(latent_dim) * torch.eye(latent_dim, dtype=torch.float64)
    losses = []
    for noise in torch.cat([axes, -axes]):
        model.reparameterize = lambda m, v, noise=noise: m + (0.5 * v).exp() * noise
        losses.append(vb.NegativeELBO()(model, x).loss)
    average = torch.stack(losses).mean(0)
    torch.testing.assert_close(average, -linear.elbo(x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(
        vb.kl_to_prior(mean, log_var), vb.NegativeELBO()(model, x).kl, rtol=0, atol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_the_mean_loss_over_many_draws_is_the_exact_negative_elbo(latent_dim):
    linear, x = build(7, latent_dim, sigma=0.8)
    draws = 20_000
    torch.manual_seed(0)
    copies = x[:1].expand(draws, *IMAGE_SHAPE)
    loss = vb.NegativeELBO()(linear.model, copies).loss
    standard_error = loss.std().item() / math.sqrt(draws)
    expected = -linear.elbo(x[:1]).item()
    assert loss.mean().item() == pytest.approx(expected, abs=5 * standard_error)
    assert standard_error < 0.1 * abs(expected)


@torch.no_grad()
@given(seeds, latent_dims, sigmas)
def test_log_prob_of_a_code_is_that_of_a_normal_distribution(seed, latent_dim, sigma):
    linear, x = build(seed, latent_dim, sigma)
    z = linear.posterior(x).mean
    expected = MultivariateNormal(z @ linear.W.T + linear.b, sigma**2 * torch.eye(D).double())
    given_code = linear.model.likelihood.log_prob(linear.model.decode(z), x)
    torch.testing.assert_close(given_code, expected.log_prob(x.flatten(1)), rtol=1e-8, atol=1e-8)


@torch.no_grad()
@given(seeds, latent_dims, sigmas)
def test_the_bound_is_tight_where_the_decoder_has_orthogonal_columns(seed, latent_dim, sigma):
    linear, x = with_exact_encoder(seed, sigma, latent_dim)
    evidence = linear.evidence().log_prob(x.flatten(1))
    torch.testing.assert_close(linear.elbo(x), evidence, rtol=1e-8, atol=1e-8)


@torch.no_grad()
@given(seeds, st.integers(2, 4), sigmas)
def test_otherwise_the_best_independent_q_leaves_the_gap_of_hadamard(seed, latent_dim, sigma):
    linear, x = with_exact_encoder(seed, sigma, latent_dim, orthogonal=False)
    gap = linear.evidence().log_prob(x.flatten(1)) - linear.elbo(x)
    expected = 0.5 * (linear.gram.diag().log().sum() - linear.gram.logdet())
    torch.testing.assert_close(gap, expected.expand_as(gap), rtol=1e-8, atol=1e-8)


@given(seeds, latent_dims, sigmas)
def test_the_exact_encoder_is_a_stationary_point_of_the_elbo(seed, latent_dim, sigma):
    linear, x = with_exact_encoder(seed, sigma, latent_dim)
    linear.elbo(x).sum().backward()
    for parameter in linear.model.encoder.parameters():
        scale = 1 + x.abs().max().item() ** 2 / sigma**2
        assert parameter.grad.abs().max().item() < 1e-8 * scale


@torch.no_grad()
@given(seeds, latent_dims, sigmas, st.integers(1, 5))
def test_log_densities_at_draws_are_those_of_torch_distributions(seed, latent_dim, sigma, draws):
    linear, x = build(seed, latent_dim, sigma)
    found = linear.model.draw(x, draws)
    identity = torch.eye(latent_dim).double()
    prior = MultivariateNormal(torch.zeros(latent_dim).double(), identity)
    noise = MultivariateNormal(found.z @ linear.W.T + linear.b, sigma**2 * torch.eye(D).double())
    for got, expected in (
        (found.prior, prior.log_prob(found.z)),
        (found.posterior, linear.q(x).log_prob(found.z)),
        (found.likelihood, noise.log_prob(x.flatten(1))),
    ):
        assert got.shape == (draws, len(x))
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@torch.no_grad()
@given(seeds, latent_dims, sigmas)
def test_one_weight_tells_log_p_where_the_encoder_is_exact(seed, latent_dim, sigma):
    linear, x = with_exact_encoder(seed, sigma, latent_dim)
    weights = linear.model.draw(x, 3).log_weights
    evidence = linear.evidence().log_prob(x.flatten(1))
    torch.testing.assert_close(weights, evidence.expand(3, -1), rtol=1e-7, atol=1e-7)


def inexact(latent_dim=3, sigma=0.8):
    """A model with an encoder that is off, by a shift and by too wide a posterior."""
    linear, _ = with_exact_encoder(3, sigma, latent_dim)
    linear.model.encoder.log_var.data += 0.4
    linear.model.encoder.bias.data += 0.1
    x = linear.evidence().sample((200,)).view(-1, *IMAGE_SHAPE)
    return linear, (x - x.min()) / (x.max() - x.min())  # `Images` hold pixels in [0, 1]


@torch.no_grad()
def test_the_estimate_rises_with_k_to_the_exact_log_likelihood_and_not_above():
    torch.manual_seed(0)
    linear, x = inexact()
    exact = linear.evidence().log_prob(x.flatten(1)).numpy()
    linear.model.float()
    means = []
    for samples in (1, 5, 50, 5000):
        found = vb.log_likelihood(linear.model, x.float(), draws=samples, progress=False)
        over = found.per_image - exact
        assert over.mean() <= 3 * over.std() / math.sqrt(len(x))
        means.append(found.mean)
    assert means == sorted(means)
    assert means[-1] == pytest.approx(exact.mean(), abs=0.01)
    assert means[0] < exact.mean() - 0.1  # there was a gap to close


@torch.no_grad()
def test_one_sample_is_the_elbo_and_chunks_make_no_difference_in_what_is_estimated(monkeypatch):
    linear, x = inexact()
    expected = linear.elbo(x).mean().item()
    linear.model.float()
    x = x.float()
    one = vb.log_likelihood(linear.model, x, draws=1, progress=False)
    assert one.mean == pytest.approx(expected, abs=5 * one.per_image.std() / math.sqrt(len(x)))
    whole = vb.log_likelihood(linear.model, x, draws=2000, progress=False)
    # 285 times 7 draws, and 5.
    monkeypatch.setattr("vaebook.evaluation.likelihood.ELEMENTS", 100 * D * 7)
    parts = vb.log_likelihood(linear.model, x, draws=2000, progress=False)
    np.testing.assert_allclose(parts.per_image, whole.per_image, atol=0.2)
    assert parts.mean == pytest.approx(whole.mean, abs=0.01)
