import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import geometric_slerp
from scipy.stats import norm
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb
from vaebook.sampling import spherical

torch.manual_seed(0)
MODEL = vb.conv_vae((1, 16, 16), latent_dim=4, width=2)
DATA = vb.load("digits", image_size=16)


def eval_pass(function, *arguments):
    MODEL.eval()
    with torch.no_grad():
        return function(*arguments)


def pixels(count):
    return DATA.test.pixels[:count].float() / 255


@given(st.integers(1, 12))
def test_quantiles_are_the_middles_of_equal_masses(steps):
    grid = vb.traversal(MODEL, steps=steps)
    expected = norm.ppf((np.arange(steps) + 0.5) / steps)
    np.testing.assert_allclose(grid.values, expected, rtol=1e-5, atol=1e-6)
    assert grid.images.shape == (steps, steps, 1, 16, 16)
    assert grid.spacing == "quantiles"


@given(st.integers(2, 12), st.floats(0.5, 10))
def test_equal_steps_run_from_limit_to_limit(steps, limit):
    grid = vb.traversal(MODEL, steps=steps, spacing="equal", limit=limit)
    expected = np.linspace(-limit, limit, steps)
    np.testing.assert_allclose(grid.values, expected, rtol=1e-5, atol=1e-5)


def test_the_grid_of_the_r_original_spans_eight():
    grid = vb.traversal(MODEL, spacing="equal")
    np.testing.assert_allclose(grid.values, np.linspace(-8, 8, 8), rtol=1e-6)
    assert grid.images.shape[:2] == (8, 8)


@pytest.mark.parametrize("dims", [(0, 1), (3, 1)])
def test_a_traversal_lies_as_a_plot_does(dims):
    grid = vb.traversal(MODEL, steps=3, spacing="equal", limit=2, dims=dims)
    for row, y in enumerate([2.0, 0.0, -2.0]):  # the largest value is at the top
        for column, x in enumerate([-2.0, 0.0, 2.0]):
            z = torch.zeros(1, 4)
            z[0, dims[0]], z[0, dims[1]] = x, y
            expected = eval_pass(MODEL.decode, z).sigmoid()[0]
            torch.testing.assert_close(grid.images[row, column], expected, rtol=1e-4, atol=1e-6)
    assert grid.dims == dims


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"spacing": "log"}, "spacing"),
        ({"dims": (0, 4)}, "dims"),
        ({"dims": (1, 1)}, "dims"),
        ({"dims": (-1, 0)}, "dims"),
    ],
)
def test_traversal_refuses(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}: expected .* got "):
        vb.traversal(MODEL, **arguments)


def test_one_latent_dimension_has_no_plane():
    with pytest.raises(ValueError, match=r"^dims: "):
        vb.traversal(vb.dense_vae((1, 4, 4), latent_dim=1, hidden=(3,)))


def test_interpolation_starts_and_ends_at_the_reconstructions():
    start, end = DATA.test[3], DATA.test[8]
    path = vb.interpolate(MODEL, start, end, steps=5)
    ends = vb.reconstruct(MODEL, DATA.test[[3, 8]])
    assert path.shape == (5, 1, 16, 16)
    torch.testing.assert_close(path[[0, -1]], ends, rtol=1e-4, atol=1e-6)
    middle = vb.embed(MODEL, DATA.test[[3, 8]]).mean(0, keepdims=True)
    expected = vb.decode(MODEL, torch.from_numpy(middle))
    torch.testing.assert_close(path[2:3], expected, rtol=1e-4, atol=1e-6)
    assert not path[0].equal(path[-1])
    assert len(vb.interpolate(MODEL, start, end)) == 11


@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 2**32))
def test_a_spherical_path_is_that_of_scipy_with_the_length_growing_evenly(dim, steps, seed):
    rng = np.random.default_rng(seed)
    first, last = rng.normal(size=(2, dim))
    lengths = np.linalg.norm(first), np.linalg.norm(last)
    share = np.linspace(0, 1, steps)
    arc = geometric_slerp(first / lengths[0], last / lengths[1], share)
    expected = arc * np.linspace(*lengths, steps)[:, None]
    both = (torch.tensor(end)[None] for end in (first, last))
    got = spherical(*both, torch.tensor(share)[:, None])
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0, 0.0, -1.0])
def test_between_codes_of_one_line_the_spherical_path_is_straight(factor):
    first = torch.tensor([[3.0, 4.0]])
    got = spherical(first, factor * first, torch.tensor([[0.0], [0.25], [1.0]]))
    shares = 1 + (factor - 1) * torch.tensor([[0.0], [0.25], [1.0]])
    torch.testing.assert_close(got, shares * first)


def test_both_paths_have_the_same_ends():
    model, (start, end) = vb.pretrained("mnist-32d"), (vb.load("digits").test[i] for i in (0, 1))
    straight, arc = (
        vb.interpolate(model, start, end, path=path) for path in ("straight", "spherical")
    )
    torch.testing.assert_close(straight[[0, -1]], arc[[0, -1]])
    assert (straight[5] - arc[5]).abs().max() > 1e-4


@pytest.mark.usefixtures("unchecked")
def test_interpolate_refuses():
    with pytest.raises(
        ValueError, match=r"^path: expected one of straight, spherical, got 'round'"
    ):
        vb.interpolate(MODEL, DATA.test[0], DATA.test[1], path="round")
    with pytest.raises(ValueError, match=r"^start, end: expected one image each, got 2 and 1"):
        vb.interpolate(MODEL, DATA.test[:2], DATA.test[0])
    with pytest.raises(ValueError, match=r"^steps: "):
        vb.interpolate(MODEL, DATA.test[0], DATA.test[1], steps=0)


def test_codes_are_those_of_one_pass_in_eval_mode():
    mean, log_var = eval_pass(MODEL.encode, pixels(297))
    MODEL.train()
    got = vb.posterior(MODEL, DATA.test)
    assert isinstance(got, vb.Posterior)
    torch.testing.assert_close(got.mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got.std, (log_var / 2).exp(), rtol=1e-4, atol=1e-6)
    codes = vb.embed(MODEL, DATA.test.pixels.numpy())
    assert isinstance(codes, np.ndarray)
    np.testing.assert_allclose(codes, mean, rtol=1e-4, atol=1e-6)
    expected = eval_pass(MODEL.decode, mean).sigmoid()
    torch.testing.assert_close(vb.reconstruct(MODEL, DATA.test), expected, rtol=1e-4, atol=1e-6)


def test_many_images_give_the_codes_of_few():
    codes = vb.embed(MODEL, DATA.train)
    np.testing.assert_allclose(codes[900:903], vb.embed(MODEL, DATA.train[900:903]), atol=1e-5)
    decoded = vb.decode(MODEL, torch.from_numpy(codes))
    few = vb.decode(MODEL, torch.from_numpy(codes[900:903]))
    torch.testing.assert_close(decoded[900:903], few, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("use", [vb.posterior, vb.embed, vb.reconstruct, vb.sample_posterior])
def test_a_data_loader_gives_what_its_images_give(use):
    for images in (
        DATA.test,
        TensorDataset(pixels(297)),
        TensorDataset(pixels(297), DATA.test.labels),
    ):
        expected = use(MODEL, DATA.test)
        got = use(MODEL, DataLoader(images, batch_size=64))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_a_data_loader_brings_its_labels():
    model = vb.conditional_vae((1, 16, 16), latent_dim=2, classes=10, hidden=(8,))
    got = vb.embed(model, DataLoader(DATA.test, batch_size=64))
    np.testing.assert_allclose(got, vb.embed(model, DATA.test), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"^labels: expected those of the images"):
        vb.embed(model, DataLoader(TensorDataset(pixels(9))))


def test_the_prior_is_standard_normal_and_comes_from_its_seed():
    z = vb.sample_prior(MODEL, 20_000)
    assert z.shape == (20_000, 4)
    standard_error = 20_000**-0.5
    assert z.mean(0).abs().max() < 5 * standard_error
    assert (z.T.cov() - torch.eye(4)).abs().max() < 5 * 2**0.5 * standard_error
    assert vb.sample_prior(MODEL, 5, seed=3).equal(vb.sample_prior(MODEL, 5, seed=3))
    assert not vb.sample_prior(MODEL, 5, seed=3).equal(vb.sample_prior(MODEL, 5, seed=4))


def test_posterior_draws_have_the_posterior_moments():
    mean, std = vb.posterior(MODEL, DATA.test)
    draws = torch.stack([vb.sample_posterior(MODEL, DATA.test, seed) for seed in range(40)])
    assert draws.shape == (40, 297, 4)
    standard = (draws - mean) / std
    count = standard.numel()
    assert abs(standard.mean()) < 5 * count**-0.5
    assert abs(standard.var() - 1) < 5 * (2 / count) ** 0.5
    assert vb.sample_posterior(MODEL, DATA.test, 7).equal(draws[7])


@pytest.mark.parametrize("kind", ["mixture", "kernel"])
def test_a_density_of_codes_has_their_moments(kind):
    draws = vb.sample_density(MODEL, DATA.train, 5000, kind=kind, components=5)
    codes = vb.sample_posterior(MODEL, DATA.train)
    assert draws.shape == (5000, 4)
    assert torch.allclose(draws.mean(0), codes.mean(0), atol=0.1 * codes.std())
    # A kernel density is wider than its data by the kernel: Scott's width is n^(-1/(d+4)).
    width = len(codes) ** (-1 / 8) if kind == "kernel" else 0.0
    expected = (codes.T.cov() + width**2 * torch.eye(4)).diagonal()
    assert torch.allclose(draws.T.cov().diagonal(), expected, rtol=0.15)
    assert vb.sample_density(MODEL, DATA.train, 5000, kind=kind, components=5).equal(draws)


def test_a_mixture_finds_the_codes_that_a_gaussian_misses():
    """Two tight heaps of codes far from each other, and nothing between them."""

    class Sign(torch.nn.Module):
        def forward(self, x):
            mean = torch.where(x[:, 0, 0, :1] > 0.5, 3.0, -3.0)
            return mean, torch.full_like(mean, -4.0)

    model = vb.VAE(Sign(), torch.nn.Linear(1, 1), image_shape=(1, 2, 2), latent_dim=1)
    images = torch.arange(200).remainder(2).float()[:, None, None].expand(200, 2, 2)
    draws = vb.sample_density(model, images, 1000, components=2)
    assert ((draws.abs() - 3).abs() < 1).all()
    assert (draws > 0).float().mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.usefixtures("unchecked")
def test_a_density_that_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match=r"^kind: expected one of mixture, kernel, got 'cubist'"):
        vb.sample_density(MODEL, DATA.test, kind="cubist")
    with pytest.raises(ValueError, match=r"^images: expected at least 5, for components=4"):
        vb.sample_density(MODEL, DATA.test[:3], components=4)
    with pytest.raises(ValueError, match=r"^n: "):
        vb.sample_density(MODEL, DATA.test, 0)


def test_drawing_leaves_the_callers_random_numbers_alone():
    before = torch.get_rng_state()
    vb.sample_prior(MODEL)
    vb.sample_posterior(MODEL, DATA.test[:3])
    vb.sample_density(MODEL, DATA.test[:30], components=2)
    vb.traversal(MODEL, steps=2)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_draws_must_be_positive(count):
    with pytest.raises(ValueError, match=r"^n: "):
        vb.sample_prior(MODEL, count)


@pytest.mark.parametrize("use", [vb.embed, vb.reconstruct, vb.sample_posterior])
def test_images_that_do_not_fit_are_refused(use):
    for images in (torch.rand(2, 1, 28, 28), torch.rand(2, 2, 16, 16)):
        with pytest.raises(ValueError, match=r"expected .*1, 16, 16.* got "):
            use(MODEL, images)
    with pytest.raises(ValueError, match=r"^images: expected pixels in \[0, 1\]"):
        use(MODEL, torch.full((2, 1, 16, 16), float("nan")))


CODES = torch.zeros(3, 2)
NO_NUMBERS = {
    "sparse": CODES.to_sparse(),
    "meta": CODES.to("meta"),
    "complex": CODES.to(torch.complex64),
    "quantized": None,
    "several lengths": [[0.0, 1.0], [2.0]],
    "text": [["a", "b"]],
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("name", ["z", "images"])
def test_what_holds_no_numbers_is_refused_in_a_sentence(kind, name):
    codes = NO_NUMBERS[kind]
    if kind == "quantized":
        codes = torch.quantize_per_tensor(CODES, 0.1, 0, torch.qint8)
    with pytest.raises(ValueError, match=rf"^{name}: expected a[^\n]* numbers, got [^\n]*$"):
        vb.decode(MODEL, codes) if name == "z" else vb.as_images(codes)
