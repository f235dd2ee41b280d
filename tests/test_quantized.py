"""The VQ-VAE and the prior of its words against loops, enumeration and finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vaebook as vb
from vaebook.models import quantized
from vaebook.models.quantized import Codebook
from vaebook.priors import Autoregressive

QUICK = dict(batch_size=64, lr=1e-2, progress=False)


def tiny(words=2, **options):
    """A VQ-VAE of 2×2 words for images of 8×8 pixels, in eval mode."""
    torch.manual_seed(0)
    return vb.vq_vae((1, 8, 8), codebook=words, width=4, dim=3, **options).eval()


def codes_of(words, places=4):
    """All codes that there are."""
    return torch.tensor(list(itertools.product(range(words), repeat=places))).float()


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_the_nearest_word_is_that_of_the_least_distance(words, dim, seed):
    torch.manual_seed(seed)
    codebook, h = Codebook(words, dim, (2, 3)), torch.randn(5, 6, dim)
    distances = np.linalg.norm(h.numpy()[:, :, None] - codebook.vectors.numpy(), axis=-1)
    found = np.take_along_axis(distances, codebook.nearest(h).numpy()[:, :, None], 2)[:, :, 0]
    np.testing.assert_allclose(found, distances.min(2), rtol=1e-5, atol=1e-6)


def test_vectors_become_the_means_of_their_outputs(monkeypatch):
    monkeypatch.setattr(quantized, "DEAD", 0.0)
    torch.manual_seed(0)
    codebook = Codebook(3, 2, (1, 4))
    counts, sums = np.ones(3), codebook.vectors.numpy().astype(float).copy()
    for _ in range(5):
        h = torch.randn(6, 4, 2)
        words = codebook.nearest(h)
        codebook.learn(h, words)
        for word in range(3):
            mine = (words == word).numpy()
            counts[word] += 0.05 * (mine.sum() / 6 - counts[word])
            sums[word] += 0.05 * (h.numpy()[mine].sum(0) / 6 - sums[word])
    np.testing.assert_allclose(codebook.counts.numpy(), counts, rtol=1e-5)
    np.testing.assert_allclose(codebook.vectors.numpy(), sums / counts[:, None], rtol=1e-4)


def test_a_word_that_is_not_used_takes_half_of_the_most_frequent():
    torch.manual_seed(0)
    codebook = Codebook(4, 2, (1, 6))
    codebook.counts.copy_(torch.tensor([3.0, 0.01, 2.0, 1.0]))
    codebook.sums.copy_(codebook.vectors * codebook.counts[:, None])
    old, spread = codebook.vectors[0].clone(), codebook.vectors.std(0)
    h = codebook.vectors[torch.tensor([[0, 0, 0, 2, 2, 3]])]
    codebook.learn(h, torch.tensor([[0, 0, 0, 2, 2, 3]]))
    assert codebook.counts.sum() == pytest.approx(6, abs=0.01)
    assert codebook.counts[0] == codebook.counts[1] == pytest.approx(1.5, abs=0.01)
    two = codebook.vectors[:2]
    torch.testing.assert_close(two.mean(0), old, rtol=0, atol=1e-5)
    torch.testing.assert_close((two[0] - two[1]).abs(), 0.02 * spread, rtol=1e-2, atol=1e-5)


def test_all_words_are_used_only_where_dead_ones_are_revived(monkeypatch):
    data, used = vb.load("digits"), []
    for dead in (0.0, quantized.DEAD):
        monkeypatch.setattr(quantized, "DEAD", dead)
        torch.manual_seed(0)
        model = vb.vq_vae(data.image_shape, codebook=32, width=8)
        vb.fit(model, data.train, epochs=6, batch_size=32, lr=4e-3, progress=False)
        counts = np.bincount(vb.embed(model, data.test).astype(int).ravel(), minlength=32)
        used.append((counts > 0).mean())
    assert used[1] > 0.8 > used[0] + 0.2


def test_the_gradient_goes_straight_through_and_the_commitment_is_added():
    model, x = tiny(words=5, commitment=0.7), torch.rand(3, 1, 8, 8)
    h = model.encoder(x).detach().requires_grad_()
    model.encoder = nn.Sequential(Given(h))
    output = model(x)
    vectors = model.codebook(output.z).detach().requires_grad_()
    fits = model.likelihood.log_prob(model.decoder[1:](vectors), x).sum()
    (wanted,) = torch.autograd.grad(fits, vectors)
    likelihood = model.likelihood.log_prob(output.params, x).sum()
    (found,) = torch.autograd.grad(likelihood, h, retain_graph=True)
    torch.testing.assert_close(found, wanted)
    (found,) = torch.autograd.grad(output.kls.sum(), h)
    torch.testing.assert_close(found, 2 * 0.7 * (h - vectors).detach())
    torch.testing.assert_close(output.kls, torch.full((3, 4), math.log(5)))


class Given(nn.Module):
    """A network that returns what it was given."""

    def __init__(self, h):
        super().__init__()
        self.h = h

    def forward(self, x):
        return self.h


def test_the_bound_is_below_log_p_of_enumeration_by_what_the_other_codes_have():
    model, x = tiny(words=3), torch.rand(6, 1, 8, 8).round()
    with torch.no_grad():
        params = model.decode(codes_of(3))
        joint = torch.stack(
            [model.likelihood.log_prob(params, one.expand(81, 1, 8, 8)) for one in x]
        )
    joint = joint.double() - 4 * math.log(3)  # log p(x, z), [images, codes]
    own = (codes_of(3) == model.encode(x)[0][:, None]).all(2)
    bound = vb.log_likelihood(model, x, draws=7, progress=False).per_image
    np.testing.assert_allclose(bound, joint[own].numpy(), rtol=1e-6)
    gap = joint.logsumexp(1).numpy() - bound  # KL(q(z|x) ‖ p(z|x)) = -log p(its code|x)
    assert (gap > 0).all()
    posterior = joint.softmax(1)[own].log().numpy()
    np.testing.assert_allclose(gap, -posterior, rtol=1e-6)
    row = vb.evaluate(model, x)
    assert row["loss"] == pytest.approx(-bound.mean(), rel=1e-5)
    assert row["kl"] == pytest.approx(4 * math.log(3), rel=1e-6)


@pytest.fixture(scope="module")
def prior():
    """A prior of 2×2 of 3 words, and its codes, of which the last word is always the first."""
    z = torch.randint(3, (3000, 4), generator=torch.Generator().manual_seed(0))
    z[:, 3] = z[:, 0]
    return Autoregressive((2, 2), 3, width=32).fit(z, steps=400, **QUICK), z


def test_probabilities_of_all_codes_sum_to_one(prior):
    chances = prior[0].log_prob(codes_of(3)).exp()
    assert chances.sum().item() == pytest.approx(1, abs=1e-6)
    # 27 codes have one chance in 27 each, for none other can be.
    assert chances[codes_of(3)[:, 3] == codes_of(3)[:, 0]].sum() > 0.99
    assert -prior[0].log_prob(prior[1]).mean() == pytest.approx(math.log(27), abs=0.03)


def test_each_conditional_is_the_ratio_of_sums_over_codes(prior):
    z, chances = codes_of(3), prior[0].log_prob(codes_of(3)).exp()
    for place in range(4):
        found = prior[0].conditional(z, place)
        for row, code in enumerate(z):
            agrees = (z[:, :place] == code[:place]).all(1)
            for word in range(3):
                both = agrees & (z[:, place] == word)
                wanted = chances[both].sum() / chances[agrees].sum()
                assert found[row, word].item() == pytest.approx(wanted.item(), abs=1e-5)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=20)
def test_later_words_change_nothing_and_near_ones_do(rows, columns, reach, seed):
    torch.manual_seed(seed)
    places, words = rows * columns, 4
    network = Autoregressive((rows, columns), words, reach=reach, width=8).build(places)
    z = torch.randint(words, (1, places))
    for place in range(places):
        changed = z.clone()
        changed[0, place] = (changed[0, place] + 1) % words
        moved = (network(z) != network(changed))[0].any(1)
        for other in range(places):
            down = other // columns - place // columns
            right = other % columns - place % columns
            sees = (0 < down <= reach and abs(right) <= reach) or (down == 0 < right <= reach)
            assert moved[other] == sees


def test_draws_come_as_often_as_their_probability(prior):
    drawn = prior[0].sample(20_000, seed=1)
    index = (drawn @ torch.tensor([27.0, 9.0, 3.0, 1.0])).long()
    shares = torch.bincount(index, minlength=81) / len(drawn)
    assert (shares - prior[0].log_prob(codes_of(3)).exp()).abs().sum() < 0.05  # noise has 0.03
    assert torch.equal(drawn, prior[0].sample(20_000, seed=1))
    assert not torch.equal(drawn, prior[0].sample(20_000, seed=2))


def test_the_prior_pays_for_the_words(prior):
    model, x = tiny(words=3), torch.rand(50, 1, 8, 8).round()
    fits = -vb.evaluate(model, x)["reconstruction"]
    found = vb.log_likelihood(model, x, prior=prior[0], draws=2, progress=False)
    wanted = fits + prior[0].log_prob(vb.embed(model, x)).mean().item()
    assert found.mean == pytest.approx(wanted, rel=1e-5)
    assert model.sample(5, prior=prior[0]).shape == (5, 1, 8, 8)


def test_it_trains_is_kept_and_goes_on(tmp_path):
    data = vb.load("digits")
    once, twice = (tmp_path / f"{name}.safetensors" for name in ("once", "twice"))
    losses = []
    for path, parts in ((once, (2,)), (twice, (1, 2))):
        for epochs in parts:
            torch.manual_seed(0)
            model = vb.vq_vae(data.image_shape, codebook=16, width=8)
            history = vb.fit(
                model, data.train, epochs=epochs, progress=False, checkpoint=path, resume=True,
                validation=data.test, snapshots=2,
            )  # fmt: skip
        losses.append(history.frame.loss.tolist())
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    vb.save(model, tmp_path / "model.safetensors")
    again = vb.load_model(tmp_path / "model.safetensors")
    assert torch.equal(vb.reconstruct(again, data.test), vb.reconstruct(model, data.test))
    assert torch.equal(
        vb.decode(model, vb.embed(model, data.test)), vb.reconstruct(model, data.test)
    )


def test_draws_from_the_prior_are_words_alike():
    model = tiny(words=5)
    z = vb.sample_prior(model, 4000, seed=1)
    shares = np.bincount(z.numpy().astype(int).ravel()) / z.numel()
    np.testing.assert_allclose(shares, 0.2, atol=0.02)
    assert torch.equal(z, z.round())
    posterior = vb.posterior(model, torch.rand(3, 1, 8, 8))
    assert (posterior.std == 0).all()


@pytest.mark.parametrize(("codes", "grid"), [(None, (7, 12)), ((14, 24), (14, 24))])
def test_grids_of_other_shapes(codes, grid):
    model = vb.vq_vae((3, 28, 48), codes, 16, width=8, residual=0)
    assert model.codebook.grid == grid
    assert model.sample(2).shape == (2, 3, 28, 48)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: vb.vq_vae((1, 30, 30)), "codes"),
        (lambda: vb.vq_vae((1, 28, 28), (7, 14)), "codes"),
        (lambda: vb.vq_vae((1, 28, 28), (28, 28)), "codes"),
        (lambda: vb.vq_vae((1, 28, 28), 7), "codes"),
        (lambda: vb.vq_vae((1, 28, 28), (0, 7)), "codes"),
        (lambda: vb.vq_vae((1, 28, 28), codebook=1), "codebook"),
        (lambda: vb.vq_vae((1, 28, 28), dim=0), "dim"),
        (lambda: vb.vq_vae((1, 28, 28), width=0), "width"),
        (lambda: vb.vq_vae((1, 28, 28), residual=-1), "residual"),
        (lambda: vb.vq_vae((1, 28, 28), residual=10**30), "residual"),
        (lambda: vb.conv_vae((1, 28, 28), 2, residual=10**30), "residual"),
        (lambda: vb.vq_vae((1, 28, 28), commitment=-1), "commitment"),
        (lambda: vb.decode(tiny(), torch.full((1, 4), 0.5)), "z"),
        (lambda: vb.decode(tiny(), torch.full((1, 4), 2.0)), "z"),
        (lambda: vb.decode(tiny(), torch.full((1, 4), math.nan)), "z"),
        (lambda: tiny()(torch.rand(1, 1, 9, 9)), "x"),
        (lambda: tiny().draw(torch.rand(1, 1, 8, 8), 2, path_only=True), "path_only"),
        (lambda: vb.diagnose(tiny(), torch.rand(9, 1, 8, 8)), "model"),
        (lambda: vb.traversal(tiny()), "model"),
        (lambda: vb.interpolate(tiny(), *torch.rand(2, 1, 8, 8)), "model"),
        (lambda: vb.sample_density(tiny(), torch.rand(20, 1, 8, 8)), "model"),
        (lambda: vb.vq_vae((1, 28, 28), (7.0, 7.0)), "codes"),
        (lambda: tiny(words=3).sample(2, prior=Autoregressive((2, 2), 3)), "prior"),
        (lambda: Autoregressive(4, 3), "grid"),
        (lambda: Autoregressive((2, 0), 3), "grid"),
        (lambda: Autoregressive("22", 3), "grid"),
        (lambda: Autoregressive((2, 2), 3, reach=0), "reach"),
        (lambda: Autoregressive((2, 2), 0), "codebook"),
        (lambda: Autoregressive((2, 2), 30).fit(torch.zeros(7, 4)), "z"),
        (lambda: Autoregressive((2, 2), 3).fit(torch.full((7, 4), 3.0)), "z"),
        (lambda: Autoregressive((2, 2), 3).fit(torch.full((7, 4), 0.5)), "z"),
        (lambda: Autoregressive((2, 2), 3).fit(torch.zeros(7, 5)), "z"),
        (lambda: Autoregressive((2, 2), 3).log_prob(torch.zeros(7, 4)), "prior"),
    ],
)
def test_errors_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected .*, got "):
        call()


@pytest.mark.parametrize("codes", [(7, 7), [7, 7], np.array([7, 7])])
def test_a_grid_may_be_any_row_of_two_numbers(codes):
    assert vb.vq_vae((1, 28, 28), codes, width=4).latent_dim == 49


def likelihood_under(other):
    return vb.log_likelihood(tiny(), torch.rand(2, 1, 8, 8), prior=other, progress=False)


@pytest.mark.parametrize(
    "other", [vb.priors.Mixture(1), Autoregressive((1, 4), 2), Autoregressive((2, 2), 3)]
)
def test_fitted_priors_of_other_codes_are_refused(other):
    z = torch.randint(2, (200, 4), generator=torch.Generator().manual_seed(0)).float()
    how = {} if isinstance(other, vb.priors.Mixture) else QUICK | {"steps": 2}
    other.fit(z, **how)
    for call in (lambda: tiny().sample(2, prior=other), lambda: likelihood_under(other)):
        with pytest.raises(ValueError, match=r"^prior: expected one of 2 words on a grid of"):
            call()


def test_distances_and_averages_are_exact_under_autocast():
    torch.manual_seed(0)
    codebook, h = Codebook(200, 8, (2, 3)), torch.randn(64, 6, 8)
    plain = Codebook(200, 8, (2, 3))
    plain.load_state_dict(codebook.state_dict())
    words = plain.nearest(h)
    plain.learn(h, words)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.nearest(h), words)
        codebook.learn(h, words)
    assert torch.equal(codebook.vectors, plain.vectors)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_words_survive_other_precisions(dtype):
    torch.manual_seed(0)
    model = vb.vq_vae((1, 8, 8), codebook=3000, width=4).eval().to(dtype)
    z = vb.sample_prior(model, 500)
    assert torch.equal(z, z.round())
    assert z.max() > 2900
    assert vb.decode(model, z).isfinite().all()
    x = torch.rand(20, 1, 8, 8, dtype=dtype)
    assert torch.equal(vb.posterior(model, x).mean.long(), model.quantize(x)[1])
    assert model.sample(5).dtype == dtype


def test_it_can_be_exported(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, x = tiny(words=5), torch.rand(3, 1, 8, 8)
    vb.export_onnx(model, tmp_path)
    session = runtime.InferenceSession(str(tmp_path / "reconstructor.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, vb.reconstruct(model, x).numpy(), atol=1e-4)


def test_a_place_that_is_none(prior):
    with pytest.raises(ValueError, match=r"^place: expected"):
        prior[0].conditional(codes_of(3), 4)
