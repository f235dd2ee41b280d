"""The VAE in NumPy: its gradients, its loss, its optimizer and its training, against PyTorch's."""

import ast
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Normal, kl_divergence

import vaebook as vb
from vaebook import from_scratch
from vaebook.from_scratch import VAE, Adam, Linear, ReLU, bernoulli, kl_to_prior, squared_error

SHAPE = (1, 4, 5)


def twin_of(model, likelihood="bernoulli"):
    """Return a PyTorch model with the weights of a NumPy model, in float64."""
    latent_dim, hidden = model.decoder.weight.shape
    layers = {"hidden": (hidden,), "activation": "relu"}
    twin = vb.dense_vae(model.image_shape, latent_dim, **layers, likelihood=likelihood).double()
    if likelihood != "bernoulli":
        twin.likelihood.log_sigma.fill_(np.log(likelihood.setting))  # to all digits of float64
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), model.parameters().values(), strict=True):
            theirs.copy_(torch.from_numpy(ours.T))
    return twin


def passed(model, batch, seed):
    """Return rows of pixels, noise and outputs for a batch, and its terms; leave the gradients."""
    rng = np.random.default_rng(seed)
    x = rng.random((batch, np.prod(model.image_shape))).astype(model.dtype)
    noise = rng.standard_normal((batch, model.latent_dim)).astype(model.dtype)
    outputs = model.forward(x, noise)
    return x, noise, outputs, model.backward(x, *outputs)


def twin_terms(twin, x, noise):
    """Return what the objective makes of the same images with the same noise."""
    noise = torch.from_numpy(noise)
    twin.reparameterize = lambda mean, log_var: mean + (0.5 * log_var).exp() * noise
    return vb.NegativeELBO()(twin, torch.from_numpy(x).unflatten(1, twin.image_shape))


def losses(C):
    """Return the arguments for a loss, and the likelihood that PyTorch needs for the same."""
    if C is None:
        return {"loss": "bernoulli"}, "bernoulli"
    return {"loss": "squared_error", "C": C}, vb.likelihoods.Gaussian(sigma=(2 * C) ** -0.5)


sizes = {"latent_dim": st.integers(1, 6), "hidden": st.integers(1, 9), "batch": st.integers(1, 7)}


@settings(max_examples=25)
@given(C=st.none() | st.floats(0.05, 50), seed=st.integers(0, 1000), **sizes)
def test_every_gradient_is_that_of_autograd(C, seed, latent_dim, hidden, batch):
    loss, likelihood = losses(C)
    model = VAE(SHAPE, latent_dim, hidden=hidden, **loss, seed=seed, dtype="float64")
    x, noise, _, _ = passed(model, batch, seed)
    twin = twin_of(model, likelihood)
    twin_terms(twin, x, noise).loss.mean().backward()
    for ours, theirs in zip(model.gradients().values(), twin.parameters(), strict=True):
        difference = np.linalg.norm(ours.T - theirs.grad.numpy())
        assert difference <= 1e-6 * np.linalg.norm(ours) + 1e-12


@pytest.mark.parametrize("C", [None, 0.5, 20.0])
def test_the_default_sizes_agree_with_autograd_too(C):
    loss, likelihood = losses(C)
    model = VAE(**loss, dtype="float64")
    x, noise, _, _ = passed(model, 16, seed=1)
    twin = twin_of(model, likelihood)
    twin_terms(twin, x, noise).loss.mean().backward()
    for ours, theirs in zip(model.gradients().values(), twin.parameters(), strict=True):
        np.testing.assert_allclose(ours.T, theirs.grad, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("C", [None, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_gradient_is_that_of_finite_differences(C, seed):
    loss, _ = losses(C)
    model = VAE(SHAPE, 2, hidden=3, **loss, seed=seed, dtype="float64")
    x, noise, _, _ = passed(model, 4, seed)
    gradients = {name: value.copy() for name, value in model.gradients().items()}

    def mean_loss():
        params, mean, log_var = model.forward(x, noise)
        return (model.cost(params, x)[0] + kl_to_prior(mean, log_var)[0]).mean()

    step = 1e-6
    for name, values in model.parameters().items():
        for place in np.ndindex(values.shape):
            kept = values[place]
            ends = []
            for values[place] in (kept + step, kept - step):
                ends.append(mean_loss())
            values[place] = kept
            slope = (ends[0] - ends[1]) / (2 * step)
            assert slope == pytest.approx(gradients[name][place], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("C", [None, 0.5, 20.0])
def test_terms_are_those_of_the_objective(C):
    loss, likelihood = losses(C)
    model = VAE(**loss, dtype="float64")
    x, noise, (params, mean, log_var), (reconstruction, kl) = passed(model, 9, seed=2)
    terms = twin_terms(twin_of(model, likelihood), x, noise)
    constant = 0.0 if C is None else 784 / 2 * np.log(2 * np.pi / (2 * C))
    np.testing.assert_allclose(reconstruction + constant, terms.reconstruction.detach())
    np.testing.assert_allclose(kl, terms.kl.detach())
    # And the same by PyTorch's distributions.
    params, mean, log_var, pixels = map(torch.from_numpy, (params, mean, log_var, x))
    q = Normal(mean, (0.5 * log_var).exp())
    np.testing.assert_allclose(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1))
    p = Bernoulli(logits=params, validate_args=False)
    p = p if C is None else Normal(params, (2 * C) ** -0.5)
    np.testing.assert_allclose(reconstruction + constant, -p.log_prob(pixels).sum(1))


def test_cross_entropy_of_great_logits_is_exact():
    logits, x = np.array([[-1e4, 1e4, -1e4, 1e4, 0.0]]), np.array([[0.0, 1, 1, 0, 0.5]])
    cost, gradient = bernoulli(logits, x)
    assert cost == pytest.approx(2e4 + np.log(2))
    np.testing.assert_array_equal(gradient, [[0, 0, -1, 1, 0]])


def test_squared_error_has_half_as_its_usual_weight():
    cost, gradient = squared_error(np.ones((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(cost, [1.5, 1.5])
    np.testing.assert_array_equal(gradient, np.ones((2, 3)))


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}])
def test_adam_steps_as_torch_does(options):
    rng = np.random.default_rng(0)
    ours = [rng.standard_normal(shape) for shape in ((3, 4), (4,))]
    theirs = [torch.from_numpy(value.copy()).requires_grad_() for value in ours]
    optimizer, adam = torch.optim.Adam(theirs, **options), Adam(ours, **options)
    for _ in range(20):
        gradients = [rng.standard_normal(value.shape) for value in ours]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        adam.step(gradients)
        for value, parameter in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(value, parameter.detach(), rtol=1e-10, atol=1e-14)


def test_a_layer_starts_as_pytorch_starts_its_own():
    layer = Linear(100, 2000, np.random.default_rng(0), "float32")
    theirs = torch.nn.Linear(100, 2000)
    for ours, other in [(layer.weight, theirs.weight), (layer.bias, theirs.bias)]:
        assert np.abs(ours).max() <= 0.1
        assert ours.std() == pytest.approx(other.std().item(), rel=0.05)


def test_relu_stops_the_gradient_where_it_stopped_the_number():
    layer = ReLU()
    np.testing.assert_array_equal(layer.forward(np.array([[-1.0, 0, 2]])), [[0, 0, 2]])
    np.testing.assert_array_equal(layer.backward(np.full((1, 3), 5.0)), [[0, 0, 5]])


def test_it_has_427344_parameters_and_says_where():
    model = VAE()
    assert sum(value.size for value in model.parameters().values()) == 427_344
    lines = repr(model).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters"]
    assert lines[1].split() == ["encoder", "Linear", "256", "200,960"]
    assert lines[-1].split() == ["total", "427,344"]
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 1 + len(model.layers()) + 1
    twin = vb.dense_vae((1, 28, 28), 32, hidden=(256,), activation="relu")
    assert sum(value.numel() for value in twin.parameters()) == 427_344


def test_images_may_come_in_every_form_of_the_package():
    model = VAE()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), "uint8")
    wanted = model.reconstruct(pixels)
    assert wanted.shape == pixels.shape
    assert wanted.dtype == np.float32
    assert 0 <= wanted.min() <= wanted.max() <= 1
    scaled = (pixels / np.float32(255)).reshape(3, -1)
    tensor = torch.from_numpy(pixels)
    for images in (pixels[:, 0], scaled, scaled.astype("float64"), tensor, vb.as_images(tensor)):
        np.testing.assert_allclose(model.reconstruct(images), wanted, rtol=1e-5)
    assert VAE((3, 2, 2), 1, hidden=4, loss="squared_error").sample(5).shape == (5, 3, 2, 2)


@pytest.fixture(scope="module")
def images():
    return vb.load("digits").train[:600]


def test_training_lowers_the_loss_and_a_seed_repeats_it(images):
    def run(seed):
        model = VAE(latent_dim=4, hidden=32, seed=seed)
        rows = model.fit(images, epochs=3, validation=images, seed=seed, progress=False)
        return rows, model.sample(2, seed=seed)

    (first, samples), (second, again), (third, _) = run(0), run(0), run(1)
    assert first == second
    assert first != third
    np.testing.assert_array_equal(samples, again)
    assert [(row["epoch"], row["split"]) for row in first[:2]] == [(1, "train"), (1, "validation")]
    assert len(first) == 6
    assert all(row["loss"] == row["reconstruction"] + row["kl"] for row in first)
    assert first[5]["loss"] < first[3]["loss"] < first[1]["loss"] < 784 * np.log(2)


def test_evaluating_changes_nothing_and_takes_its_noise_from_the_seed(images):
    model = VAE(latent_dim=4, hidden=32)
    before = {name: value.copy() for name, value in model.parameters().items()}
    assert model.evaluate(images) == model.evaluate(images)
    assert model.evaluate(images) != model.evaluate(images, seed=1)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("C", [None, 2.0])
def test_it_learns_as_its_twin_does_from_the_same_numbers(images, C):
    """The same weights, batches and noise: the same losses, step by step."""
    loss, likelihood = losses(C)
    model = VAE(latent_dim=8, hidden=32, **loss, dtype="float64")
    twin = twin_of(model, likelihood)
    adam = Adam(list(model.parameters().values()), lr=1e-2)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    x = images.pixels.flatten(1).numpy() / 255
    for start in range(0, 600, 30):
        batch, noise = x[start : start + 30], rng.standard_normal((30, 8))
        reconstruction, kl = model.backward(batch, *model.forward(batch, noise))
        adam.step(list(model.gradients().values()))
        terms = twin_terms(twin, batch, noise)
        np.testing.assert_allclose(kl, terms.kl.detach(), rtol=1e-6)
        shift = terms.reconstruction.detach().numpy() - reconstruction
        assert np.ptp(shift) < 1e-6
        optimizer.zero_grad()
        terms.loss.mean().backward()
        optimizer.step()


@pytest.mark.slow
def test_its_trained_loss_is_within_two_percent_of_its_twins(images):
    data = vb.load("digits")
    run = {"epochs": 12, "batch_size": 64, "lr": 2e-3, "validation": data.test, "progress": False}
    ours = VAE().fit(data.train[:750], **run)[-1]
    torch.manual_seed(0)
    twin = vb.dense_vae((1, 28, 28), 32, hidden=(256,), activation="relu")
    theirs = vb.fit(twin, data.train[:750], **run, precision="float32").last()
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)


def test_progress_is_silent_when_asked(images, capsys):
    model = VAE(latent_dim=2, hidden=8)
    model.fit(images, epochs=1, progress=False)
    assert capsys.readouterr() == ("", "")
    model.fit(images, epochs=1)
    assert "nats per image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim: expected a positive whole number, got 0"),
        ({"hidden": 2.5}, "hidden: expected a positive whole number, got 2.5"),
        ({"image_shape": (1, 0, 3)}, r"image_shape: expected \(channels, .*\), got \(1, 0, 3\)"),
        ({"image_shape": (28, 28)}, r"image_shape: expected \(channels, .*\), got \(28, 28\)"),
        ({"loss": "mse"}, "loss: expected one of bernoulli, squared_error, got 'mse'"),
        ({"C": 0}, "C: expected a number above 0, got 0"),
        ({"C": float("nan")}, "C: expected a number above 0, got nan"),
        ({"dtype": "float16"}, "dtype: expected one of float32, float64, got 'float16'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VAE(**options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 784), "float32"), "images: expected at least one image of 784 pixels"),
        (np.zeros((2, 783), "float32"), r"784 pixels, got float32 of shape \(2, 783\)"),
        (np.zeros(784, "float32"), r"got float32 of shape \(784,\)"),
        (np.full((2, 784), 255.0), "in .0, 1. or uint8, got float64 .* maximum 255.0"),
        (np.full((2, 784), np.nan), "expected pixels in .0, 1."),
        (np.zeros((2, 784), "int64"), "expected pixels in .0, 1. or uint8, got int64"),
    ],
)
def test_bad_images_are_refused_by_name(images, message):
    model, good = VAE(hidden=2), np.zeros((2, 784), "uint8")
    for method in (model.reconstruct, model.evaluate, lambda x: model.fit(x, epochs=1)):
        with pytest.raises(ValueError, match=message):
            method(images)
    with pytest.raises(ValueError, match="validation: expected"):
        model.fit(good, epochs=1, validation=images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: expected a positive whole number, got 0"),
        ({"batch_size": -1}, "batch_size: expected a positive whole number"),
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
    ],
)
def test_bad_training_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VAE(hidden=2).fit(np.zeros((2, 784), "uint8"), **({"epochs": 1} | options))
    with pytest.raises(ValueError, match="n: expected a positive whole number"):
        VAE(hidden=2).sample(0)


def test_numpy_is_all_it_needs():
    tree = ast.parse(inspect.getsource(from_scratch))
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    house = {"vaebook.checks", "vaebook.training.progress"}  # what arguments may be, and a bar
    assert names - house == {"math", "functools", "typing", "jaxtyping", "numpy"}


def test_what_the_chapter_writes_out_is_what_the_package_has(definitions):
    chapter = definitions("from-scratch")
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((6, 4)) for _ in range(3))
    layers = [("Linear", (4, 4), [a]), ("ReLU", (), [a]), ("Reparameterize", (), [a, b, c])]
    for name, sizes, inputs in layers:
        results = []
        for make in (chapter[name], getattr(from_scratch, name)):
            layer = make(*sizes, *([np.random.default_rng(1), "float64"] if sizes else []))
            results.append([layer.forward(*inputs), layer.backward(b)])
            results[-1] += [layer.d_weight, layer.d_bias] if sizes else []
        for written_out, packaged in zip(*results, strict=True):
            np.testing.assert_array_equal(written_out, packaged)
    for name in ("bernoulli", "squared_error", "kl_to_prior"):
        results = [make(a, b) for make in (chapter[name], getattr(from_scratch, name))]
        for written_out, packaged in zip(*results, strict=True):
            np.testing.assert_allclose(written_out, packaged, rtol=1e-12, atol=1e-12)
    ours, theirs = [a.copy()], [a.copy()]
    steps = chapter["Adam"](ours), Adam(theirs)
    for gradient in (b, c):
        for adam in steps:
            adam.step([gradient])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
