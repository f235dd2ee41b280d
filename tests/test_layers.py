"""The table of a model's layers."""

import math

import pytest
import torch
from torch import nn

import vaebook as vb
from vaebook.models.summary import Layer

MODELS = {
    "conv": vb.conv_vae((1, 28, 28), latent_dim=3, width=4),
    "dense": vb.dense_vae((3, 5, 7), latent_dim=2, hidden=(6, 4)),
    "gaussian": vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(6,), likelihood="gaussian"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_every_parameter_once(name):
    model = MODELS[name]
    summary = vb.summary(model)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert summary.parameters == sum(layer.parameters for layer in summary.layers) == counted
    *lines, last = str(summary).splitlines()
    assert last.split() == ["all", f"{counted:,}"]
    assert len(lines) == len(summary.layers) + 1
    assert len({len(line) for line in [*lines, last]}) == 1


def test_shapes_are_those_of_a_pass():
    model = MODELS["conv"]
    outputs = [layer.output for layer in vb.summary(model).layers if layer.part == "decoder"]
    h, expected = torch.zeros(1, 3), []
    for module in model.decoder.eval():
        h = module(h)
        expected.append(tuple(h.shape[1:]))
    assert outputs == expected
    assert math.prod(outputs[-1]) == 784


def test_print_shows_the_table_and_leaves_the_model_as_it_was():
    model = vb.conv_vae((1, 28, 28), latent_dim=3, width=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert str(model) == repr(vb.summary(model))
    assert repr(model).startswith("VAE(\n  (encoder): Encoder(")
    assert model.training
    torch.testing.assert_close(model.state_dict(), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_of_ones_own_has_its_name():
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(6,))
    model.decoder.append(Twice())
    assert vb.summary(model).layers[-1] == Layer("decoder", "Twice", (1, 4, 4), 0)
