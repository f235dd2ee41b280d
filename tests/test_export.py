"""Exported models give in another runtime what they give in PyTorch."""

import builtins
import os

import numpy as np
import pytest
import torch

import vaebook as vb
from vaebook.export import export_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MODELS = {
    "conv": lambda: vb.conv_vae((1, 28, 28), latent_dim=5, width=4),
    "conv, colours": lambda: vb.conv_vae((3, 17, 20), 3, width=2, likelihood="gaussian"),
    "dense": lambda: vb.dense_vae(
        (1, 9, 12), latent_dim=2, hidden=(20, 10), likelihood="continuous_bernoulli"
    ),
}
RETURNS = {
    "encoder": ["mean", "log_var"], "decoder": ["pixels"], "reconstructor": ["reconstruction"]
}  # fmt: skip

# The exporter follows a model with sizes that are not yet known, which cannot be compared.
pytestmark = pytest.mark.usefixtures("unchecked")


def run(path, x):
    """Run a file in onnxruntime and return what it gives by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()
    outputs = session.run(names, {given.name: x.numpy()})
    return given.name, dict(zip(names, outputs, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("kind", MODELS)
def test_another_runtime_gives_the_same(kind, tmp_path, capfd):
    torch.manual_seed(0)
    model = MODELS[kind]()
    for _ in range(20):
        model(torch.rand(30, *model.image_shape))  # moves the running statistics of batch norm
    paths = export_onnx(model, tmp_path / "new" / "folder")
    assert model.training  # was left as it was
    assert capfd.readouterr() == ("", "")
    assert {name: path.name for name, path in paths.items()} == {n: f"{n}.onnx" for n in RETURNS}
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == [f"{n}.onnx" for n in sorted(RETURNS)]
    model.eval()
    for count in (1, 7, 1000):
        images = torch.rand(count, *model.image_shape)
        codes = 2 * torch.randn(count, model.latent_dim)
        mean, log_var = model.encode(images)
        expected = {
            "encoder": ("images", images, {"mean": mean, "log_var": log_var}),
            "decoder": ("codes", codes, {"pixels": model.likelihood.mean(model.decode(codes))}),
            "reconstructor": ("images", images, {"reconstruction": model.reconstruct(images)}),
        }
        for name, (takes, given, outputs) in expected.items():
            input_name, found = run(paths[name], given)
            assert input_name == takes
            assert list(found) == RETURNS[name]
            for output, value in outputs.items():
                np.testing.assert_allclose(found[output], value.numpy(), rtol=0, atol=1e-4)
    pixels = found["reconstruction"]
    assert pixels.shape == (1000, *model.image_shape)
    assert pixels.dtype == np.float32
    assert 0 <= pixels.min() < pixels.max() <= 1


@torch.no_grad()
def test_a_ladder_is_reconstructed_by_the_means_of_all_its_levels(tmp_path):
    torch.manual_seed(0)
    model = vb.ladder_vae((1, 6, 8), (4, 3, 2), hidden=(12, 10, 8))
    for network in model.decoder.networks:
        network[1].weight.mul_(5)  # so that draws of the lower levels would show
    for _ in range(20):
        model(torch.rand(30, 1, 6, 8))
    paths = export_onnx(model.eval(), tmp_path)
    for count in (1, 50):
        images = torch.rand(count, 1, 6, 8)
        _, found = run(paths["reconstructor"], images)
        expected = model.reconstruct(images)
        np.testing.assert_allclose(found["reconstruction"], expected, rtol=0, atol=1e-5)
        _, again = run(paths["reconstructor"], images)
        np.testing.assert_array_equal(found["reconstruction"], again["reconstruction"])
        _, codes = run(paths["encoder"], images)
        np.testing.assert_allclose(codes["mean"], model.encode(images)[0], rtol=0, atol=1e-5)
    _, drawn = run(paths["decoder"], torch.zeros(7, 2))
    assert drawn["pixels"].shape == (7, 1, 6, 8)
    assert np.ptp(drawn["pixels"], axis=0).max() > 0.1  # one code, another image each time


@pytest.mark.slow
@torch.no_grad()
def test_layers_of_ones_own_can_be_exported(tmp_path):
    torch.manual_seed(0)
    block = {"kernel": 3, "padding": 1, "activation": "gelu"}
    down = [{"kind": "conv", "channels": 4, **block}, {"kind": "pool"}]
    up = [{"kind": "dense", "size": 48}, {"kind": "reshape", "shape": [4, 3, 4]}]
    up.append({"kind": "transposed_conv", "channels": 1, "kernel": 2, "stride": 2})
    networks = {"encoder": down, "decoder": up}
    model = vb.layered_vae((1, 6, 8), 16, **networks, likelihood="discretized_logistic").eval()
    codes = torch.randn(1000, 16)
    _, found = run(export_onnx(model, tmp_path)["decoder"], codes)
    expected = model.likelihood.mean(model.decode(codes))
    np.testing.assert_allclose(found["pixels"], expected.numpy(), rtol=0, atol=1e-4)


def test_an_export_that_fails_leaves_nothing_and_keeps_the_old_files(tmp_path):
    (tmp_path / "decoder.onnx").write_text("old")
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(3,))
    model.decoder.append(Unexportable())
    with pytest.raises(Exception, match=r"."):
        export_onnx(model, tmp_path)
    assert os.listdir(tmp_path) == ["decoder.onnx"]
    assert (tmp_path / "decoder.onnx").read_text() == "old"


class Unexportable(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("not with me")


def test_without_the_exporters_packages_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(3,))
    with pytest.raises(ImportError, match=r"No module named 'onnx'; pip install 'vaebook\[onnx\]'"):
        export_onnx(model, tmp_path / "none")
    assert not (tmp_path / "none").exists()
