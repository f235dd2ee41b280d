"""The faster ways through layers, against the layers themselves."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import vaebook as vb
from vaebook.models.networks import Residual
from vaebook.speed.kernels import convolve, convolve_transposed, faster, lent

USUAL = {convolve: nn.Conv2d, convolve_transposed: nn.ConvTranspose2d}


def forwards(model):
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def by_both(layer, fast, x):
    """Return output and gradients of a layer by its own forward and by the faster one."""
    found, weights = [], None
    for forward in (layer, lambda x: fast(layer, x)):
        y = forward(x)
        weights = torch.randn_like(y) if weights is None else weights
        found.append((y, *torch.autograd.grad((weights * y).sum(), [x, layer.weight])))
    return found


def test_a_transposed_convolution_of_one_pixel_is_a_matrix_product():
    layer = nn.ConvTranspose2d(6, 5, 4, 1, 0, bias=False)
    usual, fast = by_both(layer, convolve_transposed, torch.randn(7, 6, 1, 1, requires_grad=True))
    torch.testing.assert_close(fast, usual)


@given(*(st.integers(1, most) for most in (3, 5, 7, 6, 6, 2, 1)), st.sampled_from([0, 1]))
def test_a_transposed_convolution_in_float64(batch, into, out, height, width, pad, extra, s):
    """To few channels, and to more."""
    how = {"stride": 1 + s, "padding": min(pad, 2), "output_padding": extra * s, "bias": False}
    layer = nn.ConvTranspose2d(into, out, 4, **how).double()
    x = torch.randn(batch, into, height, width, dtype=torch.float64, requires_grad=True)
    try:
        layer(x)
    except RuntimeError:
        return  # a padding that leaves no pixel
    usual, fast = by_both(layer, convolve_transposed, x)
    torch.testing.assert_close(fast, usual)


@pytest.mark.parametrize("fast", USUAL)
@given(*(st.integers(1, most) for most in (4, 5, 4, 3, 2, 2)), st.integers(4, 9))
def test_few_channels_in_mixed_precision(fast, batch, into, out, kernel, s, p, side):
    out = out + 4 * (fast is convolve_transposed)  # fewer go another way
    layer = USUAL[fast](into, out, kernel, s, min(p, kernel // 2), bias=False)
    x = torch.randn(batch, into, side, side).bfloat16().float().requires_grad_()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        (y16, to_x16, _), (y, to_x, to_weight) = by_both(layer, fast, x)
    torch.testing.assert_close((y, to_x), (y16, to_x16))
    torch.manual_seed(0)
    weights = torch.randn_like(y)
    exact = layer.double()(x.double())
    (exact,) = torch.autograd.grad((weights * exact).sum(), layer.weight)
    torch.testing.assert_close(to_weight, exact.float(), rtol=1e-4, atol=1e-4)
    layer.float().eval()
    assert torch.equal(fast(layer, x), layer(x))


def test_a_bias_before_batch_norm_has_no_gradient_to_lose():
    quiet = nn.Conv2d(2, 3, 3)
    usual = copy.deepcopy(quiet)
    norm, x = nn.BatchNorm2d(3), torch.randn(8, 2, 9, 9)
    weights = torch.randn(8, 3, 7, 7)
    for y in (convolve(quiet, x), usual(x)):
        (weights * norm(y)).sum().backward()
    torch.testing.assert_close(quiet.weight.grad, usual.weight.grad, rtol=1e-4, atol=1e-4)
    assert quiet.bias.grad is None
    assert usual.bias.grad.abs().max() < 1e-4
    convolve(quiet.eval(), x).sum().backward()
    torch.testing.assert_close(quiet.bias.grad, torch.full((3,), 8.0 * 7 * 7))


def test_the_layers_that_have_a_faster_way():
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4, residual=1)
    names = {module: name for name, module in model.named_modules()}
    found = {names[layer] for layer, _ in faster(model)}
    convs = (nn.Conv2d, nn.ConvTranspose2d, nn.LeakyReLU)
    assert found == {name for module, name in names.items() if isinstance(module, convs)}
    others = nn.Sequential(
        nn.Conv2d(1, 1, 3), nn.ReLU(),  # a bias that counts
        nn.Conv2d(1, 1, 3, padding="same"), nn.BatchNorm2d(1), nn.GELU(),
        nn.Conv2d(1, 1, 3, padding_mode="reflect", padding=1, bias=False), nn.LeakyReLU(),
        nn.Conv2d(2, 2, 3, groups=2, bias=False), nn.ConvTranspose2d(2, 2, 3, dilation=2),
        nn.ConvTranspose2d(2, 2, 3, bias=True), nn.BatchNorm2d(2),
    )  # fmt: skip
    assert not [*faster(others)]


@pytest.mark.parametrize("mode", [True, False])
def test_a_lent_model_computes_what_the_model_does(mode):
    torch.manual_seed(0)
    model = vb.conv_vae((3, 17, 20), latent_dim=3, width=4, residual=1).train(mode)
    x, found = torch.rand(5, 3, 17, 20), []
    for context in (torch.enable_grad(), lent(model)):
        with context:
            torch.manual_seed(1)
            loss = vb.NegativeELBO()(model, x).loss.mean()
            loss.backward()
        named = {n: p.grad for n, p in model.decoder.named_parameters()}
        found.append((loss, named))
        model.zero_grad()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_what_was_lent_is_taken_back_whatever_happens():
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4)
    with lent(model):
        assert len(forwards(model)) == 8 + 7
        assert repr(model).count("LeakyReLU(negative_slope=0.01)") == 7
    assert not forwards(model)
    with pytest.raises(KeyError), lent(model):
        raise KeyError
    assert not forwards(model)


def test_a_forward_of_somebody_elses_stays():
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4)
    own = model.encoder.body[0].forward = lambda x: torch.zeros(len(x), 4, 8, 8)
    with lent(model), lent(model):
        assert model.encoder.body[0].forward is own
    assert forwards(model) == ["encoder.body.0"]


def test_callbacks_and_validation_meet_a_plain_model_and_steps_a_lent_one():
    seen = []

    class Watch(vb.Listener):
        def on_start(self, run):
            seen.append(("start", len(forwards(run.model))))

        def on_step(self, run):
            seen.append(("step", len(forwards(run.model))))

        def on_epoch(self, run):
            seen.append(("epoch", len(forwards(run.model))))
            raise KeyboardInterrupt

    def objective(model, x):
        seen.append(("train" if model.training else "validation", len(forwards(model))))
        return vb.NegativeELBO()(model, x)

    model, x = vb.conv_vae((1, 16, 16), latent_dim=2, width=4), torch.rand(4, 1, 16, 16)
    vb.fit(model, x, epochs=3, validation=x, objective=objective, callbacks=[Watch()])
    assert seen == [("start", 0), ("train", 15), ("step", 15), ("validation", 0), ("epoch", 0)]
    assert not forwards(model)


def test_what_batch_norm_gave_is_not_overwritten_where_somebody_looks_at_it():
    block, kept = Residual(3), []
    block.body[0].register_forward_hook(lambda _, __, output: kept.append(output))
    x = torch.randn(4, 3, 5, 5)
    with lent(block):
        block(x)
    assert kept[0].min() < -0.5


def test_a_model_copied_while_it_is_lent_works():
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4).eval()
    x = torch.rand(2, 1, 16, 16)
    with lent(model):
        twin = copy.deepcopy(model)
    torch.nn.init.zeros_(model.decoder[-1].weight)
    assert twin.reconstruct(x).std() > model.reconstruct(x).std() == 0
