"""A model trained with the R original's code comes to the same in PyTorch, by the appendix."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vaebook as vb

# As written for R: field, number in its nn_sequential, kind of layer, sizes.
ENCODER = [(1, 28), (28, 56), (56, 112), (112, 224)]
DECODER = [(224, 112, 1, 0), (112, 56, 2, 1), (56, 28, 2, 2)]
CARRY = Path(__file__).parents[1] / "book" / "r" / "concordance_carry.R"


def shapes(latent_dim):
    """Return the names and shapes of the original's state dict, in R's order of its fields."""
    found = {}
    for head in ("latent_mean", "latent_log_var"):
        found |= {f"{head}.weight": (latent_dim, 896), f"{head}.bias": (latent_dim,)}

    def norm(name, channels):
        vectors = ("weight", "bias", "running_mean", "running_var")
        # R has no numbers without a dimension: the counter is a vector of one.
        return {f"{name}.{part}": (channels,) for part in vectors} | {
            f"{name}.num_batches_tracked": (1,)
        }

    for place, (into, out) in enumerate(ENCODER):
        conv = f"encoder.{3 * place}"
        found |= {f"{conv}.weight": (out, into, 3, 3), f"{conv}.bias": (out,)}
        found |= norm(f"encoder.{3 * place + 1}", out)
    found |= {"decoder.0.weight": (224, latent_dim), "decoder.0.bias": (224,)}
    for place, (into, out, _, _) in enumerate(DECODER):
        found |= {f"decoder.{3 * place + 2}.weight": (into, out, 4, 4)}
        found |= norm(f"decoder.{3 * place + 3}", out)
    return found | {"decoder.11.weight": (28, 1, 4, 4)}


def weights(latent_dim):
    """Return weights that a training might leave: none is at its start, and variances are > 0."""
    torch.manual_seed(5)
    made = {}
    for name, shape in shapes(latent_dim).items():
        if name.endswith("num_batches_tracked"):
            made[name] = torch.full(shape, 1407)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            made[name] = 0.5 + torch.rand(shape)
        else:
            fan = max(1, torch.Size(shape[1:]).numel())
            made[name] = torch.randn(shape) / fan**0.5
    return made


class Original:
    """The R original in functions, with its slips; it never sees the package."""

    def __init__(self, weights):
        self.weights = weights

    def layer(self, name):
        return [self.weights.get(f"{name}.{part}") for part in ("weight", "bias")]

    def norm(self, x, name):
        mean, variance = (self.weights[f"{name}.running_{part}"] for part in ("mean", "var"))
        return F.leaky_relu(F.batch_norm(x, mean, variance, *self.layer(name)), 0.01)

    def encode(self, stored):
        x = stored.float() / 256
        for place in range(len(ENCODER)):
            x = F.conv2d(x, *self.layer(f"encoder.{3 * place}"), stride=2, padding=1)
            x = self.norm(x, f"encoder.{3 * place + 1}")
        x = x.flatten(1)
        return F.linear(x, *self.layer("latent_mean")), F.linear(x, *self.layer("latent_log_var"))

    def reparameterize(self, mean, log_var):
        return mean + 0.5 * log_var * torch.randn_like(mean)

    def decode(self, z):
        x = F.linear(z, *self.layer("decoder.0")).view(-1, 224, 1, 1)
        for place, (_, _, stride, padding) in enumerate(DECODER):
            weight = self.layer(f"decoder.{3 * place + 2}")[0]
            x = F.conv_transpose2d(x, weight, stride=stride, padding=padding)
            x = self.norm(x, f"decoder.{3 * place + 3}")
        weight = self.weights["decoder.11.weight"]
        return F.conv_transpose2d(x, weight, stride=2, padding=1).sigmoid()


def write_as_r(tensors, path):
    """Write a safetensors file as R's package does: in the list's order, with nothing padded."""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, position = {}, 0
    for name, tensor in tensors.items():
        end = position + tensor.numel() * tensor.element_size()
        kind, shape = kinds[tensor.dtype], list(tensor.shape)
        header[name] = {"shape": shape, "dtype": kind, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    data = b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
    path.write_bytes(struct.pack("<q", len(text)) + text + data)


@pytest.fixture(scope="module")
def weights_from_r(definitions):
    return definitions("from-r-torch-to-pytorch")["weights_from_r"]


@pytest.fixture(params=[2, 128])
def pair(request, tmp_path, weights_from_r):
    """Return the original with some weights, and `conv_vae` with what was read of its file."""
    theirs = weights(request.param)
    write_as_r(theirs, tmp_path / "r-vae.safetensors")
    model = vb.conv_vae((1, 28, 28), latent_dim=request.param)
    model.load_state_dict(weights_from_r(tmp_path / "r-vae.safetensors"))
    return Original(theirs), model.eval()


@pytest.fixture
def stored():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (6, 1, 28, 28), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_the_same_bytes_give_the_same_posteriors_and_pictures(pair, stored):
    original, model = pair
    theirs, ours = original.encode(stored), model.encode(stored / 256)
    for wanted, found in zip(theirs, ours, strict=True):
        assert wanted.std() > 0.1
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    z = torch.randn(6, model.latent_dim)
    pictures = original.decode(z)
    assert pictures.std() > 0.05
    torch.testing.assert_close(model.likelihood.mean(model.decode(z)), pictures, rtol=0, atol=1e-5)


@torch.no_grad()
def test_pixels_on_another_scale_give_another_posterior(pair, stored):
    original, model = pair
    wanted = original.encode(stored)[0]
    right, wrong = (model.encode(stored / divisor)[0] for divisor in (256, 255))
    assert (wrong - wanted).abs().max() > 20 * (right - wanted).abs().max()
    scaled = model.encode(stored / 255 * (255 / 256))[0]  # what the page advises
    torch.testing.assert_close(scaled, wanted, rtol=1e-4, atol=1e-4)


def test_draws_differ_by_the_exponential_alone(pair, stored):
    original, model = pair
    mean, log_var = original.encode(stored)
    torch.manual_seed(3)
    theirs = original.reparameterize(mean, log_var)
    torch.manual_seed(3)
    ours = model.reparameterize(mean, log_var)
    assert not torch.allclose(ours, theirs, atol=0.1)
    noise = (ours - mean) / torch.exp(0.5 * log_var)
    torch.testing.assert_close(mean + 0.5 * log_var * noise, theirs, rtol=1e-4, atol=1e-4)


def test_every_weight_is_carried_and_none_is_left_as_it_was(tmp_path, weights_from_r):
    path = tmp_path / "r-vae.safetensors"
    write_as_r(weights(2), path)
    carried = weights_from_r(path)
    assert set(carried) == set(vb.conv_vae((1, 28, 28), latent_dim=2).state_dict())


@pytest.mark.parametrize("name", ["latent_mean.bias", "encoder.9.weight", "decoder.11.weight"])
def test_a_file_that_lacks_a_weight_is_not_loaded_in_silence(tmp_path, weights_from_r, name):
    path = tmp_path / "r-vae.safetensors"
    write_as_r({key: w for key, w in weights(2).items() if key != name}, path)
    model = vb.conv_vae((1, 28, 28), latent_dim=2)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(weights_from_r(path))


@torch.no_grad()
def test_the_pages_stand_in_has_the_originals_names_and_outputs(definitions, stored):
    draft = definitions("from-r-torch-to-pytorch")["Draft"](2)
    theirs = weights(2)
    named = {name: tuple(w.shape) for name, w in draft.state_dict().items()}
    counters = {name for name in named if name.endswith("num_batches_tracked")}
    assert {**named, **dict.fromkeys(counters, (1,))} == shapes(2)
    assert list(named) == list(theirs)
    draft.load_state_dict(theirs)
    draft.eval()
    original = Original(theirs)
    mean, _ = original.encode(stored)
    torch.testing.assert_close(draft.encode(stored / 256)[0], mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draft.decoder(mean), original.decode(mean), rtol=0, atol=1e-5)
    assert isinstance(draft, nn.Module)


def test_the_r_lines_call_what_the_r_package_has():
    called = set(re.findall(r"([\w.]+)\(", CARRY.read_text(encoding="utf-8")))
    assert {"safe_save_file", "state_dict", "eval"} <= called
