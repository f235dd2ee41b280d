"""The longer run in colour, its committed results, and what the chapter writes out of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import vaebook as vb
from experiments import colour
from experiments.records import read_rows
from vaebook.models.likelihoods import Gaussian


@pytest.fixture(scope="module")
def chapter(definitions):
    """What *In colour* defines, as its readers have it."""
    return definitions("in-colour")


@pytest.fixture(scope="module")
def digits():
    """A few digits, in colours that change from image to image."""
    data = vb.load("digits", image_size=8)
    torch.manual_seed(0)
    pixels = data.train.pixels[:300].float().div(255) * torch.rand(300, 3, 1, 1)
    images = vb.as_images(pixels.mul(255).round().byte())
    return replace(data, train=images[:200], test=images[200:])


def test_the_chapter_and_the_experiment_have_the_same_model(chapter, digits):
    x = vb.data.to_pixels(digits.test.pixels, "cpu")
    axes = [source(digits.train, 30) for source in
            (chapter["principal_axes"], colour.principal_axes)]  # fmt: skip
    for here, there in zip(*axes, strict=True):
        assert torch.equal(torch.as_tensor(here), torch.as_tensor(there))
    outputs = []
    for names, of in zip((chapter, vars(colour)), axes, strict=True):
        torch.manual_seed(1)
        encoder = names["Encoder"](of, 7, 0.1, 16)
        decoder = names["Decoder"](of, 7, 0.1, digits.image_shape, 16)
        decoder = torch.nn.Sequential(decoder, names["Logits"]())
        for parameter in [*encoder.parameters(), *decoder.parameters()]:
            torch.nn.init.normal_(parameter, std=0.1)
        mean, log_var = encoder(x)
        outputs.append((mean, log_var, decoder(mean)))
    for here, there in zip(*outputs, strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)


def test_principal_axes_are_those_of_the_covariance(digits):
    axes = colour.principal_axes(digits.train, 12)
    pixels = vb.data.to_pixels(digits.train.pixels, "cpu").flatten(1).double()
    values = torch.linalg.eigvalsh(pixels.T.cov()).flip(0)
    # The decomposition is a randomized one: exact for the first, not for the last of its axes.
    torch.testing.assert_close(axes.variance[:6].double(), values[:6], rtol=0.02, atol=0)
    assert axes.total == pytest.approx(values.sum().item(), rel=1e-4)
    gram = axes.directions @ axes.directions.T
    torch.testing.assert_close(gram, torch.eye(12), rtol=0, atol=1e-4)


def test_before_training_the_bound_is_the_likelihood_of_probabilistic_pca():
    torch.manual_seed(0)
    spread = torch.tensor([0.2, 0.1, 0.08] + [0.03] * 9)
    pixels = (0.5 + torch.randn(4000, 12) * spread).clamp(0, 1).view(-1, 3, 2, 2)
    axes = colour.principal_axes(vb.as_images(pixels), 12)
    noise = axes.variance[3:].mean().item()
    encoder = colour.Encoder(axes, 3, noise, 4)
    decoder = colour.Decoder(axes, 3, noise, (3, 2, 2), 4)
    likelihood = Gaussian(sigma=math.sqrt(noise))
    model = vb.VAE(
        encoder, decoder, image_shape=(3, 2, 2), latent_dim=3, likelihood=likelihood
    )  # fmt: skip
    variance = torch.cat([axes.variance[:3], torch.full((9,), noise)])
    along = (pixels.flatten(1) - axes.mean) @ axes.directions.T
    exact = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(along).sum(1).mean()
    assert vb.evaluate(model, pixels)["loss"] == pytest.approx(-exact.item(), abs=0.1)  # nats


def test_logits_are_those_of_pixels_in_the_middle_and_rise_everywhere():
    middle = torch.linspace(0.3, 0.7, 9, dtype=torch.float64)
    torch.testing.assert_close(colour.Logits()(middle), middle.logit(), rtol=0, atol=0.01)
    assert (colour.Logits()(torch.linspace(-0.7, 1.7, 99)).diff() > 0).all()


def test_convolutions_are_silent_until_they_are_trained(digits):
    short = {"axes": 30, "latent_dim": 5, "hidden": 8}
    plain = colour.colour_vae(digits.train, channels=0, **short)
    local = colour.colour_vae(digits.train, channels=4, **short)
    assert sum(p.numel() for p in local.parameters()) > sum(p.numel() for p in plain.parameters())
    for model in (plain, local):
        assert all(p.requires_grad for p in model.parameters())
    pixels = vb.data.to_pixels(digits.test.pixels, "cpu")
    for here, there in zip(plain.encode(pixels), local.encode(pixels), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)
    z = torch.randn(9, 5)
    torch.testing.assert_close(plain.decode(z), local.decode(z), rtol=0, atol=0)


def test_varied_images_are_the_images_their_mirrors_and_copies_like_them(digits, monkeypatch):
    monkeypatch.setattr(colour, "CHANGES", lambda few: few.flip(2))
    many, half = colour.varied(digits.test, 2), len(digits.test)
    assert len(many) == 4 * half
    first, second, *copies = many.pixels.split(half)
    assert torch.equal(first, digits.test.pixels)
    assert torch.equal(second[..., 0], digits.test.pixels[..., -1])
    assert all(torch.equal(copy, first.flip(2)) for copy in copies)


def test_changes_keep_size_kind_and_most_of_an_image():
    torch.manual_seed(0)
    smooth = torch.linspace(60, 190, 32).round().byte().expand(8, 3, 32, 32).contiguous()
    changed = colour.CHANGES(smooth)
    assert (changed.shape, changed.dtype) == (smooth.shape, torch.uint8)
    both = [x.float().mean(dim=(0, 1, 2)) for x in (smooth, changed)]
    assert torch.stack(both).corrcoef()[0, 1].abs() > 0.99


def test_refined_posteriors_are_those_of_the_exact_solution():
    """Where the decoder is linear and the noise Gaussian, the best posterior is known."""
    torch.manual_seed(0)
    x = torch.rand(40, 3, 2, 2)
    axes = colour.principal_axes(vb.as_images(x), 12)
    sizes = {"image_shape": (3, 2, 2), "latent_dim": 3, "likelihood": Gaussian(sigma=0.2)}
    decoder = colour.Decoder(axes, 3, 0.04, (3, 2, 2), 4)
    exact = vb.VAE(colour.Encoder(axes, 3, 0.04, 4), decoder, **sizes)
    worse = vb.VAE(colour.Encoder(axes, 3, 0.08, 4), decoder, **sizes)
    images = vb.as_images(x)
    before, after = colour.refined(worse, images, steps=300)
    best, _ = colour.refined(exact, images, steps=1)
    assert after < before
    assert after == pytest.approx(best, abs=0.05)


def trained_briefly(digits, folder):
    short = {"axes": 30, "latent_dim": 5, "hidden": 8, "channels": 4, "epochs": 2, "copies": 0}
    return colour.measure_long(digits, folder / "first.safetensors", **short)[0]


def test_the_second_look_sees_the_gradient_of_the_cost_and_starts_with_a_step_down(digits):
    torch.manual_seed(0)
    model = colour.colour_vae(digits.train, axes=30, latent_dim=5, hidden=8, channels=4)
    for parameter in model.parameters():  # so that the decoder is not linear
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.eval()
    second = colour.SecondLook(model.encoder, model.decoder, latent_dim=5, hidden=8).eval()
    x = vb.data.to_pixels(digits.test.pixels[:6], "cpu")
    mean, log_var = (answer.detach().requires_grad_() for answer in model.encode(x))
    std, noise = (log_var / 2).exp(), second.noise.flatten(0, 1)

    def cost(at):  # by the objective's parts, draw by draw
        fits = [model.likelihood.log_prob(model.decode(at + std * n), x).sum() for n in noise]
        return vb.kl_to_prior(at, log_var).sum() - sum(fits) / len(noise)

    (slope,) = torch.autograd.grad(cost(mean), mean)
    answer, its_log_var = second(x)
    torch.testing.assert_close(answer, mean - 0.2 * std.square() * slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(its_log_var, log_var)
    assert cost(answer) < cost(mean)


def test_only_the_second_look_is_trained_by_it(digits, tmp_path):
    model = trained_briefly(digits, tmp_path)
    before = {name: p.clone() for name, p in model.named_parameters()}
    short = {"epochs": 2, "copies": 0, "hidden": 8}
    history = colour.look_twice(model, digits, tmp_path / "second.safetensors", **short)
    after = {name.replace("first.network.", "").replace("decoder.network.", "decoder."): p
             for name, p in model.named_parameters()}  # fmt: skip
    for name, parameter in before.items():
        torch.testing.assert_close(after[name], parameter, rtol=0, atol=0)
    assert model.encoder.net[-1].weight.abs().sum() > 0
    again = trained_briefly(digits, tmp_path)
    resumed = colour.look_twice(again, digits, tmp_path / "second.safetensors", **short)
    assert resumed.rows == history.rows
    assert vb.evaluate(again, digits.test)["loss"] == vb.evaluate(model, digits.test)["loss"]


def test_the_rate_rises_and_falls_to_zero():
    rates = [colour.rate(2.0, done) for done in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 0.1
    assert max(rates) == pytest.approx(2, rel=0.1)
    assert rates[-1] == 0


def test_the_mass_of_all_levels_is_at_most_one(chapter):
    levels = torch.arange(256).view(-1, 1, 1, 1) / 255
    for place, sigma in ((0.4, 0.05), (0.99, 0.2), (0.5, 1e-3)):
        nats = chapter["log_mass"](torch.full_like(levels, place), levels, sigma)
        assert nats.isfinite().all()
        assert nats.exp().sum() <= 1 + 1e-5
        assert nats.exp().sum() > (0.99 if sigma * 8 < place < 1 - sigma * 8 else 0.3)


def test_the_spectrum_of_white_noise_is_flat_and_that_of_one_wave_is_one_line(chapter):
    noise = 0.2 * np.random.default_rng(0).normal(size=(600, 3, 16, 16))
    np.testing.assert_allclose(chapter["power_spectrum"](noise)[1:], 0.04, rtol=0.1)
    wave = np.cos(2 * np.pi * 5 * np.arange(16) / 16) * np.ones((1, 1, 16, 16))
    spectrum = chapter["power_spectrum"](wave)
    assert spectrum.argmax() == 5 - 1
    assert spectrum[3:6].sum() > 0.95 * spectrum.sum()  # the window spreads it to its neighbours


def test_a_run_goes_on_where_it_stopped(digits, tmp_path):
    short = {"axes": 30, "latent_dim": 5, "hidden": 8, "channels": 4, "epochs": 1, "copies": 0}
    state = tmp_path / "state.safetensors"
    _, first = colour.measure_long(digits, state, **short)
    model, both = colour.measure_long(digits, state, **short | {"epochs": 2})
    assert both.rows[:2] == first.rows
    assert [row["epoch"] for row in both.rows] == [1, 1, 2, 2]
    last = both.last()
    assert vb.evaluate(model, digits.test)["loss"] == pytest.approx(last["loss"])


def test_a_floor_lies_below_the_average_image():
    row = colour.measure_floor("digits")
    data = vb.load("digits")
    assert row["floor_test"] == pytest.approx(vb.bernoulli_floor(data.test), rel=1e-5)
    assert row["floor_test"] < row["average_image"]
    assert (row["train"], row["test"]) == (len(data.train), len(data.test))


def test_the_committed_floors_are_those_of_the_data_sets_at_hand():
    rows = {row["dataset"]: row for row in read_rows(colour.RESULTS / "colour_floors.csv")}
    assert {"mnist", "kmnist", "cifar10", "textures"} <= rows.keys() <= set(colour.DATASETS)
    for row in rows.values():
        assert float(row["floor_train"]) < float(row["average_image"])
        assert float(row["floor_train"]) == pytest.approx(float(row["floor_test"]), rel=0.05)
    assert float(rows["mnist"]["floor_train"]) == pytest.approx(45.8, abs=0.5)
    assert float(rows["cifar10"]["floor_train"]) == pytest.approx(1676.1, abs=10)


def test_the_committed_run_is_complete_and_below_its_bar():
    about = json.loads((colour.RESULTS / "colour.json").read_text(encoding="utf-8"))
    rows = read_rows(colour.RESULTS / "colour.csv")
    assert about["settings"] == colour.SETTINGS
    assert [row["split"] for row in rows[:2]] == ["train", "validation"]
    assert about["second_look"] == colour.SECOND
    for part, settings in (("whole model", colour.SETTINGS), ("second look", colour.SECOND)):
        epochs = [int(row["epoch"]) for row in rows if row["trained"] == part]
        assert epochs == [1 + i // 2 for i in range(2 * settings["epochs"])]
    last = float(rows[-1]["loss"])
    assert about["test"]["loss"] == pytest.approx(last, abs=0.2)
    assert about["floor_test"] < about["test"]["loss"] <= 1815
    assert about["test"]["loss"] < about["first_look_test_loss"] < 1826
    assert about["search"]["before"] == pytest.approx(about["test"]["loss"], abs=0.3)
    assert about["search"]["after"] < about["search"]["before"] + 0.1
    assert {"device", "threads", "torch", "precision", "seed"} <= about["run"].keys()


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        colour.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--part", "--list", "floors", "long", "colour.json"))
    assert colour.main(["--list"]) == 0
    assert "floors: missing" in capsys.readouterr().out
