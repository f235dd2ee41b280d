import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, kl_divergence
from torch.distributions import Normal as Gaussian

import vaebook as vb
from vaebook.models.ladder import Normal, combine, kl_normal

IMAGES = (torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
SIZES = (5, 4, 3)
moments = st.floats(-3, 3)


def ladder(latent_dims=SIZES, **options):
    torch.manual_seed(0)
    return vb.ladder_vae((1, 8, 8), latent_dims, hidden=(20, 16, 12)[: len(latent_dims)], **options)


def trained(latent_dims=SIZES):
    """A ladder whose levels differ more from each other than at the start."""
    model = ladder(latent_dims)
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]:
        norm.running_mean.normal_()
    for layer in [*model.encoder.heads, *(network[1] for network in model.decoder.networks)]:
        layer.weight.data *= 3
    return model.eval()


def distribution(normal):
    return Gaussian(normal.mean, (0.5 * normal.log_var).exp())


def normal(mean, log_var):
    return Normal(torch.full((1, 1), mean).double(), torch.full((1, 1), log_var).double())


@given(moments, moments, moments, moments)
def test_kl_against_torch(mean, log_var, other_mean, other_log_var):
    q, p = normal(mean, log_var), normal(other_mean, other_log_var)
    torch.testing.assert_close(kl_normal(q, p), kl_divergence(distribution(q), distribution(p)))
    standard = normal(0.0, 0.0)
    torch.testing.assert_close(kl_normal(q, standard), vb.kl_per_dimension(*q))


@given(moments, moments, moments, moments)
def test_combining_is_the_product_of_densities(mean, log_var, other_mean, other_log_var):
    q, p = normal(mean, log_var), normal(other_mean, other_log_var)
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    log_product = distribution(q).log_prob(grid[:, None]) + distribution(p).log_prob(grid[:, None])
    weights = log_product.flatten().softmax(0)
    expected_mean = weights @ grid
    expected_variance = weights @ (grid - expected_mean).square()
    combined = combine(q, p)
    assert combined.mean.item() == pytest.approx(expected_mean.item(), abs=1e-6)
    assert combined.log_var.exp().item() == pytest.approx(expected_variance.item(), rel=1e-6)


def test_combining_bears_extreme_precisions():
    sharp = Normal(torch.tensor([[1.0]]), torch.tensor([[-200.0]]))
    broad = Normal(torch.tensor([[5.0]]), torch.tensor([[200.0]]))
    for combined in (combine(sharp, broad), combine(broad, sharp)):
        assert combined.mean.item() == 1
        assert combined.log_var.item() == -200


@torch.no_grad()
def test_a_block_adds_its_second_layer_to_its_first():
    block = trained().encoder.blocks[1]
    x = torch.randn(4, 20)
    (first, norm), (second, other_norm) = block.first, block.second
    h = F.leaky_relu(norm(x @ first.weight.T))
    torch.testing.assert_close(block(x), F.leaky_relu(h + other_norm(h @ second.weight.T)))


def by_hand(model, x, codes):
    """Return each level's posterior and prior, and p(x|z), at given codes, from the networks."""
    h, said, levels, expected = x.flatten(1), [], [], None
    for block, head in zip(model.encoder.blocks, model.encoder.heads, strict=True):
        h = block(h)
        said.append(head(h).chunk(2, 1))
    for (mean, log_var), z, network in reversed(
        [*zip(said, codes, model.decoder.networks, strict=True)]
    ):
        if expected is None:
            prior = Gaussian(torch.zeros_like(mean), torch.ones_like(mean))
            posterior = Gaussian(mean, (log_var / 2).exp())
        else:
            prior_mean, prior_log_var = expected.chunk(2, 1)
            prior = Gaussian(prior_mean, (prior_log_var / 2).exp())
            precisions = 1 / log_var.exp(), 1 / prior_log_var.exp()
            middle = (mean * precisions[0] + prior_mean * precisions[1]) / sum(precisions)
            posterior = Gaussian(middle, sum(precisions).rsqrt())
        levels.insert(0, (posterior, prior))
        expected = network(z)
    return levels, Bernoulli(logits=expected)


@torch.no_grad()
@pytest.mark.parametrize("latent_dims", [(3,), (4, 2), SIZES])
def test_densities_of_draws_level_by_level(latent_dims):
    model = trained(latent_dims)
    draws = model.draw(IMAGES, 4)
    assert draws.z.shape == (4, 6, sum(latent_dims))
    for k in range(4):
        z = draws.z[k].split(latent_dims, 1)
        levels, pixels = by_hand(model, IMAGES, z)
        prior = sum(p.log_prob(code).sum(1) for (_, p), code in zip(levels, z, strict=True))
        posterior = sum(q.log_prob(code).sum(1) for (q, _), code in zip(levels, z, strict=True))
        torch.testing.assert_close(draws.prior[k], prior)
        torch.testing.assert_close(draws.posterior[k], posterior)
        likelihood = Independent(pixels, 3).log_prob(IMAGES)
        torch.testing.assert_close(draws.likelihood[k], likelihood)


@torch.no_grad()
def test_kls_against_torch_and_by_level():
    model = trained()
    output = model(IMAGES)
    levels, pixels = by_hand(model, IMAGES, output.z.split(SIZES, 1))
    expected = torch.cat([kl_divergence(q, p) for q, p in levels], 1)
    assert output.kls.shape == (6, sum(SIZES))
    torch.testing.assert_close(output.kls, expected)
    torch.testing.assert_close(output.params, pixels.logits)
    terms = vb.NegativeELBO(beta=0.5)(model, IMAGES)
    torch.testing.assert_close(terms.loss, terms.reconstruction + 0.5 * terms.kl)


@torch.no_grad()
def test_the_kl_of_each_level_adds_up_to_that_of_the_elbo():
    model = ladder()
    kls = vb.kl_per_level(model, IMAGES, seed=3)
    assert kls.shape == (3,)
    assert (kls > 0).all()
    assert model.training
    assert kls.sum() == pytest.approx(vb.evaluate(model, IMAGES, seed=3)["kl"], rel=1e-6)
    np.testing.assert_array_equal(kls, vb.kl_per_level(model, IMAGES, seed=3))


@torch.no_grad()
def test_one_level_is_a_vae():
    model = ladder((3,)).eval()
    mean, log_var = model.encode(IMAGES)
    output = model(IMAGES)
    torch.testing.assert_close(output.kls, vb.kl_per_dimension(mean, log_var))
    torch.testing.assert_close(output.params, model.decode(output.z))
    expected = vb.VAE.reconstruct(model, IMAGES)
    torch.testing.assert_close(model.reconstruct(IMAGES), expected)


@torch.no_grad()
@pytest.mark.parametrize("latent_dims", [(3,), SIZES])
def test_log_weights_average_to_the_elbo(latent_dims):
    """The sampled densities and the analytic KL are two ways to the same bound."""
    model, draws = trained(latent_dims), 20_000
    torch.manual_seed(1)
    log_weights = model.draw(IMAGES[:1], draws).log_weights[:, 0]
    losses = vb.NegativeELBO()(model, IMAGES[:1].expand(draws, -1, -1, -1)).loss
    error = math.sqrt((log_weights.var() + losses.var()) / draws)
    assert -log_weights.mean().item() == pytest.approx(losses.mean().item(), abs=5 * error)
    assert error < 0.2


class Affine(nn.Module):
    """Means linear in what comes in, variances the same for all, as one tensor or as two."""

    def __init__(self, weight, bias, log_var, join=False):
        super().__init__()
        self.weight, self.bias, self.log_var = map(nn.Parameter, (weight, bias, log_var))
        self.join = join

    def forward(self, x):
        mean = x.flatten(1) @ self.weight.T + self.bias
        moments = mean, self.log_var.expand_as(mean)
        return torch.cat(moments, 1) if self.join else moments


def linear_gaussian(seed):
    """A ladder of two linear levels in double precision, its log p(x), and images drawn from it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    lower, upper, pixels, sigma = 3, 2, 6, 0.7
    W, b, A, a = draw(pixels, lower), draw(pixels), draw(lower, upper), draw(lower)
    log_var = 0.3 * draw(lower)
    model = vb.ladder_vae((1, 2, 3), (lower, upper), hidden=(2, 2), likelihood=fixed(sigma))
    last = nn.Sequential(nn.Linear(lower, pixels), nn.Unflatten(1, (1, 2, 3))).double()
    last[0].weight.data, last[0].bias.data = W, b
    model.decoder.networks = nn.ModuleList([last, Affine(A, a, log_var, join=True)])
    prior = MultivariateNormal(a, A @ A.T + log_var.exp().diag())
    noise = sigma**2 * torch.eye(pixels).double()
    evidence = MultivariateNormal(W @ a + b, W @ prior.covariance_matrix @ W.T + noise)
    # What the image says of z_1 is its likelihood, without the prior; of z_2, by regression.
    gram = W.T @ W / sigma**2
    to_lower = torch.linalg.solve(gram, W.T) / sigma**2
    to_upper = (W @ A).T @ torch.linalg.inv(evidence.covariance_matrix)
    spread = torch.eye(upper).double() - to_upper @ W @ A
    weight = torch.cat([to_lower, to_upper])
    bias = -torch.cat([to_lower @ b, to_upper @ evidence.mean])
    broad = torch.cat([torch.linalg.inv(gram).diag(), spread.diag()]).log() + 0.2
    model.encoder = Affine(weight, bias, broad)
    return (
        model.double().eval(),
        evidence,
        evidence.mean + draw(4, pixels) @ torch.linalg.cholesky(evidence.covariance_matrix).T,
    )


def fixed(sigma):
    likelihood = vb.likelihoods.Gaussian(sigma=sigma).double()
    likelihood.log_sigma.fill_(math.log(sigma))
    return likelihood


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_importance_sampling_finds_the_exact_evidence_of_a_linear_ladder(seed):
    model, evidence, x = linear_gaussian(seed)
    exact, draws = evidence.log_prob(x), 100_000
    torch.manual_seed(seed)
    log_weights = model.draw(x.unflatten(1, (1, 2, 3)), draws).log_weights
    bound = vb.importance_bound(log_weights)
    weights = (log_weights - bound).exp()  # of mean 1
    error = weights.std(0) / math.sqrt(draws)
    assert (error < 0.1).all()
    assert ((bound - exact).abs() < 5 * error + 0.01).all()
    elbo = log_weights.mean(0)
    assert (elbo + 5 * log_weights.std(0) / math.sqrt(draws) < exact).all()


@torch.no_grad()
def test_upper_codes_are_kept_and_lower_ones_redrawn():
    model = trained().train()  # which is left as it is
    for keep in range(4):
        images = model.variations(IMAGES, keep=keep, n=3)
        assert images.shape == (6, 3, 1, 8, 8)
        assert 0 <= images.min() <= images.max() <= 1
        assert images[:, 0].equal(images[:, 1]) == (keep == 3)
    assert model.training
    again = model.variations(IMAGES[2:3], keep=3, n=1)
    torch.testing.assert_close(again[:, 0], images[2:3, 0])
    torch.testing.assert_close(model.reconstruct(IMAGES), images[:, 1])
    # With the top alone kept, what is drawn goes by q(z_L|x)'s mean.
    torch.manual_seed(2)
    redrawn = model.variations(IMAGES, keep=1, n=1)[:, 0]
    torch.manual_seed(2)
    model.eval()
    torch.testing.assert_close(redrawn, model.decode(model.encode(IMAGES)[0]).sigmoid())


@torch.no_grad()
def test_reconstruction_decodes_the_means_of_all_levels():
    model = trained()
    codes = [torch.zeros(6, n) for n in SIZES]
    for i in reversed(range(len(SIZES))):
        levels, pixels = by_hand(model, IMAGES, codes)
        codes[i] = levels[i][0].mean
    levels, pixels = by_hand(model, IMAGES, codes)
    torch.testing.assert_close(model.reconstruct(IMAGES), pixels.probs)


@torch.no_grad()
def test_codes_are_those_of_the_top():
    model = trained()
    mean, log_var = model.encode(IMAGES)
    assert model.latent_dim == 3
    assert model.latent_dims == SIZES
    assert mean.shape == log_var.shape == (6, 3)
    assert model.decode(mean).shape == (6, 1, 8, 8)
    assert not model.decode(mean).equal(model.decode(mean))
    assert model.sample(5).shape == (5, 1, 8, 8)
    assert vb.embed(model, IMAGES).shape == (6, 3)
    assert vb.decode(model, vb.sample_prior(model, 5)).shape == (5, 1, 8, 8)


@torch.no_grad()
def test_a_ladder_comes_back_from_its_file(tmp_path):
    model = ladder(activation="gelu", likelihood="continuous_bernoulli")
    model(IMAGES)  # moves the running statistics of batch norm
    vb.save(model, tmp_path / "ladder.safetensors")
    again = vb.load_model(tmp_path / "ladder.safetensors")
    assert isinstance(again, vb.LadderVAE)
    assert again.config == model.config
    assert again.latent_dims == model.latent_dims
    model.eval()
    torch.manual_seed(1)
    expected = model(IMAGES)
    torch.manual_seed(1)
    output = again(IMAGES)
    assert output.params.equal(expected.params)
    assert output.kls.equal(expected.kls)
    assert again.reconstruct(IMAGES).equal(model.reconstruct(IMAGES))  # by its likelihood


def test_the_summary_has_every_parameter():
    model = ladder()
    summary = vb.summary(model)
    parts = {id(m): m for m in model.modules() if not any(m.children())}
    assert summary.parameters == sum(p.numel() for m in parts.values() for p in m.parameters())
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert summary.layers[-1].output == (1, 8, 8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss_and_uses_the_warm_up(precision):
    data = vb.load("digits").binarized()
    torch.manual_seed(0)
    model = vb.ladder_vae(data.image_shape, (8, 4), hidden=(64, 32))
    before = vb.evaluate(model, data.test)["loss"]
    warm = vb.NegativeELBO(schedule=vb.Warmup(end=0.5))
    shared = dict(objective=warm, precision=precision, progress=False, device="cpu")
    history = vb.fit(
        model, data.train, epochs=2, lr=3e-3, validation=data.test, snapshots=2, **shared
    )
    rows = history.frame[history.frame.split == "train"]
    assert rows.beta.iloc[0] < rows.beta.iloc[1] == 1
    assert history.last()["loss"] < 0.8 * before
    assert len(history.snapshots) == 2
    assert all(p.dtype == torch.float32 for p in model.parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        output = model(data.test.pixels[:5].float() / 255)
    assert {part.dtype for part in (output.z, output.kls, output.params)} == {torch.float32}


def test_several_draws_can_be_trained_on():
    model = ladder()
    terms = vb.ImportanceWeighted(draws=4)(model, IMAGES)
    terms.loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    found = vb.log_likelihood(model, IMAGES, draws=30, progress=False)
    assert found.per_image.shape == (6,)


def test_draws_refuse_a_gradient_for_one_level():
    objective = vb.ImportanceWeighted(draws=2, doubly_reparameterized=True)
    with pytest.raises(ValueError, match=r"^path_only: expected False"):
        objective(ladder(), IMAGES)


@pytest.mark.parametrize(
    "use", [lambda m, x: m(x), lambda m, x: m.draw(x, 2), lambda m, x: m.reconstruct(x)]
)
def test_other_images_are_refused(use):
    with pytest.raises(ValueError, match=r"^x: expected .*\[batch, 1, 8, 8\], got "):
        use(ladder(), torch.rand(2, 1, 9, 8))


@pytest.mark.parametrize("keep", [-1, 4])
def test_only_levels_that_are_there_can_be_kept(keep):
    with pytest.raises(ValueError, match=rf"^keep: expected 0 to 3 levels, got {keep}"):
        ladder().variations(IMAGES, keep=keep)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_shape": (28, 28)}, "image_shape"),
        ({"latent_dims": ()}, "hidden"),
        ({"latent_dims": (), "hidden": ()}, "levels"),
        ({"latent_dims": (8, 0, 2, 1)}, r"latent_dims\[1\]"),
        ({"hidden": (8, 4, 2.5, 1)}, r"hidden\[2\]"),
        ({"hidden": (512, 256)}, "hidden: expected one for each of 4 levels, got 2"),
        ({"activation": "swish"}, "activation"),
        ({"likelihood": "bernouli"}, "likelihood"),
    ],
)
def test_the_builder_refuses_what_cannot_be_built(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}") as error:
        vb.ladder_vae(**({"image_shape": (1, 28, 28)} | arguments))
    assert "\n" not in str(error.value)
