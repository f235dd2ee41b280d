"""The layers of the R original, counted and computed by hand."""

import json
import math
import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from torch import nn

import vaebook as vb
from vaebook.models.conv import upsampling_sizes
from vaebook.models.layered import stack
from vaebook.models.networks import Residual

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def layers(network, *kinds):
    return [module for module in network.modules() if isinstance(module, kinds)]


def with_running_statistics(model):
    """Give batch norm statistics and scales that differ from 0 and 1."""
    for norm in layers(model, nn.BatchNorm2d):
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.normal_()
        for tensor in (norm.running_var, norm.weight.data):
            tensor.uniform_(0.5, 2)
    return model.eval()


HALF = [dict(kind="conv", channels=2, norm=True, activation="relu"), dict(kind="residual")]
BACK = [
    dict(kind="dense", size=98, activation="gelu"), dict(kind="reshape", shape=[2, 7, 7]),
    dict(kind="transposed_conv", channels=1, kernel=10),
]  # fmt: skip
EVERY = {
    "conv": partial(vb.conv_vae, (1, 16, 16), 2, width=2, residual=2),
    "conv of 3 channels": partial(vb.conv_vae, (3, 28, 28), 2, width=5, likelihood="gaussian"),
    "dense": partial(vb.dense_vae, (1, 16, 16), 2, hidden=(5, 4)),
    "layered": partial(vb.layered_vae, (1, 16, 16), 2, encoder=HALF, decoder=BACK),
    "ladder": partial(vb.ladder_vae, (1, 16, 16), (3, 2), hidden=(5, 4)),
    "conditional": partial(vb.conditional_vae, (1, 16, 16), 2, classes=3, hidden=(5, 4)),
}
OURS = {
    "Bernoulli", "Block", "ConditionalVAE", "Encoder", "Gaussian", "LadderDecoder", "LadderEncoder",
    "LadderVAE", "Residual", "VAE",
}  # fmt: skip


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_a_reader_meets_the_layers_of_torch_and_nothing_else(name, trained):
    model = EVERY[name]()
    if trained:
        images = vb.as_images(torch.rand(6, *model.image_shape), torch.arange(6) % 3)
        vb.fit(model, images, epochs=1, batch_size=3, progress=False, device="cpu")
    for module in model.modules():
        kind = type(module)
        assert "forward" not in vars(module)
        assert not issubclass(kind, CONVOLUTIONS) or kind in CONVOLUTIONS
        assert kind.__name__ in OURS or kind is getattr(nn, kind.__name__)
    # ... and also in what is printed.
    lines = [line.strip() for line in repr(model).splitlines() if line.strip() != ")"]
    shown = {re.match(r"(?:\([\w-]+\): )?(?:\d+ x )?(\w+)\(", line)[1] for line in lines}
    assert len(lines) > 10
    assert {kind for kind in shown if not hasattr(nn, kind)} <= OURS
    _, *rows, last = str(model).splitlines()
    assert all(hasattr(nn, row.split()[1]) for row in rows)
    assert last.split()[0] == "all"


@pytest.mark.parametrize(("latent_dim", "expected"), [(128, 1_084_080), (2, 829_812)])
def test_conv_vae_has_the_parameters_of_the_r_original(latent_dim, expected):
    count = 0
    for into, out in pairwise([1, 28, 56, 112, 224]):
        count += into * out * 3 * 3 + out  # the convolution and its bias
        count += 2 * out  # scale and shift of the batch norm
    count += 2 * (896 * latent_dim + latent_dim)  # mean and log-variance
    count += latent_dim * 224 + 224
    for into, out in pairwise([224, 112, 56, 28]):
        count += into * out * 4 * 4 + 2 * out
    count += 28 * 1 * 4 * 4
    model = vb.conv_vae((1, 28, 28), latent_dim)
    assert count == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_conv_vae_has_the_layers_of_the_r_original():
    model = vb.conv_vae((1, 28, 28), latent_dim=128)
    found = [
        (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        for conv in layers(model, *CONVOLUTIONS)
    ]
    assert found == [
        (1, 28, (3, 3), (2, 2), (1, 1)),
        (28, 56, (3, 3), (2, 2), (1, 1)),
        (56, 112, (3, 3), (2, 2), (1, 1)),
        (112, 224, (3, 3), (2, 2), (1, 1)),
        (224, 112, (4, 4), (1, 1), (0, 0)),
        (112, 56, (4, 4), (2, 2), (1, 1)),
        (56, 28, (4, 4), (2, 2), (2, 2)),
        (28, 1, (4, 4), (2, 2), (1, 1)),
    ]
    assert all(conv.bias is not None for conv in layers(model, nn.Conv2d))
    for conv in layers(model, nn.ConvTranspose2d):
        assert conv.bias is None
        assert conv.output_padding == (0, 0)
    block = [nn.BatchNorm2d, nn.LeakyReLU]
    body, *heads = model.encoder.children()
    assert [type(layer) for layer in body] == [*[nn.Conv2d, *block] * 4, nn.Flatten]
    assert [type(head) for head in heads] == [nn.Linear, nn.Linear]
    assert [type(layer) for layer in model.decoder] == [
        nn.Linear, nn.Unflatten, *[nn.ConvTranspose2d, *block] * 3, nn.ConvTranspose2d,
    ]  # fmt: skip
    assert {layer.negative_slope for layer in layers(model, nn.LeakyReLU)} == {0.01}
    assert {(norm.eps, norm.momentum) for norm in layers(model, nn.BatchNorm2d)} == {(1e-5, 0.1)}
    assert [(layer.in_features, layer.out_features) for layer in layers(model, nn.Linear)] == [
        (896, 128), (896, 128), (128, 224),
    ]  # fmt: skip


def test_conv_vae_has_the_feature_maps_of_the_r_original():
    model = vb.conv_vae((1, 28, 28), latent_dim=2)
    maps = []
    for conv in layers(model, *CONVOLUTIONS):
        conv.register_forward_hook(lambda _, __, output: maps.append(tuple(output.shape[1:])))
    model(torch.rand(2, 1, 28, 28))
    assert maps == [
        (28, 14, 14), (56, 7, 7), (112, 4, 4), (224, 2, 2),
        (112, 4, 4), (56, 8, 8), (28, 14, 14), (1, 28, 28),
    ]  # fmt: skip


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(16, 128), st.integers(16, 128), st.integers(1, 3))
def test_images_of_any_size_come_back_in_that_size(channels, height, width, latent_dim):
    shape = (channels, height, width)
    model = vb.conv_vae(shape, latent_dim, width=2)
    output = model(torch.rand(2, *shape))
    assert output.params.shape == (2, *shape)
    assert output.mean.shape == output.log_var.shape == output.z.shape == (2, latent_dim)
    *transposed, last = layers(model.decoder, nn.ConvTranspose2d)
    assert [conv.out_channels for conv in (*transposed, last)] == [8, 4, 2, channels]
    assert all(max(conv.output_padding) < 2 for conv in (*transposed, last))


@given(st.integers(16, 128))
def test_the_decoder_grows_by_three_and_then_about_doubles(side):
    base, *sizes = upsampling_sizes(side)
    assert sizes[-1] == side
    assert base >= 1
    assert sizes[0] - base in (1, 3)
    assert all(into < out <= 2 * into for into, out in pairwise(sizes))


def batch_norm(x, norm):
    mean, var, scale, shift = (
        tensor[:, None, None]
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def leaky_relu(x):
    return torch.where(x > 0, x, 0.01 * x)


def linear(x, layer):
    return x @ layer.weight.T + layer.bias


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 22)])
def test_encoder_by_hand(shape):
    model = with_running_statistics(vb.conv_vae(shape, latent_dim=3, width=4))
    x = torch.rand(5, *shape)
    h = x
    convolutions, norms = layers(model.encoder, nn.Conv2d), layers(model.encoder, nn.BatchNorm2d)
    for conv, norm in zip(convolutions, norms, strict=True):
        size = [-(-side // 2) for side in h.shape[2:]]
        patches = F.unfold(h, 3, padding=1, stride=2)
        h = (conv.weight.flatten(1) @ patches + conv.bias[:, None]).unflatten(2, size)
        h = leaky_relu(batch_norm(h, norm))
    expected = [linear(h.flatten(1), head) for head in layers(model.encoder, nn.Linear)]
    torch.testing.assert_close(list(model.encode(x)), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 64, 16)])
def test_decoder_by_hand(shape):
    model = with_running_statistics(vb.conv_vae(shape, latent_dim=3, width=4))
    z = torch.randn(5, 3)
    heights, widths = (upsampling_sizes(side) for side in shape[1:])
    h = linear(z, layers(model.decoder, nn.Linear)[0]).unflatten(1, (32, heights[0], widths[0]))
    norms = [*layers(model.decoder, nn.BatchNorm2d), None]
    for i, (conv, norm) in enumerate(
        zip(layers(model.decoder, nn.ConvTranspose2d), norms, strict=True)
    ):
        # Each pixel is spread over 4×4 pixels, and the edges are cut away.
        patches = conv.weight.flatten(1).T @ h.flatten(2)
        size = (heights[i + 1], widths[i + 1])
        h = F.fold(patches, size, 4, padding=conv.padding, stride=1 if i == 0 else 2)
        h = h if norm is None else leaky_relu(batch_norm(h, norm))
    torch.testing.assert_close(model.decode(z), h, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 22)])
def test_residual_blocks_by_hand(shape):
    model = with_running_statistics(vb.conv_vae(shape, latent_dim=3, width=4, residual=2))
    blocks = layers(model, Residual)
    assert [block.body[0].num_features for block in blocks] == [
        *(4, 4, 8, 8, 16, 16, 32, 32), *(16, 16, 8, 8, 4, 4)
    ]  # fmt: skip
    for block in blocks:
        x = torch.randn(2, block.body[0].num_features, 5, 4)
        h = x
        both = layers(block, nn.BatchNorm2d), layers(block, nn.Conv2d)
        for norm, conv in zip(*both, strict=True):
            patches = F.unfold(leaky_relu(batch_norm(h, norm)), 3, padding=1)
            h = (conv.weight.flatten(1) @ patches).unflatten(2, (5, 4))
        torch.testing.assert_close(block(x), x + h, rtol=1e-4, atol=1e-5)
    for conv in [layers(block, nn.Conv2d)[-1] for block in blocks]:
        conv.weight.zero_()
    plain = vb.conv_vae(shape, latent_dim=3, width=4).eval()
    inside = tuple(f"{name}." for name, part in model.named_modules() if part in blocks)
    own = [part for name, part in model.state_dict().items() if not name.startswith(inside)]
    plain.load_state_dict(dict(zip(plain.state_dict(), own, strict=True)))
    x = torch.rand(2, *shape)
    torch.testing.assert_close(plain.encode(x), model.encode(x))
    z = torch.randn(2, 3)
    torch.testing.assert_close(plain.decode(z), model.decode(z))


NUMPY = {
    "relu": lambda a: np.maximum(a, 0),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "softplus": lambda a: np.logaddexp(0, a),
    "tanh": np.tanh,
}


@torch.no_grad()
@pytest.mark.parametrize("activation", NUMPY)
def test_dense_networks_by_hand(activation):
    model = vb.dense_vae((2, 3, 5), latent_dim=4, hidden=(7, 6), activation=activation)
    sizes = [(30, 7), (7, 6), (6, 4), (6, 4), (4, 6), (6, 7), (7, 30)]
    found = layers(model, nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in found] == sizes
    maps = [(layer.weight.double().numpy().T, layer.bias.double().numpy()) for layer in found]
    act = NUMPY[activation]
    x = np.random.default_rng(0).random((5, 2, 3, 5))
    h = x.reshape(5, 30)
    for weight, bias in maps[:2]:
        h = act(h @ weight + bias)
    mean, log_var = (h @ weight + bias for weight, bias in maps[2:4])
    got = model.encode(torch.from_numpy(x).float())
    np.testing.assert_allclose(got[0], mean, atol=1e-5)
    np.testing.assert_allclose(got[1], log_var, atol=1e-5)
    h = mean
    for weight, bias in maps[4:6]:
        h = act(h @ weight + bias)
    weight, bias = maps[6]
    logits = (h @ weight + bias).reshape(5, 2, 3, 5)
    np.testing.assert_allclose(model.decode(got[0]), logits, atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(torch.from_numpy(x).float()), expit(logits), atol=1e-5
    )


def test_the_dense_vae_of_the_literature_has_its_parameters():
    # 784-500-500-(20, 20) and 20-500-500-784, as in source C and Kingma & Welling's kind
    into = [784, 500, 500, 500, 20, 500, 500]
    out = [500, 500, 20, 20, 500, 500, 784]
    count = sum(a * b + b for a, b in zip(into, out, strict=True))
    model = vb.dense_vae((1, 28, 28), latent_dim=20)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(layers(model, nn.Softplus)) == 4


CONV = st.fixed_dictionaries(
    {"kind": st.just("conv"), "channels": st.integers(1, 5), "kernel": st.integers(1, 4)},
    optional={
        "stride": st.integers(1, 3), "padding": st.integers(0, 3), "norm": st.booleans(),
        "bias": st.booleans(), "activation": st.sampled_from(["relu", "softplus", None]),
    },
)  # fmt: skip
TRANSPOSED = CONV.map(lambda layer: layer | {"kind": "transposed_conv"})
POOL = st.builds(dict, kind=st.just("pool"), size=st.integers(1, 3))
DENSE = st.builds(dict, kind=st.just("dense"), size=st.integers(1, 9))
LAYERS = st.lists(CONV | TRANSPOSED | POOL, max_size=4)


def leaves(layer, channels, *sides):
    """Return by arithmetic what shape leaves a layer of maps."""
    if layer["kind"] == "pool":
        return channels, *(side // layer["size"] for side in sides)
    kernel, stride, padding = layer["kernel"], layer.get("stride", 1), layer.get("padding", 0)
    if layer["kind"] == "conv":
        grown = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
    else:
        grown = ((side - 1) * stride - 2 * padding + kernel for side in sides)
    return layer["channels"], *grown


@given(LAYERS, st.lists(DENSE, max_size=2), *(st.integers(1, most) for most in (3, 12, 12)))
def test_the_shape_that_leaves_is_the_one_of_arithmetic(maps, dense, channels, height, width):
    shape = (channels, height, width)
    expected, place = shape, None
    for i, layer in enumerate(maps):
        expected = leaves(layer, *expected)
        if min(expected) < 1:
            place = f"encoder[{i}]"
            break
    if place is not None:
        with pytest.raises(ValueError, match=rf"^{re.escape(place)}: expected channels × height"):
            stack("encoder", [*maps, *dense], shape)
        return
    modules, planned = stack("encoder", [*maps, *dense], shape)
    assert planned == ((dense[-1]["size"],) if dense else expected)
    assert modules(torch.rand(2, *shape)).shape == (2, *planned)
    assert all(module.training for module in modules.modules())
    for norm in layers(modules, nn.BatchNorm2d):
        assert norm.num_batches_tracked == 1  # by the pass above: none when it was built


def down(*channels, residual=0):
    """Describe the encoder of `conv_vae`."""
    layer = dict(kind="conv", kernel=3, stride=2, padding=1, norm=True, activation="leaky_relu")
    blocks = [dict(kind="residual")] * residual
    return [part for n in channels for part in (layer | {"channels": n}, *blocks)]


def up(first, *plan, residual=0):
    """Describe the decoder of `conv_vae`: from maps of a size, channels and paddings by layer."""
    found = [dict(kind="dense", size=math.prod(first)), dict(kind="reshape", shape=first)]
    for i, (channels, padding, extra) in enumerate(plan):
        layer = dict(kind="transposed_conv", stride=2 if i else 1, channels=channels, bias=False)
        found.append(layer | {"padding": padding, "output_padding": extra})
        if i < len(plan) - 1:
            found[-1] |= {"norm": True, "activation": "leaky_relu"}
            found += [dict(kind="residual")] * residual
    return found


def dense(*sizes):
    return [dict(kind="dense", size=size, activation="softplus") for size in sizes]


DIGITS = [(16, 0, 0), (8, 1, 0), (4, 2, 0), (1, 1, 0)]
# 17 pixels by way of 1, 4, 6 and 10; 22 by way of 1, 4, 6 and 12.
ODD = [(16, [0, 0], 0), (8, 2, [0, 0]), (4, [2, 1], 0), (3, [3, 2], [1, 0])]


WIDTHS = (4, 8, 16, 32)
LAST = [dict(kind="dense", size=3 * 17 * 22), dict(kind="reshape", shape=[3, 17, 22])]
BUILT_IN = [
    (partial(vb.conv_vae, width=4), (1, 28, 28), down(*WIDTHS), up([32, 1, 1], *DIGITS)),
    (partial(vb.conv_vae, width=4), (3, 17, 22), down(*WIDTHS), up([32, 1, 1], *ODD)),
    (
        partial(vb.conv_vae, width=4, residual=2), (1, 28, 28),
        down(*WIDTHS, residual=2), up([32, 1, 1], *DIGITS, residual=2),
    ),
    (partial(vb.dense_vae, hidden=(7, 5)), (3, 17, 22), dense(7, 5), [*dense(5, 7), *LAST]),
]  # fmt: skip


@pytest.mark.parametrize(("built_in", "shape", "encoder", "decoder"), BUILT_IN)
def test_a_built_in_model_is_its_list_of_layers_also_from_json(
    built_in, shape, encoder, decoder, tmp_path
):
    torch.manual_seed(0)
    expected = built_in(shape, 3)
    torch.manual_seed(0)
    encoder, decoder = json.loads(json.dumps([encoder, decoder]))
    model = vb.layered_vae(shape, 3, encoder=encoder, decoder=decoder)
    vb.save(model, tmp_path / "model")
    loaded = vb.load_model(tmp_path / "model")
    assert (loaded.config["encoder"], loaded.config["decoder"]) == (encoder, decoder)
    assert loaded.config == model.config
    for other in (model, loaded):
        assert repr(other.train()) == repr(expected)
        torch.testing.assert_close(other.state_dict(), expected.state_dict(), rtol=0, atol=0)


SMALL = [dict(kind="dense", size=784), dict(kind="reshape", shape=[1, 28, 28])]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("place", "layers", "wanted", "given"),
    [
        ("encoder[0]", [{"kind": "cnv"}], "a dict whose kind is one of dense, conv", "cnv"),
        ("encoder[0]", [{}], "a dict whose kind", "{}"),
        ("encoder[1]", [SMALL[0], "conv"], "a dict whose kind", "'conv'"),
        ("encoder[0]", [{"kind": ["conv"]}], "a dict whose kind", "['conv']"),
        ("encoder[0]", [dict(kind="conv")], "a conv layer by channels, kernel, stride", "conv"),
        ("encoder[0]", [dict(kind="dense", sizes=3)], "a dense layer by size, bias", "sizes"),
        ("encoder[0]", [dict(kind="dense", size=3, shape=[1, 1, 3])], "a dense layer", "shape"),
        ("encoder[0]", [dict(kind="pool", activation="rlu")], "one of relu, leaky_relu", "rlu"),
        ("encoder[0]", [dict(kind="residual", size=3)], "a residual layer by activation", "size"),
        ("encoder[1]", [SMALL[0], dict(kind="residual")], "channels × height", "784 features"),
        ("encoder[0]", [dict(kind="dense", size=0)], "a positive whole number as its size", "0"),
        ("encoder[0]", [dict(kind="dense", size=2.0)], "a positive whole number", "2.0"),
        ("encoder[0]", [dict(kind="conv", channels=2, norm=1)], "true or false as its norm", "1"),
        ("encoder[0]", [dict(kind="conv", channels=2, padding=-1)], "a whole number, or", "-1"),
        ("encoder[0]", [dict(kind="conv", channels=2, padding=[1])], "a whole number", "[1]"),
        ("encoder[0]", [dict(kind="reshape", shape=[784])], "[channels, height, width]", "[784]"),
        ("encoder[0]", [SMALL[1]], "features that suit", "1×28×28 (1×28×28 has 784 features)"),
        ("encoder[1]", [SMALL[0], dict(kind="pool")], "channels × height × width", "784 features"),
        ("encoder[0]", [dict(kind="conv", channels=2, kernel=29)], "'kernel': 29", "1×28×28 ("),
        (
            "encoder[0]",
            [dict(kind="transposed_conv", channels=2, output_padding=1)],
            "that suit {'kind': 'transposed_conv', 'channels': 2, 'output_padding': 1}",
            "1×28×28 (output padding must be smaller",
        ),
        ("decoder[0]", [SMALL[1]], "features that suit", "2 features (1×28×28 has 784 features)"),
        ("encoder[0]", [dict(kind="dense", size=10**15)], "'size': 1000000000000000", "1×28×28 ("),
        ("encoder[0]", [{"kind": "pool", 3: 4}], "a pool layer by size", "3: 4"),
        ("decoder", SMALL[:1], "to end in 1×28×28", "784 features"),
        ("decoder", [], "to end in 1×28×28", "2 features"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(place, layers, wanted, given):
    part = place[:7]
    lists = {"encoder": SMALL[:1], "decoder": SMALL} | {part: layers}
    with pytest.raises(ValueError, match=f"^{re.escape(place)}: expected ") as error:
        vb.layered_vae((1, 28, 28), 2, **lists)
    expected, _, got = str(error.value).partition(", got ")
    assert wanted in expected
    assert given in got
    assert "\n" not in str(error.value)
