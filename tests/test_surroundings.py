"""Arguments of unusual kinds, networks that do not fit, and unusual surroundings."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

import vaebook as vb

OPTIONS = {"epochs": 1, "progress": False, "device": "cpu", "precision": "float32"}
# Arguments of a wrong kind are what these are about.
pytestmark = pytest.mark.usefixtures("unchecked")
PIXELS = np.random.default_rng(0).random((12, 1, 4, 4))


class Two(nn.Module):
    """An encoder whose mean and log-variance have any width."""

    def __init__(self, mean, log_var):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(16, width) for width in (mean, log_var))

    def forward(self, x):
        return [head(x.flatten(1)) for head in self.heads]


def network(mean=2, log_var=2, shape=(1, 4, 4), codes=2):
    layers = nn.Linear(codes, int(np.prod(shape))), nn.Unflatten(1, shape)
    return vb.VAE(Two(mean, log_var), nn.Sequential(*layers), image_shape=(1, 4, 4), latent_dim=2)


def dense(**options):
    return vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(5,), **options)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"shape": (1, 1, 4)}, r"decoder: expected .*\(2, 1, 4, 4\).*got \(2, 1, 1, 4\)"),
        ({"codes": 3}, "decoder: expected a network that takes codes of latent_dim 2"),
        ({"log_var": 1}, r"encoder: expected log_var of shape \(2, 2\)"),
        ({"mean": 3, "log_var": 3}, r"encoder: expected mean of shape \(2, 2\)"),
    ],
)
def test_networks_that_would_broadcast_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        vb.fit(network(**sizes), PIXELS, **OPTIONS)


def test_a_model_without_weights_is_refused():
    model = vb.VAE(nn.Identity(), nn.Identity(), image_shape=(1, 4, 4), latent_dim=2)
    with pytest.raises(ValueError, match=r"model: expected weights .*got no weights"):
        vb.fit(model, PIXELS, **OPTIONS)


def test_the_check_of_networks_leaves_random_numbers_and_running_statistics():
    model = vb.ladder_vae((1, 4, 4), (3, 2), hidden=(5, 4))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    stop = vb.EarlyStopping()  # which wants a validation set, after the check
    with pytest.raises(ValueError, match="validation"):
        vb.fit(model, PIXELS, **OPTIONS, callbacks=[stop])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", ["1", True, None, 1.0, 2**70])
def test_a_seed_of_another_kind_is_refused(seed):
    images = vb.data.as_images(PIXELS)
    for use in (
        lambda: vb.fit(dense(), PIXELS, **OPTIONS, seed=seed),
        lambda: vb.evaluate(dense(), PIXELS, seed=seed),
        lambda: vb.sample_prior(dense(), 3, seed),
        lambda: images.binarized("static", seed),
    ):
        with pytest.raises(ValueError, match="seed: expected a whole number"):
            use()


def test_whole_numbers_of_numpy_are_seeds():
    images, three = vb.data.as_images(PIXELS), np.int64(3)
    assert torch.equal(vb.sample_prior(dense(), 3, three), vb.sample_prior(dense(), 3, 3))
    drawn = (images.binarized("static", seed).pixels for seed in (three, 3))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_a_density_takes_every_seed(seed):
    drawn = vb.sample_density(dense(), PIXELS, 3, components=2, seed=seed)
    assert drawn.shape == (3, 2)


@pytest.mark.parametrize("snapshots", ["1", None, 1.0, True, -1])
def test_snapshots_are_a_whole_number(snapshots):
    with pytest.raises(ValueError, match="snapshots: expected a whole number"):
        vb.fit(dense(), PIXELS, **OPTIONS, snapshots=snapshots)


def test_codes_may_be_arrays_of_any_kind():
    model, z = dense(), np.arange(6.0).reshape(3, 2)
    expected = vb.decode(model, torch.tensor(z, dtype=torch.float32))
    locked = z.astype(np.float32)
    locked.flags.writeable = False
    for codes in (z, z.astype(np.float16), z.astype(int), locked, z[::-1][::-1], z.tolist()):
        assert torch.equal(vb.decode(model, codes), expected)
    torch.testing.assert_close(vb.decode(model, z[::-1]), expected.flip(0))
    with pytest.raises(ValueError, match=r"z: expected codes of shape \[batch, 2\], got \(3, 5\)"):
        vb.decode(model, np.zeros((3, 5)))


def loader(pixels):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pixels), batch_size=4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_loader_may_give_floats_of_any_precision(dtype):
    history = vb.fit(dense(), loader(torch.tensor(PIXELS).to(dtype)), **OPTIONS)
    assert np.isfinite(history.rows[0]["loss"])


@pytest.mark.parametrize("use", [vb.embed, vb.reconstruct, vb.evaluate])
def test_an_empty_loader_is_named(use):
    with pytest.raises(ValueError, match="images: expected at least one batch, got none"):
        use(dense(), loader(torch.zeros(0, 1, 4, 4)))


@pytest.mark.parametrize("build", [dense, lambda: vb.ladder_vae((1, 4, 4), (3, 2), hidden=(5, 4))])
def test_float64_by_default_changes_nothing(build, request):
    model = build()
    request.getfixturevalue("double")
    vb.fit(model, PIXELS, **OPTIONS, validation=PIXELS, snapshots=2)
    assert model.sample(2).dtype == torch.float32
    assert vb.decode(model, vb.sample_prior(model, 2)).dtype == torch.float32
    assert vb.sample_posterior(model, PIXELS).dtype == torch.float32
    assert vb.traversal(model, steps=2).images.dtype == torch.float32
    assert vb.interpolate(model, PIXELS[:1], PIXELS[1:2], steps=2).dtype == torch.float32


def test_a_model_in_float64_draws_and_is_not_measured():
    model = dense().double()
    assert model.sample(2).dtype == torch.float64
    assert vb.embed(model, PIXELS).shape == (12, 2)
    assert vb.reconstruct(model, PIXELS).shape == (12, 1, 4, 4)
    assert vb.traversal(model, steps=2).images.dtype == torch.float32
    with pytest.raises(ValueError, match=r"model: expected weights in float32, got torch\.float64"):
        vb.evaluate(model, PIXELS)


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
def test_training_has_gradients_whatever_is_around(around):
    model, plain = dense(), dense()
    plain.load_state_dict(model.state_dict())
    expected = vb.fit(plain, PIXELS, **OPTIONS).rows[0]["loss"]
    with around():
        assert vb.fit(model, PIXELS, **OPTIONS).rows[0]["loss"] == expected
    vb.fit(model, PIXELS, **OPTIONS)


def test_weights_that_cannot_be_trained_are_refused():
    with torch.inference_mode():
        model = dense()
    with pytest.raises(ValueError, match=r"model: .* outside torch\.inference_mode"):
        vb.fit(model, PIXELS, **OPTIONS)


def test_without_a_terminal_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert len(vb.fit(dense(), PIXELS, **OPTIONS | {"progress": True}).rows) == 1


@pytest.mark.slow
def test_a_conditional_model_is_exported_for_batches_of_any_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from vaebook.export import export_onnx

    model = vb.conditional_vae((1, 4, 4), 2, classes=3, hidden=(5,)).eval().given(1)
    path = export_onnx(model, tmp_path)["reconstructor"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        x = torch.rand(count, 1, 4, 4)
        (found,) = session.run(None, {"images": x.numpy()})
        np.testing.assert_allclose(found, model.reconstruct(x).numpy(), rtol=0, atol=1e-5)
