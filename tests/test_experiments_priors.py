"""The experiment behind *A better prior*."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import vaebook as vb
from experiments import priors
from experiments.records import RESULTS


def vamp(kind=priors.VampVAE, pseudo_inputs=4):
    torch.manual_seed(0)
    networks = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(8,))
    return kind(networks, torch.rand(pseudo_inputs, 1, 4, 4)).eval()


def test_the_prior_of_a_vampprior_is_a_mixture_of_torchs():
    model, x = vamp(), torch.rand(5, 1, 4, 4).round()
    drawn = model.draw(x, 3)
    parts = Independent(model.components(), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(4)), parts)
    torch.testing.assert_close(drawn.prior, mixture.log_prob(drawn.z))


def test_the_likelihood_under_a_vampprior_is_that_of_quadrature():
    model, x = vamp(), torch.rand(5, 1, 4, 4).round()
    axis = torch.linspace(-8, 8, 401)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        logits = model.decode(grid)[:, None].expand(-1, 5, -1, -1, -1)
        fits = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum((2, 3, 4))
        parts = Independent(model.components(), 1)
        prior = MixtureSameFamily(Categorical(torch.ones(4)), parts).log_prob(grid)
    wanted = (fits + prior[:, None]).double().logsumexp(0) + 2 * math.log(
        (axis[1] - axis[0]).item()
    )
    found = vb.log_likelihood(model, x, draws=20_000, progress=False).per_image
    np.testing.assert_allclose(found, wanted.numpy(), atol=0.05)


def test_the_chapter_and_the_experiment_have_the_same_vampprior(definitions):
    there = definitions("a-better-prior")
    models = [vamp(priors.VampVAE), vamp(there["VampVAE"])]
    x, drawn, losses = torch.rand(5, 1, 4, 4).round(), [], []
    for model, objective in zip(models, [priors.SampledELBO(), there["sampled_elbo"]], strict=True):
        torch.manual_seed(2)
        drawn.append(model.draw(x, 3).prior)
        losses.append(objective(model, x).loss)
    torch.testing.assert_close(*drawn)
    torch.testing.assert_close(*losses)


def test_pseudo_inputs_learn():
    model = vamp()
    before = model.pseudo_logits.detach().clone()
    priors.SampledELBO()(model, torch.rand(5, 1, 4, 4).round()).loss.mean().backward()
    assert model.pseudo_logits.grad.abs().max() > 0
    vb.fit(
        model, torch.rand(20, 1, 4, 4).round(), epochs=1, batch_size=10,
        objective=priors.SampledELBO(), progress=False,
    )  # fmt: skip
    assert (model.pseudo_logits - before).abs().max() > 1e-4
    assert model.sample(3).shape == (3, 1, 4, 4)


def test_the_weight_of_the_kl_rises_to_1():
    weights = [priors.SampledELBO().at(done).weight for done in (0, 0.15, 0.3, 1)]
    assert weights == pytest.approx([0, 0.5, 1, 1])


def test_copies_are_the_aggregate_posterior_of_their_images():
    torch.manual_seed(0)
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(8,))
    images, z = torch.rand(6, 1, 4, 4), torch.randn(9, 2)
    mean, std = vb.posterior(model, images)
    wanted = Normal(mean, std).log_prob(z[:, None]).sum(2).exp().mean(1).log()
    found = priors.copies_log_prob(model, images, z)
    torch.testing.assert_close(found, wanted.double(), atol=1e-5, rtol=1e-5)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The experiment on small drawings with next to no steps."""
    pytest.importorskip("zuko")
    digits = vb.load("digits", image_size=16)
    monkeypatch.setattr(priors.vb, "load", lambda name: digits)
    monkeypatch.setattr(priors, "RUNS", tmp_path)
    monkeypatch.setattr(priors, "EPOCHS", {"mnist": 1})
    small = {"width": 4, "latent_dim": 4, "codes": 300, "judge_images": 300, "draws": 100}
    monkeypatch.setattr(priors, "FIDELITY", priors.FIDELITY | small)
    small = {"hidden": (16,), "latent_dim": 4, "epochs": 1, "codes": 300, "pseudo_inputs": 5}
    small |= {"draws": 3, "images": 20}
    monkeypatch.setattr(priors, "LIKELIHOOD", priors.LIKELIHOOD | small)
    steps = {name: {"steps": 3} for name in priors.STEPS}
    monkeypatch.setattr(priors, "STEPS", steps)
    monkeypatch.setattr(priors, "ACTIVE_ABOVE", 0.0)
    yield
    for kept in (
        priors.judge_of,
        priors.convolutional,
        priors.fitted_once,
        priors.dense,
        priors.log_likelihoods,
    ):
        kept.cache_clear()


def test_each_cell_of_a_data_set_is_measured(tiny):
    for prior in (*priors.FRAMES, *priors.PRIORS, *priors.FEWER_STEPS):
        row = priors.fidelity("mnist", 0, prior)
        assert 0 <= row["distance"] < math.inf
        has_density = prior in ("codes of images", *priors.PRIORS) and prior != "flow matching"
        assert isinstance(row["saved"], float) == has_density, prior


def test_gains_are_differences_of_what_is_measured(tiny):
    cells = [cell for cell in priors.PARTS["likelihood"][1] if cell["seed"] == 0]
    rows = {cell["prior"]: priors.likelihood(**cell) for cell in cells}
    for row in rows.values():
        assert row["gain"] == pytest.approx(rows["N(0, I)"]["nll"] - row["nll"], abs=0.002)


def test_what_is_done_is_left_alone(capsys):
    """In a clone, where there are no checkpoints, and without a change of the provenance."""
    before = (RESULTS / "priors.json").read_bytes()
    assert priors.main([]) == 0
    assert (RESULTS / "priors.json").read_bytes() == before
    assert priors.main(["--list"]) == 0
    assert "fidelity: 78 of 78 runs done\nlikelihood: 9 of 9" in capsys.readouterr().out


@pytest.mark.parametrize("part", priors.PARTS)
def test_nothing_is_missing(part):
    rows = vb.results(f"priors_{part}.csv").to_dict("records")
    cells = priors.PARTS[part][1]
    done = {tuple(row[key] for key in cells[0]) for row in rows}
    assert done == {tuple(cell.values()) for cell in cells}
    assert np.isfinite([row["distance" if part == "fidelity" else "nll"] for row in rows]).all()
