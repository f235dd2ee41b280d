"""Learned priors against closed forms, scikit-learn, and quadrature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import vaebook as vb
from vaebook import priors

QUICK = dict(steps=300, batch_size=128, progress=False)
KINDS = {
    "gaussian": lambda z: priors.Mixture(1).fit(z),
    "mixture": lambda z: priors.Mixture(3).fit(z),
    "flow": lambda z: priors.SplineFlow(transforms=2, width=16).fit(z, **QUICK),
    "matching": lambda z: priors.FlowMatching(width=64).fit(z, **QUICK | dict(steps=1500)),
}
WITH_DENSITY = ["gaussian", "mixture", "flow"]
FIRST = torch.tensor([True, False])


def ring(n=2000, seed=0):
    """Codes on a noisy ring off the origin, wider than high: unlike any Gaussian."""
    draws = np.random.default_rng(seed)
    angle, radius = draws.uniform(0, 2 * np.pi, n), 1 + 0.1 * draws.standard_normal(n)
    points = radius * np.array([2 * np.cos(angle), np.sin(angle)])
    return torch.from_numpy(points.T + np.array([1.0, -0.5])).float()


@pytest.fixture(scope="module")
def fitted():
    pytest.importorskip("zuko")
    z = ring()
    return {kind: fit(z) for kind, fit in KINDS.items()}


@pytest.mark.parametrize("kind", WITH_DENSITY)
def test_densities_integrate_to_one(fitted, kind):
    axis = torch.linspace(-8, 8, 801)
    grid = torch.cartesian_prod(axis, axis)
    mass = fitted[kind].log_prob(grid).exp().sum().item() * (axis[1] - axis[0]).item() ** 2
    assert mass == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_moments_of_the_codes(fitted, kind):
    z, drawn = ring(), fitted[kind].sample(4000, seed=3)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), z.T.cov(), atol=0.25, rtol=0)


@pytest.mark.parametrize("kind", ["mixture", "flow", "matching"])
def test_richer_priors_leave_the_hole_empty(fitted, kind):
    """The ring's middle, where a Gaussian has its highest density, has next to no codes."""

    def in_hole(codes):
        inside = ((codes - torch.tensor([1.0, -0.5])) / torch.tensor([2.0, 1.0])).norm(dim=1) < 0.4
        return inside.float().mean().item()

    assert in_hole(fitted["gaussian"].sample(4000)) > 0.05
    assert in_hole(fitted[kind].sample(4000)) < 0.4 * in_hole(fitted["gaussian"].sample(4000))


@pytest.mark.parametrize("kind", WITH_DENSITY)
def test_the_entropy_of_draws_is_that_of_the_density(fitted, kind):
    """−E log p by draws, against the same by quadrature."""
    axis = torch.linspace(-8, 8, 801)
    grid = torch.cartesian_prod(axis, axis)
    log_p = fitted[kind].log_prob(grid)
    wanted = -(log_p.exp() * log_p).sum().item() * (axis[1] - axis[0]).item() ** 2
    drawn = fitted[kind].log_prob(fitted[kind].sample(20_000, seed=5))
    error = drawn.std().item() / math.sqrt(len(drawn))
    assert -drawn.mean().item() == pytest.approx(wanted, abs=5 * error + 0.005)


@pytest.mark.parametrize("components", [1, 4])
def test_a_mixture_is_scikit_learns(components):
    z = ring(500)
    ours = priors.Mixture(components).fit(z, seed=7)
    theirs = GaussianMixture(components, random_state=7).fit(z.double().numpy())
    points = torch.randn(50, 2) * 3
    wanted = torch.from_numpy(theirs.score_samples(points.double().numpy()))
    torch.testing.assert_close(ours.log_prob(points), wanted)
    weights, means, covariances = map(
        torch.from_numpy, (theirs.weights_, theirs.means_, theirs.covariances_)
    )
    torchs = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    torch.testing.assert_close(ours.log_prob(points), torchs.log_prob(points.double()))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.2, 3), st.floats(-2, 2))
def test_matching_learns_the_velocity_that_is_known(seed, scale, shift):
    """From noise to N(m, s²) in one dimension, E[z − noise | place] is linear in the place."""
    generator = torch.Generator().manual_seed(seed)
    prior = priors.FlowMatching(width=8)
    prior.shift, prior.scale = torch.zeros(1), torch.ones(1)

    def exact(place, time):
        variance = (1 - time) ** 2 + (time * scale) ** 2
        slope = (time * scale**2 - (1 - time)) / variance
        return shift + slope * (place - time * shift)

    prior.network = exact
    drawn = prior.sample(4000, seed=seed % 2**31, steps=100)
    assert drawn.mean().item() == pytest.approx(shift, abs=0.1 * scale)
    assert drawn.std().item() == pytest.approx(scale, rel=0.06)
    z = shift + scale * torch.randn(20_000, 1, generator=generator)
    with torch.no_grad():
        noise_left = prior.loss(exact, z).item()
    time = (np.arange(2000) + 0.5) / 2000
    least = (scale**2 / ((1 - time) ** 2 + (time * scale) ** 2)).mean()  # Var[z − noise | place]
    assert noise_left == pytest.approx(least, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_repeat_by_seed_and_leave_the_callers_numbers_alone(fitted, kind):
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = (fitted[kind].sample(7, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    KINDS[kind](ring(200))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_fits_repeat(kind):
    pytest.importorskip("zuko")
    one, two = (KINDS[kind](ring(300)).sample(5) for _ in range(2))
    assert torch.equal(one, two)


class TestSubspace:
    """A prior for some dimensions, N(0, 1) for the others."""

    def test_densities_add(self):
        z = ring()
        prior = priors.Subspace(FIRST, priors.Mixture(3)).fit(z, seed=4)
        alone = priors.Mixture(3).fit(z[:, :1], seed=4)
        wanted = alone.log_prob(z[:, :1]) + Normal(0, 1).log_prob(z[:, 1])
        torch.testing.assert_close(prior.log_prob(z), wanted)

    def test_draws_are_fitted_here_and_normal_there(self):
        prior = priors.Subspace(~FIRST, priors.Mixture(4)).fit(ring())
        drawn = prior.sample(20_000, seed=1)
        mixture = prior.prior.mixture
        mean = mixture.weights_ @ mixture.means_[:, 0]
        assert drawn[:, 1].mean().item() == pytest.approx(mean, abs=0.03)
        assert drawn[:, 0].mean().item() == pytest.approx(0, abs=0.03)
        assert drawn[:, 0].std().item() == pytest.approx(1, abs=0.03)
        assert abs(drawn.T.corrcoef()[0, 1].item()) < 0.03

    @pytest.mark.parametrize("kind", ["list", "numpy"])
    def test_masks_are_what_diagnose_gives(self, kind):
        mask = [True, False] if kind == "list" else np.array([True, False])
        how = dict(steps=5, progress=False)
        prior = priors.Subspace(mask, priors.FlowMatching(8)).fit(ring(50), **how)
        assert prior.sample(3, steps=2).shape == (3, 2)


class TestInAModel:
    """Priors in the place of N(0, I)."""

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(8,))

    def test_samples_are_decoded_draws(self, model):
        class Fixed:
            def sample(self, n, seed=0):
                return torch.full((n, 2), 0.5)

        wanted = vb.decode(model, torch.full((3, 2), 0.5))
        torch.testing.assert_close(model.sample(3, prior=Fixed()), wanted)

    def test_samples_follow_the_callers_seed(self, model):
        prior = priors.Mixture(1).fit(ring(100))
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(model.sample(4, prior=prior))
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])

    def test_log_likelihood_is_that_of_quadrature(self, model):
        """log ∫ p(x|z) p(z) dz on a grid of codes, for N(0, I) and a Gaussian that is not it."""
        x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)).round()
        prior = priors.Mixture(1).fit(0.5 * ring(500) - 0.3)
        moments = (prior.mixture.means_[0], prior.mixture.covariances_[0])
        gaussian = MultivariateNormal(*map(torch.from_numpy, moments))
        axis = torch.linspace(-9, 9, 361)
        grid = torch.cartesian_prod(axis, axis)
        with torch.no_grad():
            logits = model.eval().decode(grid)
            fits = -torch.nn.functional.binary_cross_entropy_with_logits(
                logits[:, None].expand(-1, 6, -1, -1, -1), x.expand(len(grid), -1, -1, -1, -1),
                reduction="none",
            ).sum((2, 3, 4)).double()  # fmt: skip
        cell = 2 * math.log((axis[1] - axis[0]).item())
        for given_prior, density in [
            (None, Normal(0, 1).log_prob(grid).sum(1).double()),
            (prior, gaussian.log_prob(grid.double())),
        ]:
            wanted = (fits + density[:, None]).logsumexp(0) + cell
            found = vb.log_likelihood(model, x, draws=40_000, prior=given_prior, progress=False)
            np.testing.assert_allclose(found.per_image, wanted.numpy(), atol=0.05)


def test_what_does_not_fit_is_said_in_a_sentence():
    z = torch.randn(10, 3)
    bad = z.clone()
    bad[2, 1] = math.nan
    flat = torch.randn(50, 1).expand(-1, 3)
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(8,))
    for fit, argument in [
        (lambda: priors.Mixture(0), "components: expected a positive whole number"),
        (lambda: priors.Mixture(11).fit(z), "z: expected at least 11 codes, for components=11"),
        (lambda: priors.Mixture(1).fit(z[:3]), "z: expected at least 4 codes, .* 3 dimensions"),
        (lambda: priors.Mixture(1).fit(bad), "z: expected finite codes, got 1 of 10"),
        (lambda: priors.Mixture(1).fit(z[0]), r"z: expected codes of shape \[codes, latent\]"),
        (lambda: priors.Mixture(1).fit(z).log_prob(z[:, :2]), r"z: .* \[codes, 3\]"),
        (lambda: priors.Mixture(1).fit(z).sample(0), "n: expected a positive"),
        (lambda: priors.FlowMatching(width=0), "width: expected a positive"),
        (lambda: priors.FlowMatching().fit(bad, **QUICK), "z: expected finite codes"),
        (lambda: priors.FlowMatching().fit(z[:1], **QUICK), "z: expected two codes or more"),
        (lambda: priors.FlowMatching().fit(0 * z, **QUICK), "z: expected two codes or more"),
        (lambda: priors.FlowMatching().fit(z, steps=0), "steps: expected a positive"),
        (lambda: priors.FlowMatching().fit(z, lr=-1), "lr: expected a number above 0"),
        (lambda: priors.FlowMatching().fit(z, **QUICK).sample(3, steps=0), "steps: expected"),
        (lambda: priors.FlowMatching().sample(3), "fit"),
        (lambda: priors.Mixture().sample(3), "fit"),
        (lambda: priors.Mixture().log_prob(z), "fit"),
        (lambda: priors.Subspace(3, priors.Mixture()), "dimensions: expected a mask"),
        (lambda: priors.Subspace([0, 2], priors.Mixture()), "dimensions: expected a mask"),
        (
            lambda: priors.Subspace([False] * 3, priors.Mixture()),
            "dimensions: expected a mask that is true for one",
        ),
        (lambda: priors.Subspace(FIRST, priors.Mixture(1)).fit(z), r"z: .* \[codes, 2\]"),
        (lambda: priors.Subspace(FIRST, priors.Mixture), "prior: expected a prior such as"),
        (lambda: priors.Subspace(FIRST, priors.Mixture(1).fit(z)).sample(2), "prior: .* 1 dim"),
        (lambda: priors.Subspace(FIRST, priors.FlowMatching()).log_prob(z[:, :2]), "log_prob"),
        (lambda: priors.Mixture(1).fit(flat), "z: expected codes that fill all 3 dim.* 1 filled"),
        (lambda: priors.FlowMatching().fit(z, lr=1e30, **QUICK), "lr: expected a rate at which"),
        (lambda: model.sample(2, prior=priors.Mixture(1).fit(z)), "prior: expected one of 2 dim"),
    ]:
        with pytest.raises(ValueError, match=argument):
            fit()


def test_a_fit_that_fails_leaves_the_last_one():
    z, how = ring(100), dict(steps=5, progress=False)
    for prior in (priors.FlowMatching(8), priors.Mixture(2)):
        prior.fit(z, **how if isinstance(prior, priors.FlowMatching) else {})
        before = prior.sample(4)
        for wrong in (torch.ones(100, 2), torch.ones(100, 3), z * math.inf):
            with pytest.raises(ValueError, match="z: "):
                prior.fit(wrong)
        assert torch.equal(prior.sample(4), before)


def test_an_interrupted_fit_leaves_the_last_one(monkeypatch):
    prior = priors.FlowMatching(8).fit(ring(100), steps=5, progress=False)
    before = prior.sample(4)
    steps = iter(range(3))
    loss = priors.FlowMatching.loss

    def interrupted(self, network, codes):
        if next(steps) == 2:
            raise KeyboardInterrupt
        return loss(self, network, codes)

    monkeypatch.setattr(priors.FlowMatching, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prior.fit(3 * ring(100), steps=5, progress=False)
    assert torch.equal(prior.sample(4), before)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_prior_is_fitted_whatever_is_around(around):
    wanted = priors.FlowMatching(8).fit(ring(100), steps=5, progress=False).sample(4)
    with around():
        found = priors.FlowMatching(8).fit(ring(100), steps=5, progress=False).sample(4)
    torch.testing.assert_close(found, wanted)


def test_numbers_of_another_default_kind_are_float32():
    torch.set_default_dtype(torch.float64)
    try:
        for prior in (priors.Mixture(2), priors.FlowMatching(8)):
            how = dict(steps=5, progress=False) if isinstance(prior, priors.FlowMatching) else {}
            whole = priors.Subspace([True, True], prior).fit(ring(100), **how)
            assert whole.sample(3).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_priors_without_a_density_and_models_of_several_levels_are_refused():
    data = vb.load("digits").binarized()
    ladder = vb.ladder_vae((1, 8, 8), latent_dims=(2, 2), hidden=(8, 8))
    prior = priors.Mixture(1).fit(torch.randn(10, 2))
    with pytest.raises(ValueError, match="prior: expected one with log_prob, for a model"):
        vb.log_likelihood(ladder, data.test[:2], draws=2, prior=prior, progress=False)
    matching = priors.FlowMatching(width=8).fit(torch.randn(20, 2), steps=1, progress=False)
    model = vb.dense_vae((1, 8, 8), latent_dim=2)
    with pytest.raises(ValueError, match="prior: expected one with log_prob"):
        vb.log_likelihood(model, data.test[:2], draws=2, prior=matching, progress=False)
