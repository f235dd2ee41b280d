import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import vaebook as vb
from vaebook.models.networks import eval_mode

IMAGES = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def conv():
    torch.manual_seed(0)
    return vb.conv_vae((1, 16, 16), latent_dim=3, width=2)


def test_forward_decodes_a_draw_around_the_encoded_mean():
    model = conv().eval()
    torch.manual_seed(1)
    output = model(IMAGES)
    mean, log_var = model.encode(IMAGES)
    torch.manual_seed(1)
    z = mean + log_var.exp().sqrt() * torch.randn(6, 3)
    torch.testing.assert_close(output.mean, mean)
    torch.testing.assert_close(output.log_var, log_var)
    torch.testing.assert_close(output.z, z)
    torch.testing.assert_close(output.params, model.decoder(z))


@given(st.floats(-5, 5), st.floats(-4, 4), st.integers(0, 2**32))
def test_draws_have_the_moments_of_the_posterior(mean, log_var, seed):
    count = 20_000
    torch.manual_seed(seed)
    z = (
        conv()
        .reparameterize(torch.full((count, 1), mean), torch.full((count, 1), log_var))
        .double()
    )
    std = math.exp(log_var / 2)
    assert abs(z.mean() - mean) < 6 * std / math.sqrt(count)  # of the mean's standard error
    assert abs(z.var() / std**2 - 1) < 6 * math.sqrt(2 / count)  # of the variance's


def test_gradients_flow_through_a_draw():
    mean = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    log_var = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    z = conv().reparameterize(mean, log_var)
    z.sum().backward()
    std = (log_var / 2).exp()
    noise = (z - mean) / std
    assert mean.grad.equal(torch.ones(50, 3, dtype=torch.float64))
    torch.testing.assert_close(log_var.grad, (0.5 * std * noise).detach())
    assert noise.std() > 0.5


USES = {
    "sample": lambda model: model.sample(5),
    "reconstruct": lambda model: model.reconstruct(IMAGES),
    "embed": lambda model: torch.from_numpy(vb.embed(model, IMAGES)),
    "vb.reconstruct": lambda model: vb.reconstruct(model, IMAGES),
    "vb.decode": lambda model: vb.decode(model, torch.randn(5, 3)),
    "evaluate": lambda model: torch.tensor(vb.evaluate(model, IMAGES)["loss"]),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("use", USES)
def test_using_a_model_changes_nothing_in_it(use, training):
    model = conv().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = USES[use](model)
    assert not result.requires_grad
    assert all(module.training is training for module in model.modules())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("use", ["sample", "reconstruct", "vb.reconstruct", "vb.decode"])
def test_pixels_are_expectations(use):
    pixels = USES[use](conv())
    assert pixels.shape[1:] == (1, 16, 16)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@torch.no_grad()
def test_running_statistics_are_used_even_in_training_mode():
    model = conv()
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.running_mean.normal_()
    model.eval()
    expected_mean = model.encode(IMAGES)[0]
    expected = model.decode(expected_mean).sigmoid()
    torch.manual_seed(3)
    expected_sample = model.decode(torch.randn(5, 3)).sigmoid()
    model.train()
    torch.testing.assert_close(model.reconstruct(IMAGES), expected)
    torch.testing.assert_close(vb.reconstruct(model, IMAGES), expected)
    np.testing.assert_allclose(vb.embed(model, IMAGES), expected_mean, rtol=1e-5, atol=1e-6)
    torch.manual_seed(3)
    torch.testing.assert_close(model.sample(5), expected_sample)


@pytest.mark.parametrize("use", USES)
def test_each_module_keeps_a_mode_of_its_own(use):
    model = conv().train()
    frozen = [module for module in model.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in frozen:
        norm.eval()
    before = [module.training for module in model.modules()]
    USES[use](model)
    assert [module.training for module in model.modules()] == before
    assert not any(norm.training for norm in frozen)
    model.eval()
    frozen[0].train()
    with suppress(RuntimeError), eval_mode(model):  # also after an error
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert [module for module in model.modules() if module.training] == [frozen[0]]


def test_the_mode_comes_back_after_an_error():
    model = conv()
    with pytest.raises(ValueError, match=r"^x: "):
        model.reconstruct(torch.rand(2, 1, 17, 16))
    assert model.training


def test_a_vae_takes_networks_of_ones_own():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.Linear(12, 4)

        def forward(self, x):
            return self.heads(x.flatten(1)).chunk(2, dim=1)

    decoder = nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2)))
    model = vb.VAE(Encoder(), decoder, image_shape=(3, 2, 2), latent_dim=2)
    images = torch.rand(8, 3, 2, 2)
    assert model.sample(5).shape == (5, 3, 2, 2)
    history = vb.fit(model, images, epochs=2, batch_size=3, progress=False, device="cpu")
    assert history.frame["loss"].notna().all()


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(16, 16),
        torch.rand(1, 16, 16),
        torch.rand(2, 3, 16, 16),
        torch.rand(2, 1, 16, 17),
        torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
    ],
    ids=lambda x: f"{x.dtype}-{tuple(x.shape)}",
)
def test_encode_refuses_other_images(x):
    with pytest.raises(ValueError, match=r"^x: expected .*\[batch, 1, 16, 16\], got ") as error:
        conv().encode(x)
    assert str(tuple(x.shape)) in str(error.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("builder", "arguments", "named"),
    [
        (vb.conv_vae, {"image_shape": (1, 15, 28)}, "image_shape"),
        (vb.conv_vae, {"image_shape": (1, 28, 129)}, "image_shape"),
        (vb.conv_vae, {"image_shape": (28, 28)}, "image_shape"),
        (vb.conv_vae, {"image_shape": (0, 28, 28)}, "image_shape"),
        (vb.conv_vae, {"image_shape": (1, 28.0, 28)}, "image_shape"),
        (vb.conv_vae, {"latent_dim": 0}, "latent_dim"),
        (vb.conv_vae, {"latent_dim": 2.5}, "latent_dim"),
        (vb.conv_vae, {"width": -1}, "width"),
        (vb.conv_vae, {"likelihood": "bernouli"}, "likelihood"),
        (vb.dense_vae, {"image_shape": (1, 28)}, "image_shape"),
        (vb.dense_vae, {"latent_dim": 0}, "latent_dim"),
        (vb.dense_vae, {"hidden": (5, 0)}, "hidden"),
        (vb.dense_vae, {"activation": "swish"}, "activation"),
        (vb.dense_vae, {"likelihood": ""}, "likelihood"),
    ],
)
def test_builders_refuse_what_cannot_be_built(builder, arguments, named):
    with pytest.raises(ValueError, match=f"^{named}") as error:
        builder(**({"image_shape": (1, 28, 28), "latent_dim": 2} | arguments))
    assert "\n" not in str(error.value)


def by_hand(image_shape=(1, 8, 8), latent_dim=2):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))
    encoder.register_forward_hook(lambda module, x, both: both.chunk(2, 1))
    return vb.VAE(encoder, decoder, image_shape=image_shape, latent_dim=latent_dim)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("image_shape", [[1, 8, 8], np.array([1, 8, 8]), (1, np.int64(8), 8)])
def test_a_shape_may_be_any_three_whole_numbers(image_shape):
    model = by_hand(image_shape, latent_dim=np.int64(2))
    assert model.image_shape == (1, 8, 8)
    assert {type(n) for n in (*model.image_shape, model.latent_dim)} == {int}
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    vb.fit(model, images, epochs=1, batch_size=2, progress=False, device="cpu")
    assert vb.reconstruct(model, images).shape == (5, 1, 8, 8)
    assert vb.embed(model, images).shape == (5, 2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "image_shape",
    [(8, 8), (1, 8, 8, 8), (1, 8, 0), (-1, 8, 8), (1, 8.0, 8), (True, 8, 8), "abc", 8, None],
    ids=str,
)
def test_a_shape_that_is_none_is_named(image_shape):
    wanted = r"^image_shape: expected \(channels, height, width\), got "
    with pytest.raises(ValueError, match=wanted) as error:
        by_hand(image_shape)
    assert str(error.value).endswith(repr(image_shape))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("latent_dim", [0, -1, 2.0, True, None, "2"])
def test_a_number_of_latent_dimensions_that_is_none_is_named(latent_dim):
    with pytest.raises(ValueError, match=r"^latent_dim: expected a positive whole number, got "):
        by_hand(latent_dim=latent_dim)


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_samples_must_be_positive(count):
    with pytest.raises(ValueError, match=r"^n: "):
        conv().sample(count)
